// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::level_table t;
// t.push_back({.name = "blk.0.attn_q", .weights = 65536, .levels = {{"affine<2,16>", 20480, .21}, ..}});
// quern::search_space s = quern::space_of(t, quern::budget_rule::at_most, {1000000});
// auto dp = quern::knapsack(s, quern::errors_of(t));

#include <quern/search/genome.hpp>

namespace quern::inline v0 {

/// One level of a unit as a level database describes it: the weights stay with whoever made them, and a search moves
/// an index.
struct level_info {
  std::string label;      ///< what the level is, for people and exported files
  std::int64_t cost = 0;  ///< in what the budget counts: weights, bits, bytes, nanoseconds
  double error = 0;       ///< relative squared error of the layer's outputs, for baselines
};

/// A unit of a level database, its levels in ascending order of cost.
struct level_unit {
  std::string name;
  std::size_t weights = 1;
  std::vector<level_info> levels = {};
  std::size_t gate = search_unit::no_gate;
};
using level_table = std::vector<level_unit>;

inline namespace QUERN_BUILD {

/// The search space over a table; groups are for the caller to set (set_groups) where the rule is exact.
inline search_space space_of(const level_table& table, budget_rule rule, std::vector<std::int64_t> budget) {
  search_space s{.rule = rule, .budget = std::move(budget)};
  for (const level_unit& t : table) {
    search_unit u{.name = t.name, .size = t.weights, .gate = t.gate};
    for (const level_info& l : t.levels) u.cost.push_back(l.cost);
    s.units.push_back(std::move(u));
  }
  return s;
}

/// [units][levels] the errors, for quern::knapsack.
inline std::vector<std::vector<double>> errors_of(const level_table& table) {
  std::vector<std::vector<double>> out;
  for (const level_unit& t : table) {
    auto& errors = out.emplace_back();
    for (const level_info& l : t.levels) errors.push_back(l.error);
  }
  return out;
}

/// The sum of the errors of the levels of @p g: what the assumption of additive errors would minimise.
inline double summed_error(const level_table& table, const genome& g) {
  double sum = 0;
  for (std::size_t u = 0; u < table.size(); ++u) sum += table[u].levels[g[u]].error;
  return sum;
}

/// Which levels of a unit a search sees: one of each cost, or only those that lose less than all that cost less or at
/// most 1/32 more. Errors of one layer compare its formats well, errors of different layers do not; without levels
/// that save next to nothing and lose much, a step is a step between choices worth having.
enum class level_choice { every_cost, front };

/// Orders the levels of a unit by cost and leaves those of @p keep; of several of equal cost the one with the least
/// error. @returns for every level that is left, its index before
inline std::vector<std::size_t> sort_levels(level_unit& unit, level_choice keep = level_choice::every_cost) {
  std::vector<std::size_t> order(unit.levels.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const level_info &x = unit.levels[a], &y = unit.levels[b];
    return x.cost != y.cost ? x.cost < y.cost : x.error < y.error;
  });
  const bool front = keep == level_choice::front;
  std::vector<level_info> kept;
  std::vector<std::size_t> index;
  for (const std::size_t i : order) {
    const level_info& l = unit.levels[i];
    if (!kept.empty() && (kept.back().cost == l.cost || (front && kept.back().error <= l.error))) continue;
    while (front && !kept.empty() && l.cost - kept.back().cost <= kept.back().cost / 32)
      kept.pop_back(), index.pop_back();
    kept.push_back(l);
    index.push_back(i);
  }
  unit.levels = std::move(kept);
  return index;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
