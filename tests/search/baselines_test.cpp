// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <functional>
#include <quern/search/baselines.hpp>
#include <quern/search/level_db.hpp>
#include <search/toy.hpp>

using namespace quern;

namespace {

std::vector<std::vector<double>> random_errors(const search_space& s, rng& random) {
  std::vector<std::vector<double>> errors;
  for (const search_unit& u : s.units) {
    std::vector<double> e(u.cost.size());
    for (double& x : e) x = static_cast<double>(random.uniform());
    std::sort(e.begin(), e.end(), std::greater<>());
    errors.push_back(e);
  }
  return errors;
}

double sum_of(const std::vector<std::vector<double>>& errors, const genome& g) {
  double sum = 0;
  for (std::size_t u = 0; u < g.size(); ++u) sum += errors[u][g[u]];
  return sum;
}

}  // namespace

TEST_CASE("enumeration finds every genome once") {
  const auto all = all_genomes(quern_test::drop_space(12, 5), 1000).value();
  CHECK(all.size() == 792);  // 12 over 5
  search_space s = quern_test::drop_space(12, 5);
  for (const genome& g : all) CHECK(conforms(s, g));
  CHECK_FALSE(all_genomes(s, 791));
  for (std::size_t u = 6; u < 12; ++u) s.units[u].group = 1;
  s.budget = {4, 3};
  CHECK(all_genomes(s, 1000).value().size() == 15 * 20);
  s.rule = budget_rule::at_most;
  s.budget = {3};
  CHECK_FALSE(all_genomes(s, 1000));
}

TEST_CASE("dynamic programming finds the least sum that enumeration finds") {
  rng random(31);
  for (int round = 0; round < 20; ++round) {
    search_space s;
    for (std::size_t i = 0; i < 7; ++i)
      s.units.push_back({.name = "layer", .cost = {20, 30, 40}, .group = i < 3 ? 0u : 1u});
    s.budget = {static_cast<std::int64_t>(60 + 10 * random.below(7)),
                static_cast<std::int64_t>(80 + 10 * random.below(9))};
    const auto errors = random_errors(s, random);
    const genome found = knapsack(s, errors).value();
    REQUIRE(conforms(s, found));
    double least = 1e9;
    for (const genome& g : all_genomes(s, 10000).value()) least = std::min(least, sum_of(errors, g));
    CHECK(sum_of(errors, found) <= least + 1e-15);  // sums of seven numbers below 1 in two orders: 7 eps
  }
}

TEST_CASE("a knapsack of bytes keeps its budget and is close to the best") {
  rng random(37);
  search_space s{.rule = budget_rule::at_most, .budget = {0}};
  for (const std::int64_t w : {1000, 333, 2777, 512, 129})
    s.units.push_back({.name = "layer", .cost = {2 * w, 3 * w, 5 * w, 8 * w}});
  for (const std::int64_t budget : {9502, 14000, 20000, 30000, 99999}) {
    s.budget = {budget};
    const auto errors = random_errors(s, random);
    const genome found = knapsack(s, errors).value();
    REQUIRE(conforms(s, found));
    double least = 1e9;
    genome g(5);
    for (std::size_t code = 0; code < 1024; ++code) {
      for (std::size_t u = 0; u < 5; ++u) g[u] = static_cast<std::uint16_t>(code >> 2 * u & 3);
      if (total_cost(s, g) <= budget) least = std::min(least, sum_of(errors, g));
    }
    // The first four budgets are cut into places of one byte: exact but for the order of the sum. The last one
    // pays for everything.
    CHECK(sum_of(errors, found) <= least + 1e-15);
  }
  CHECK_FALSE(knapsack(s, std::vector<std::vector<double>>(5)));
}

TEST_CASE("best of n and brute force") {
  const search_space s = quern_test::drop_space(12, 4);
  rng random(41);
  const auto f = quern_test::random_linear(12, random);
  const auto all = brute_force(s, 1000, 1, f, 1).value();
  CHECK(all.size() == 495);
  CHECK(all.front().fitness <= all.back().fitness);
  const measured best = best_of(s, 32, 1, f, 1).value();
  CHECK(best.fitness >= all.front().fitness);
  CHECK(best.fitness < all[247].fitness);  // 32 draws miss the better half with probability 2^-32
  CHECK_FALSE(brute_force(s, 494, 1, f, 1));
}

TEST_CASE("greedy: one step down at a time, measured again after each") {
  search_space s = quern_test::drop_space(12, 4);
  rng random(43);
  const auto f = quern_test::random_linear(12, random);
  const stage one{1, 1};
  const std::span<const stage> single(&one, 1);
  // Losses that add up leave nothing to find out later: the k least go.
  CHECK(greedy(s, single, f, 1).value().levels == brute_force(s, 1000, 1, f, 1).value().front().levels);
  // A pair that replaces each other: the first of it to go costs little, the second much. Scores of single drops
  // take both, steps do not.
  const auto pair = [](std::span<const genome> c, minibatch, std::span<double> out) {
    for (std::size_t i = 0; i < c.size(); ++i) {
      const auto gone = [&](std::size_t u) { return c[i][u] == 0 ? 1.0 : 0.0; };
      out[i] = .1 * gone(0) + .1 * gone(1) + 9 * gone(0) * gone(1) + .2 * gone(2) + .3 * gone(3);
    }
  };
  s = quern_test::drop_space(4, 2);
  CHECK(greedy(s, single, pair, 1).value().levels == genome{0, 1, 0, 1});
  // The cheapest first step leads astray, the second best does not: a beam of two finds it.
  const auto bait = [](std::span<const genome> c, minibatch, std::span<double> out) {
    for (std::size_t i = 0; i < c.size(); ++i) {
      const auto gone = [&](std::size_t u) { return c[i][u] == 0 ? 1.0 : 0.0; };
      const double together = gone(1) * gone(2);
      out[i] = .1 * gone(0) + .2 * gone(1) + .3 * gone(2) + .4 * gone(3) - .3 * together + gone(0) * gone(1);
    }
  };
  CHECK(greedy(s, single, bait, 1).value().levels == genome{0, 1, 0, 1});
  const stage two{2, 1};
  const measured found = greedy(s, std::span<const stage>(&two, 1), bait, 1).value();
  CHECK(found.levels == genome{1, 0, 0, 1});
  CHECK(found.fitness == doctest::Approx(.2));
}

TEST_CASE("greedy: groups keep their budgets, levels go down by steps, what it cannot do is an error") {
  search_space s;
  for (std::size_t i = 0; i < 6; ++i)
    s.units.push_back({.name = "layer", .cost = {2, 3, 4}, .size = i < 3 ? 10u : 20u});
  REQUIRE(set_groups(s, grouping::size) == 2);
  s.budget = {9, 12};
  std::size_t calls = 0;
  const auto f = [&](std::span<const genome> c, minibatch, std::span<double> out) {
    ++calls;
    for (std::size_t i = 0; i < c.size(); ++i) {
      out[i] = 0;
      for (std::size_t u = 0; u < 6; ++u) out[i] -= static_cast<double>((u + 1) * c[i][u]);
    }
  };
  const stage one{1, 1};
  const std::span<const stage> single(&one, 1);
  const measured found = greedy(s, single, f, 1).value();
  CHECK(found.levels == genome{0, 1, 2, 2, 2, 2});
  CHECK(conforms(s, found.levels));
  CHECK(calls == 3);
  CHECK_FALSE(greedy(s, {}, f, 1));
  for (const stage& bad : {stage{0, 1}, stage{1, 0}})
    CHECK_FALSE(greedy(s, std::span<const stage>(&bad, 1), f, 1));
  s.budget = {12, 12};
  CHECK_FALSE(greedy(s, single, f, 1));
  CHECK_FALSE(greedy(quern_test::byte_space(40000), single, f, 1));
  const auto nan = [](std::span<const genome>, minibatch, std::span<double> out) {
    std::fill(out.begin(), out.end(), std::nan(""));
  };
  CHECK_FALSE(greedy(quern_test::drop_space(4, 1), single, nan, 1));
}
