// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>

#include "retrain_fixture.hpp"

using namespace retrain_test;

namespace {

struct outcome {
  double nll, early, last;
};

/// Mean over three seeds of what a variant reaches: AST's claims on a model of a few seconds.
outcome mean_of(llama::retrain_options o) {
  outcome sum{};
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    o.run.seed = seed;
    auto r = fresh(o);
    quern::thread_pool pool(2);
    std::vector<double> flips;
    while (r.step_count() < o.run.steps) {
      const auto report = r.step(pool).value();
      if (report.updated) flips.push_back(report.flips.since_last);
    }
    sum.nll += loss_of(r) / 3;
    for (std::size_t i = 0; i < 3; ++i) sum.early += flips[i] / 9;
    sum.last += flips.back() / 3;
  }
  return sum;
}

llama::retrain_options longer(const quern::unit_shape& pattern) {
  auto o = options();
  o.run.steps = 80;
  o.rule.shape = pattern;
  o.update_every = 5;
  o.decay = quern::annealed_decay(6e-3f, 20);
  return o;
}

}  // namespace

TEST_CASE("2:4: annealing explores early and settles late; no decay oscillates and ends worse") {
  quern::thread_pool pool(2);
  const double dense = llama::held_out_loss(shape, dense_weights(), held_out(), 0, pool).value();
  auto o = longer(quern::shape_of<quern::nm<2, 4>>());
  auto one_shot = fresh(o);
  const double before = loss_of(one_shot);
  const outcome annealed = mean_of(o);
  o.decay = quern::static_decay(6e-3f);
  const outcome fixed_pull = mean_of(o);
  o.decay = quern::no_decay();
  const outcome none = mean_of(o);
  MESSAGE("nats: dense ", dense, ", one-shot ", before, ", annealed ", annealed.nll, ", static ",
          fixed_pull.nll, ", none ", none.nll, "; early flips ", annealed.early, " ", fixed_pull.early, " ",
          none.early, "; last ", annealed.last, " ", fixed_pull.last, " ", none.last);
  CHECK(annealed.nll - dense <= 0.35 * (before - dense));
  CHECK(annealed.early >= 1.5 * fixed_pull.early);
  CHECK(annealed.last <= 0.25 * none.last);
  CHECK(std::exp(none.nll) >= 1.01 * std::exp(annealed.nll));
  // Not claimed here: 80 steps are too few to earn back what the exploration of the first 20 cost. The two losses are
  // compared on the embedded model (docs/results/ast.md).
}

TEST_CASE("1:4: side weights pay, and start closer to the dense model") {
  auto o = longer(quern::shape_of<quern::nm<1, 4>>());
  auto bare = fresh(o);
  const double bare_start = loss_of(bare);
  const outcome without = mean_of(o);
  o.slorb = 8;
  auto side = fresh(o);
  const double side_start = loss_of(side);
  const outcome with = mean_of(o);
  MESSAGE("nats: one-shot ", bare_start, " and with SLoRB ", side_start, "; retrained ", without.nll, " and ",
          with.nll);
  CHECK(std::exp(with.nll) <= 0.95 * std::exp(without.nll));
}
