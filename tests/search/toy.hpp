// SPDX-License-Identifier: Apache-2.0
#pragma once
// Spaces and fitnesses without a model.

#include <quern/search/evolve.hpp>
#include <vector>

namespace quern_test {

/// n units that are kept (1) or dropped (0), k of them dropped.
inline quern::search_space drop_space(std::size_t n, std::size_t k) {
  quern::search_space s;
  for (std::size_t i = 0; i < n; ++i) s.units.push_back({.name = "half", .cost = {0, 1}});
  s.budget = {static_cast<std::int64_t>(n - k)};
  return s;
}

/// Sizes that do not divide each other, levels of unequal steps, and gates over the last eight units.
inline quern::search_space byte_space(std::int64_t budget) {
  quern::search_space s{.rule = quern::budget_rule::at_most, .budget = {budget}};
  for (std::size_t i = 0; i < 12; ++i) {
    const auto w = static_cast<std::int64_t>(i % 3 == 0 ? 1000 : i % 3 == 1 ? 333 : 2777);
    s.units.push_back({.name = "layer", .cost = {2 * w, 3 * w, 3 * w + 17, 5 * w, 8 * w}});
  }
  for (std::size_t half = 0; half < 2; ++half) {
    s.units.push_back({.name = "gate", .cost = {0, 0}});
    for (std::size_t i = 0; i < 4; ++i) s.units[4 + 4 * half + i].gate = 12 + half;
  }
  return s;
}

/// Linear fitness: the sum of the weights of the units at level 0.
struct linear_fitness {
  std::vector<double> weights;
  double of(const quern::genome& g) const {
    double sum = 0;
    for (std::size_t i = 0; i < g.size(); ++i) sum += g[i] == 0 ? weights[i] : 0;
    return sum;
  }
  void operator()(std::span<const quern::genome> c, quern::minibatch, std::span<double> f) const {
    for (std::size_t i = 0; i < c.size(); ++i) f[i] = of(c[i]);
  }
};

inline linear_fitness random_linear(std::size_t n, quern::rng& random) {
  linear_fitness f;
  for (std::size_t i = 0; i < n; ++i) f.weights.push_back(static_cast<double>(random.uniform()));
  return f;
}

}  // namespace quern_test
