// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::search_space s;                                     // four layers, 2 to 4 bits, 3 on average
// for (int i = 0; i < 4; ++i) s.units.push_back({.name = "layer", .cost = {2, 3, 4}});
// s.budget = {12};
// quern::check(s).value();                                   // or a sentence with the nearest possible budget
// quern::genome g(4, 1);                                     // 3 bits everywhere; conforms(s, g) holds

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <string>
#include <utility>
#include <vector>

namespace quern::inline v0 {

/// The level of every unit: what a search decides.
using genome = std::vector<std::uint16_t>;

/// One thing that has a level: a layer with its bitwidths, a sub-block that may be dropped.
struct search_unit {
  static constexpr std::size_t no_gate = ~std::size_t{0};
  std::string name = {};
  std::vector<std::int64_t> cost = {};  ///< [levels] what each level costs, ascending, not negative
  std::size_t size = 1;                 ///< weights behind it: what grouping::size compares
  std::size_t group = 0;                ///< units of one group exchange levels (budget_rule::exact)
  /// The unit that switches this one off: at level 0 of the gate this unit costs nothing. A gate has two levels of
  /// cost 0 and no gate of its own.
  std::size_t gate = no_gate;
};

/// What a budget means.
///   exact    every group costs its budget to the unit. All steps between neighbouring levels of a group must cost
///            the same, so that one step down pays for one step up (EvoPress, level switch).
///   at_most  the sum over all units is at most budget[0], and less than the cost of the largest step below it (or
///            every unit that is switched on is at its highest level): for costs that do not divide each other, such as bytes.
enum class budget_rule { exact, at_most };

/// The units, and what they may cost together.
struct search_space {
  std::vector<search_unit> units = {};
  budget_rule rule = budget_rule::exact;
  std::vector<std::int64_t> budget = {};  ///< [groups] of exact, [1] of at_most
};

/// Which units exchange levels: those of equal size, those of equal last name ("blk.3.attn_q": "attn_q"), or all.
enum class grouping { size, name, none };

/// Gives every unit its group, numbered in order of first appearance. @returns the number of groups
inline std::size_t set_groups(search_space& s, grouping by) {
  std::vector<std::string> keys;
  for (search_unit& u : s.units) {
    std::string key;
    if (by == grouping::size) key = std::to_string(u.size);
    if (by == grouping::name) key = u.name.substr(u.name.rfind('.') + 1);
    const auto at = std::find(keys.begin(), keys.end(), key);
    u.group = static_cast<std::size_t>(at - keys.begin());
    if (at == keys.end()) keys.push_back(std::move(key));
  }
  return keys.size();
}

inline namespace QUERN_BUILD {

/// Whether unit @p u has an effect and a cost.
inline bool is_open(const search_space& s, const genome& g, std::size_t u) {
  const std::size_t gate = s.units[u].gate;
  return gate == search_unit::no_gate || g[gate] != 0;
}
/// What unit @p u costs in @p g.
inline std::int64_t unit_cost(const search_space& s, const genome& g, std::size_t u) {
  return is_open(s, g, u) ? s.units[u].cost[g[u]] : 0;
}
inline std::int64_t total_cost(const search_space& s, const genome& g) {
  std::int64_t sum = 0;
  for (std::size_t u = 0; u < s.units.size(); ++u) sum += unit_cost(s, g, u);
  return sum;
}
inline std::int64_t group_cost(const search_space& s, const genome& g, std::size_t group) {
  std::int64_t sum = 0;
  for (std::size_t u = 0; u < s.units.size(); ++u)
    if (s.units[u].group == group) sum += unit_cost(s, g, u);
  return sum;
}
/// Whether some unit is behind the gate @p u.
inline bool is_gate(const search_space& s, std::size_t u) {
  return std::any_of(s.units.begin(), s.units.end(), [&](const search_unit& v) { return v.gate == u; });
}
/// What all costs change by when unit @p u goes to @p level. A gate takes the units behind it along.
inline std::int64_t step_cost(const search_space& s, const genome& g, std::size_t u, std::size_t level) {
  std::int64_t change = is_open(s, g, u) ? s.units[u].cost[level] - s.units[u].cost[g[u]] : 0;
  if ((level != 0) == (g[u] != 0)) return change;
  for (std::size_t v = 0; v < s.units.size(); ++v)
    if (s.units[v].gate == u) change += level != 0 ? s.units[v].cost[g[v]] : -s.units[v].cost[g[v]];
  return change;
}
/// The largest cost of one step between neighbouring levels: how far below its budget a genome of at_most may be.
inline std::int64_t largest_step(const search_space& s) {
  std::int64_t most = 0;
  for (const search_unit& u : s.units)
    for (std::size_t l = 1; l < u.cost.size(); ++l) most = std::max(most, u.cost[l] - u.cost[l - 1]);
  return most;
}

/// Whether @p g has a level for every unit and keeps the budget as the rule of @p s says.
inline bool conforms(const search_space& s, const genome& g) {
  if (g.size() != s.units.size()) return false;
  for (std::size_t u = 0; u < g.size(); ++u)
    if (g[u] >= s.units[u].cost.size()) return false;
  if (s.rule == budget_rule::at_most) {
    bool full = true;  // nothing that is switched on could cost more
    for (std::size_t u = 0; u < g.size(); ++u)
      full = full && (g[u] + 1u == s.units[u].cost.size() || !is_open(s, g, u) || is_gate(s, u));
    const std::int64_t slack = s.budget[0] - total_cost(s, g);
    return slack >= 0 && (slack < largest_step(s) || full);
  }
  for (std::size_t group = 0; group < s.budget.size(); ++group)
    if (group_cost(s, g, group) != s.budget[group]) return false;
  return true;
}

/// Whether a search can be made in @p s at all.
/// @returns an error that names the unit whose costs are unusable, or the group whose budget cannot be kept, with
/// the nearest that can
inline result<void> check(const search_space& s) {
  const auto bad = [](const auto&... why) { return error("quern::search_space: ", why...); };
  if (s.units.empty()) return bad("has no units; there is nothing to search");
  if (s.budget.empty()) return bad("has no budget; give one per group");
  if (s.rule == budget_rule::at_most && s.budget.size() != 1)
    return bad("at_most takes one budget for all units, not ", s.budget.size());
  struct range {
    std::int64_t low = 0, high = 0, step = 0;
  };
  std::vector<range> groups(s.budget.size());
  for (std::size_t u = 0; u < s.units.size(); ++u) {
    const search_unit& unit = s.units[u];
    if (unit.cost.empty() || unit.cost.size() > 65535)
      return bad("unit ", u, " ('", unit.name, "') has ", unit.cost.size(), " levels; it must have 1..65535");
    const bool gate = is_gate(s, u);
    if (gate && (unit.cost != std::vector<std::int64_t>{0, 0} || unit.gate != search_unit::no_gate))
      return bad("unit ", u, " ('", unit.name, "') is a gate; it must have two levels of cost 0 and no gate");
    if (unit.gate != search_unit::no_gate && (unit.gate >= s.units.size() || s.rule == budget_rule::exact))
      return bad("unit ", u, " ('", unit.name,
                 "'): a gate must be a unit of a space with budget_rule::at_most");
    const std::size_t group = s.rule == budget_rule::exact ? unit.group : 0;
    if (group >= s.budget.size())
      return bad("unit ", u, " ('", unit.name, "') is of group ", group, ", but there are ", s.budget.size(),
                 " budgets");
    range& r = groups[group];
    if (unit.cost[0] < 0) return bad("unit ", u, " ('", unit.name, "') has a negative cost");
    for (std::size_t l = 1; !gate && l < unit.cost.size(); ++l) {
      const std::int64_t step = unit.cost[l] - unit.cost[l - 1];
      if (step <= 0)
        return bad("unit ", u, " ('", unit.name, "'): level ", l, " must cost more than level ", l - 1);
      if (s.rule == budget_rule::exact && r.step != 0 && step != r.step)
        return bad("unit ", u, " ('", unit.name, "'): a step to level ", l, " costs ", step,
                   ", others of group ", group, " cost ", r.step,
                   "; group by size, or use budget_rule::at_most");
      r.step = step;
    }
    if (unit.gate == search_unit::no_gate) r.low += unit.cost.front();
    r.high += unit.cost.back();
  }
  for (std::size_t group = 0; group < groups.size(); ++group) {
    const range& r = groups[group];
    const std::int64_t want = s.budget[group];
    const auto impossible = [&](const auto&... nearest) {
      return bad("group ", group, ": a budget of ", want, " is impossible (levels cost ", r.low, " to ",
                 r.high, " together); nearest possible: ", nearest...);
    };
    if (want < r.low) return impossible(r.low);
    if (s.rule == budget_rule::at_most) continue;  // more than everything costs is kept by the highest levels
    if (want > r.high) return impossible(r.high);
    const std::int64_t rest = r.step == 0 ? want - r.low : (want - r.low) % r.step;
    if (rest != 0) return impossible(want - rest, " or ", std::min(r.high, want - rest + r.step));
  }
  return {};
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
