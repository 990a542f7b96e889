// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <llama/candidates.hpp>
#include <llama/evaluate.hpp>
#include <llama/search_task.hpp>
#include <llama/tiny_model.hpp>
#include <quern/metric/kl.hpp>

namespace {

using namespace llama;
using llama_test::random_ids;
using llama_test::random_model;

constexpr config five{.vocab = 64,
                      .width = 32,
                      .layers = 5,
                      .ffn = 48,
                      .heads = 2,
                      .kv_heads = 1,
                      .head_dim = 16,
                      .context = 32};

std::vector<double> measure(const model& m, std::span<const genome> c, quern::minibatch b, fitness_options o,
                            std::size_t threads = 2, runner_counts* counts = nullptr) {
  quern::thread_pool pool(threads);
  const search_task task = depth_task(m, drop_unit::halves, 2, 1).value();
  candidate_runner run(m, task.assemble, task.half_of, random_ids(200), o, pool);
  std::vector<double> out(c.size());
  run(c, b, out);
  if (counts != nullptr) *counts = run.counts();
  return out;
}

std::vector<genome> some_genomes() {
  const model m = random_model(301, five);
  const search_task task = depth_task(m, drop_unit::halves, 2, 1).value();
  quern::rng random(5);
  std::vector<genome> out;
  for (int i = 0; i < 12; ++i) out.push_back(quern::random_genome(task.space, random));
  return out;
}

}  // namespace

TEST_CASE("the dense model has no divergence from itself, a cut one has; both are what the definition says") {
  const model m = random_model(301, five);
  const genome whole(10, 1);
  genome cut = whole;
  cut[1] = cut[7] = 0;
  const fitness_options o{.context = 16, .piece = 48};
  const auto got = measure(m, std::vector<genome>{whole, cut}, {3, 192}, o);
  // Equal logits row by row: the sum of p (log p - log p) is exactly 0.
  CHECK(got[0] == 0);
  // All 12 windows, each with 15 predictions, on the formula.
  quern::thread_pool pool(1);
  const auto ids = random_ids(200);
  model target = m;
  depth_task(m, drop_unit::halves, 2, 1).value().assemble(cut, target);
  CHECK_FALSE(target.blocks[1].has_attn());
  CHECK_FALSE(target.blocks[2].has_ffn());
  session dense(m, 16, pool), student(target, 16, pool);
  double sum = 0;
  for (std::size_t w = 0; w < 12; ++w) {
    dense.rewind(), student.rewind();
    const auto window = std::span(ids).subspan(16 * w, 16);
    const auto p = dense.logits(dense.extend(window)), q = student.logits(student.extend(window));
    sum += quern::kl_divergence<float>(p.rows_of(0, 15), q.rows_of(0, 15));
  }
  CHECK(got[1] > 0.01);
  CHECK(got[1] == doctest::Approx(sum / 180).epsilon(1e-10));  // 180 rows in another order, in double
}

TEST_CASE(
    "fitness does not depend on reuse, order, company, threads, or the size of a piece beyond rounding") {
  const model m = random_model(302, five);
  const std::vector<genome> genomes = some_genomes();
  fitness_options o{.context = 16, .piece = 64};
  runner_counts with, without;
  const auto expected = measure(m, genomes, {9, 100}, o, 2, &with);
  o.reuse = false;
  CHECK(measure(m, genomes, {9, 100}, o, 2, &without) == expected);
  CHECK(without.halves == without.halves_whole);
  CHECK(with.halves_whole == without.halves);
  CHECK(with.halves < with.halves_whole);
  o.reuse = true;
  CHECK(measure(m, genomes, {9, 100}, o, 1) == expected);
  std::vector<genome> reversed(genomes.rbegin(), genomes.rend());
  auto got = measure(m, reversed, {9, 100}, o);
  std::reverse(got.begin(), got.end());
  CHECK(got == expected);
  for (std::size_t i = 0; i < genomes.size(); ++i) {
    const auto single = measure(m, std::span(&genomes[i], 1), {9, 100}, o);
    CHECK(single[0] == expected[i]);
  }
  CHECK(measure(m, genomes, {10, 100}, o) != expected);  // other windows
}

TEST_CASE("a candidate that differs late costs less than a whole pass") {
  const model m = random_model(303, five);
  const genome whole(10, 1);
  genome late = whole, early = whole;
  late[9] = 0;   // the feed-forward half of block 4
  early[0] = 0;  // the attention of block 0
  runner_counts c;
  measure(m, std::vector<genome>{whole, late}, {1, 32}, {.context = 16}, 1, &c);
  CHECK(c.halves == 10 + 1);
  measure(m, std::vector<genome>{whole, early}, {1, 32}, {.context = 16}, 1, &c);
  CHECK(c.halves == 20);
  measure(m, std::vector<genome>{whole, whole}, {1, 32}, {.context = 16}, 1, &c);
  CHECK(c.halves == 10);
}

TEST_CASE("cross-entropy is the perplexity's, and few logits bound the divergence from below") {
  const model m = random_model(304, five);
  const std::vector<genome> genomes = some_genomes();
  quern::thread_pool pool(1);
  const auto ids = random_ids(200);
  const auto nll = measure(m, std::span(genomes).first(1), {1, 192},
                           {.measure = fitness_options::kind::cross_entropy, .context = 16});
  model target = m;
  depth_task(m, drop_unit::halves, 2, 1).value().assemble(genomes[0], target);
  const auto p = evaluate(target, ids, {.context = 16, .windows = 12}, pool).value();
  CHECK(nll[0] == doctest::Approx(p.nll).epsilon(1e-10));

  const auto full = measure(m, genomes, {2, 96}, {.context = 16});
  const auto all = measure(m, genomes, {2, 96}, {.top = 64, .context = 16});
  const auto some = measure(m, genomes, {2, 96}, {.top = 8, .context = 16});
  for (std::size_t i = 0; i < genomes.size(); ++i) {
    // Log-probabilities are kept as floats: 64 terms of size log p eps.
    CHECK(all[i] == doctest::Approx(full[i]).epsilon(1e-4));
    CHECK(some[i] <= full[i] * (1 + 1e-5));
    CHECK(some[i] > 0);
  }
}

TEST_CASE("memory is what was told, and batches larger than the text are refused") {
  const model m = random_model(305, five);
  quern::thread_pool pool(1);
  const search_task task = depth_task(m, drop_unit::halves, 1, 1).value();
  const auto ids = random_ids(320);
  for (const std::size_t top : {0, 8}) {
    const fitness_options o{.top = top, .context = 32, .piece = 64};
    candidate_runner run(m, task.assemble, task.half_of, ids, o, pool);
    std::vector<double> f(1);
    const genome g = task.space.units.empty() ? genome() : genome(10, 1);
    run(std::span(&g, 1), {1, 320}, f);
    const auto told = static_cast<double>(candidate_runner::bytes(m.shape, 320, o));
    CHECK(static_cast<double>(run.allocated()) > 0.9 * told);
    CHECK(static_cast<double>(run.allocated()) < 1.1 * told);
    CHECK_THROWS_AS(run(std::span(&g, 1), {1, 321}, f), quern::shape_error);
  }
  CHECK_THROWS_AS(
      candidate_runner(m, task.assemble, task.half_of, std::span(ids).first(31), {.context = 32}, pool),
      quern::shape_error);
}
