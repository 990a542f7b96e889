// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/search/baselines.hpp>
#include <quern/search/checkpoint.hpp>
#include <quern/search/share.hpp>
#include <search/toy.hpp>

using namespace quern;
using quern_test::drop_space;
using quern_test::linear_fitness;
using quern_test::random_linear;

namespace {

genome optimum(const linear_fitness& f, std::size_t k) {
  std::vector<std::size_t> order(f.weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return f.weights[a] < f.weights[b]; });
  genome best(f.weights.size(), 1);
  for (std::size_t i = 0; i < k; ++i) best[order[i]] = 0;
  return best;
}

/// Generations until the optimum of a random linear fitness is the parent.
double generations_to_optimum(std::size_t n, std::size_t k, std::size_t lambda, std::uint64_t seed) {
  rng random(seed);
  const linear_fitness f = random_linear(n, random);
  const genome best = optimum(f, k);
  const search_space s = drop_space(n, k);
  const evolve_options o{.generations = 100000,
                         .offspring = lambda,
                         .stages = {{1, 1}},
                         .initial = 1,
                         .initial_samples = 1,
                         .seed = seed};
  evolve_state state = evolve_start(s, o).value();
  const bool finished =
      evolve(s, o, state, f, [&](const evolve_state& now) { return now.parents[0].levels != best; }).value();
  REQUIRE_FALSE(finished);
  return static_cast<double>(state.generation);
}

/// Linear fitness behind noise that depends on the minibatch and the candidate.
struct noisy_fitness {
  linear_fitness f;
  double noise;
  void operator()(std::span<const genome> c, minibatch b, std::span<double> out) const {
    for (std::size_t i = 0; i < c.size(); ++i) {
      std::uint64_t h = b.seed;
      for (const std::uint16_t l : c[i]) h = (h ^ l) * 0x100000001b3u;
      rng random(h);
      out[i] = f.of(c[i]) +
               noise / std::sqrt(static_cast<double>(b.samples)) * static_cast<double>(random.normal());
    }
  }
};

}  // namespace

TEST_CASE("on random linear fitness the mean generations to the optimum grow as k (n - k) / lambda") {
  // EvoPress, theorem 1. One constant for all six settings, each within a factor 2 of it: largest ratio over smallest
  // at most 4. The mean of 50 runs is within about 10 % of its expectation (runs differ by some 60 %).
  double least = 1e300, most = 0;
  for (const std::size_t k : {8, 16, 32})
    for (const std::size_t lambda : {4, 16}) {
      double sum = 0;
      for (std::uint64_t seed = 1; seed <= 50; ++seed) sum += generations_to_optimum(64, k, lambda, seed);
      const double ratio = sum / 50 * static_cast<double>(lambda) / static_cast<double>(k * (64 - k));
      MESSAGE("k " << k << " lambda " << lambda << ": " << sum / 50 << " generations, ratio " << ratio);
      least = std::min(least, ratio);
      most = std::max(most, ratio);
    }
  CHECK(most / least <= 4);
}

TEST_CASE("racing: survivors, shared minibatches, elitism and ties") {
  const search_space s = drop_space(6, 3);
  const std::vector<genome> all = all_genomes(s, 100).value();
  REQUIRE(all.size() == 20);
  linear_fitness f{{1, 2, 3, 4, 5, 6}};
  struct call {
    std::size_t candidates, samples;
    std::uint64_t seed;
  };
  std::vector<call> calls;
  const auto watch = [&](std::span<const genome> c, minibatch b, std::span<double> out) {
    calls.push_back({c.size(), b.samples, b.seed});
    f(c, b, out);
  };
  const std::vector<genome> parents{optimum(f, 3)};
  std::vector<genome> others;
  for (const genome& g : all)
    if (g != parents[0]) others.push_back(g);
  rng random(5);
  evaluation_counts counts;
  const std::vector<stage> stages{{8, 10}, {2, 20}, {1, 30}};
  const auto left = race(others, parents, stages, watch, random, counts).value();
  REQUIRE(left.size() == 1);
  CHECK(left[0].levels == parents[0]);
  CHECK(left[0].fitness == 6);
  REQUIRE(calls.size() == 3);
  CHECK(calls[0].candidates == 19);
  CHECK(calls[1].candidates == 8);
  CHECK(calls[2].candidates == 3);  // two survivors and the parent
  CHECK(calls[2].samples == 30);
  CHECK(calls[0].seed != calls[1].seed);
  CHECK(counts.candidates == 30);
  CHECK(counts.samples == 190 + 160 + 90);
  // Equal survivors in all stages: the parent joins every one of them.
  calls.clear();
  const std::vector<stage> fast{{1, 10}, {1, 20}};
  race(others, parents, fast, watch, random, counts).value();
  CHECK(calls[0].candidates == 20);
  // Equal fitness: the first stays.
  f.weights.assign(6, 1.0);
  CHECK(race(others, {}, fast, watch, random, counts).value()[0].levels == others[0]);
}

TEST_CASE("a candidate that cannot be measured loses; if none can, that is an error") {
  const search_space s = drop_space(4, 1);
  evaluation_counts counts;
  rng random(1);
  const std::vector<stage> stages{{2, 1}, {1, 1}};
  const auto nan_for_first = [](std::span<const genome> c, minibatch, std::span<double> f) {
    for (std::size_t i = 0; i < c.size(); ++i)
      f[i] = c[i][0] == 0 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(c[i][1]);
  };
  const auto best = race(all_genomes(s, 9).value(), {}, stages, nan_for_first, random, counts).value();
  CHECK(best[0].levels == genome{1, 0, 1, 1});
  CHECK(counts.invalid == 1);
  const auto never = [](std::span<const genome> c, minibatch, std::span<double> f) {
    for (std::size_t i = 0; i < c.size(); ++i) f[i] = std::numeric_limits<double>::quiet_NaN();
  };
  CHECK_FALSE(race(all_genomes(s, 9).value(), {}, stages, never, random, counts));
}

TEST_CASE("no child is evaluated twice in a generation, none equals the parent") {
  const search_space s = drop_space(12, 4);
  rng random(3);
  const std::vector<genome> parents{random_genome(s, random)};
  const evolve_options o{.offspring = 30};
  for (int i = 0; i < 50; ++i) {
    std::vector<genome> children = breed(s, o, parents, random);
    REQUIRE(children.size() == 30);
    std::sort(children.begin(), children.end());
    CHECK(std::adjacent_find(children.begin(), children.end()) == children.end());
    CHECK(std::find(children.begin(), children.end(), parents[0]) == children.end());
  }
  // 12 over 1 has 12 genomes: 11 children, and no endless loop.
  const search_space small = drop_space(12, 1);
  CHECK(breed(small, o, std::vector<genome>{random_genome(small, random)}, random).size() == 11);
}

TEST_CASE("under noise, several stages find what is near the optimum; a population works too") {
  rng random(17);
  const noisy_fitness f{random_linear(24, random), 0.5};
  const search_space s = drop_space(24, 8);
  const double best = f.f.of(optimum(f.f, 8));
  for (const std::size_t population : {1, 3}) {
    const evolve_options o{.generations = 60,
                           .offspring = 16,
                           .stages = {{4, 1}, {population, 16}, {population, 256}},
                           .initial = 16,
                           .initial_samples = 4,
                           .seed = 4};
    evolve_state state = evolve_start(s, o).value();
    CHECK(evolve(s, o, state, f, [](const evolve_state&) { return true; }).value());
    CHECK(state.parents.size() == population);
    CHECK(state.history.size() == 60);
    // The last stage's noise is .5 / 16 = .03: within three of it.
    CHECK(f.f.of(state.parents[0].levels) < best + 0.1);
  }
}

TEST_CASE("a stopped search goes on bit for bit from its text; other texts are refused") {
  rng random(23);
  const noisy_fitness f{random_linear(16, random), 0.3};
  const search_space s = drop_space(16, 5);
  const evolve_options o{.generations = 12,
                         .offspring = 8,
                         .stages = {{2, 4}, {1, 16}},
                         .initial = 4,
                         .initial_samples = 2,
                         .seed = 9};
  const std::uint64_t mark = fingerprint(s, o, "kl");
  evolve_state whole = evolve_start(s, o).value();
  CHECK(evolve(s, o, whole, f, [](const evolve_state&) { return true; }).value());
  for (const std::uint64_t stop : {1, 5, 11}) {
    evolve_state part = evolve_start(s, o).value();
    CHECK_FALSE(
        evolve(s, o, part, f, [&](const evolve_state& now) { return now.generation < stop; }).value());
    evolve_state again = parse_state(to_text(part, mark), s, mark).value();
    CHECK(to_text(again, mark) == to_text(part, mark));
    CHECK(evolve(s, o, again, f, [](const evolve_state&) { return true; }).value());
    CHECK(to_text(again, mark) == to_text(whole, mark));
  }
  const std::string text = to_text(whole, mark);
  for (std::size_t n = 0; n < text.size(); ++n) CHECK_FALSE(parse_state(text.substr(0, n), s, mark));
  // States that evolve() cannot have left.
  const auto refused = [&](const std::string& why, auto&& change, std::uint64_t generations = 12) {
    CAPTURE(why);
    evolve_state damaged = whole;
    change(damaged);
    const auto read = parse_state(to_text(damaged, mark), s, mark, generations);
    REQUIRE_FALSE(read);
    CHECK(std::string(read.error().what()).find(why) != std::string::npos);
  };
  CHECK(parse_state(text, s, mark, 12));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  refused("fitness is nan", [&](evolve_state& d) { d.parents[0].fitness = nan; });
  refused("fitness is inf", [&](evolve_state& d) { d.history[3].fitness = HUGE_VAL; });
  refused("no parents", [](evolve_state& d) { d.parents.clear(); });
  refused("all zeros", [](evolve_state& d) { std::fill_n(d.random.state, 4, 0u); });
  refused(
      "behind the last one, 11", [](evolve_state&) {}, 11);
  refused("history of 12", [](evolve_state& d) { d.generation = 11; });
  refused("out of order", [](evolve_state& d) { std::swap(d.history[0], d.history[1]); });
  CHECK_FALSE(parse_state(text, s, mark + 1));
  CHECK_FALSE(parse_state(text, drop_space(16, 4), mark));
  evolve_options other = o;
  other.seed = 10;
  CHECK(fingerprint(s, other, "kl") != mark);
  CHECK(fingerprint(s, o, "ppl") != mark);
  other = o;
  other.generations = 20;
  CHECK(fingerprint(s, other, "kl") == mark);
}

TEST_CASE("two processes that share candidates find what one finds") {
  // What each rank contributes, added in the order of ranks.
  struct two {
    std::size_t me;
    std::vector<double>* pending;
    std::size_t rank() const { return me; }
    std::size_t size() const { return 2; }
    void sum(std::span<float>) {}
    void sum(std::span<double> v) {
      if (me == 0) pending->assign(v.begin(), v.end());
      if (me == 1)
        for (std::size_t i = 0; i < v.size(); ++i) v[i] = (*pending)[i] + v[i];
    }
    void gather(std::span<const std::byte>, std::span<std::byte>) {}
  };
  rng random(29);
  const linear_fitness f = random_linear(10, random);
  const auto all = all_genomes(drop_space(10, 3), 1000).value();
  std::vector<double> pending, alone_fitness(all.size()), first(all.size()), second(all.size());
  two a{0, &pending}, b{1, &pending};
  alone one;
  share_candidates(one, f)(all, {1, 1}, alone_fitness);
  share_candidates(a, f)(all, {1, 1}, first);
  share_candidates(b, f)(all, {1, 1}, second);
  CHECK(second == alone_fitness);
  CHECK(first != second);
}

TEST_CASE("options and parents without meaning are refused") {
  const search_space s = drop_space(6, 2);
  evolve_options o;
  o.stages = {};
  CHECK_FALSE(evolve_start(s, o));
  o.stages = {{1, 10}, {2, 10}};
  CHECK_FALSE(evolve_start(s, o));
  o.stages = {{1, 0}};
  CHECK_FALSE(evolve_start(s, o));
  o = {};
  CHECK_FALSE(evolve_start(s, o, std::vector<genome>{genome(6, 1)}));
  o.initial = 0;
  CHECK_FALSE(evolve_start(s, o));
}
