// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::rng random(1);
// quern::genome child = quern::mutate(space, parent, {}, random);    // conforms(space, child) still holds
// quern::genome any = quern::random_genome(space, random);

#include <quern/core/rng.hpp>
#include <quern/search/genome.hpp>

namespace quern::inline v0 {

struct mutate_options {
  std::size_t max_flips = 3;  ///< EvoPress's choice; its table of 1, 3, 7 and 15 has 3 as the best
  /// Levels that one change moves at most, drawn as flips are; 1 in EvoPress. More lets a unit pass over a level that
  /// is worse than both neighbours, as formats of nearly the same size can be, and crosses many fine levels sooner.
  std::size_t reach = 1;
  friend bool operator==(const mutate_options&, const mutate_options&) = default;
};

inline namespace QUERN_BUILD {

/// The smaller of two uniform draws of 1 .. most (EvoPress, `min(U, U)`): for 3 it is 1 in 5 of 9 cases.
inline std::size_t draw_small(std::size_t most, rng& random) {
  const std::size_t a = 1 + random.below(most), b = 1 + random.below(most);
  return std::min(a, b);
}

/// A unit of those that @p may accepts, each equally likely; units.size() if there is none.
template <class May>
std::size_t draw_unit(const search_space& s, rng& random, May&& may) {
  std::size_t count = 0;
  for (std::size_t u = 0; u < s.units.size(); ++u) count += may(u) ? 1 : 0;
  if (count == 0) return s.units.size();
  std::size_t skip = random.below(count);
  for (std::size_t u = 0;; ++u)
    if (may(u) && skip-- == 0) return u;
}

/// One level switch: a group is drawn with the weight of its units, in it a unit that can go down and a unit that
/// can go up, independently, so that they may be the same, both by as many levels of 1 .. @p reach. The cost of the
/// group stays, as all steps in it cost the same. Does nothing where the group has no such units.
inline void level_switch(const search_space& s, genome& g, rng& random, std::size_t reach = 1) {
  const std::size_t levels = reach == 1 ? 1 : draw_small(reach, random);
  const std::size_t group = s.units[random.below(s.units.size())].group;
  const std::size_t down =
      draw_unit(s, random, [&](std::size_t u) { return s.units[u].group == group && g[u] >= levels; });
  const std::size_t up = draw_unit(s, random, [&](std::size_t u) {
    return s.units[u].group == group && g[u] + levels < s.units[u].cost.size();
  });
  if (down == s.units.size() || up == s.units.size()) return;
  g[down] = static_cast<std::uint16_t>(g[down] - levels);
  g[up] = static_cast<std::uint16_t>(g[up] + levels);
}

/// Lowers random units by a level until the budget of at_most holds, then raises random ones that still fit.
/// @param spare  units that are not lowered as long as there are others
/// @param least  raises as long as so much is left. Of a child largest_step(), or it would have more changes than were
///               drawn; of a start 0, as what it leaves is lost to all that follow
inline void settle(const search_space& s, genome& g, const std::vector<bool>& spare, std::int64_t least,
                   rng& random) {
  std::int64_t slack = s.budget[0] - total_cost(s, g);
  const auto move = [&](std::size_t u, std::size_t level) {
    slack -= step_cost(s, g, u, level);
    g[u] = static_cast<std::uint16_t>(level);
  };
  while (slack < 0) {
    const auto lowers = [&](std::size_t u) { return g[u] > 0 && step_cost(s, g, u, g[u] - 1u) < 0; };
    // Levels before gates: a sub-block is dropped by a mutation that wants it, not to make ends meet.
    std::size_t u =
        draw_unit(s, random, [&](std::size_t v) { return !spare[v] && !is_gate(s, v) && lowers(v); });
    if (u == s.units.size()) u = draw_unit(s, random, lowers);
    if (u == s.units.size()) return;  // check() has refused such budgets
    move(u, g[u] - 1u);
  }
  while (slack >= least) {
    const std::size_t u = draw_unit(s, random, [&](std::size_t v) {
      return !is_gate(s, v) && is_open(s, g, v) && g[v] + 1u < s.units[v].cost.size() &&
             step_cost(s, g, v, g[v] + 1u) <= slack;
    });
    if (u == s.units.size()) return;
    move(u, g[u] + 1u);
  }
}

/// A child of @p parent, which must conform to @p s; the child does too. It may equal its parent. Under `exact` it is
/// one to max_flips level switches away. Under `at_most` as many random units go up (or, for one draw in four, down:
/// what pays for the rest is then chosen first), gates open or close, and settle() pays.
/// EvoPress's rule for groups `none` raises, then lowers until the budget holds, and rejects children with more than
/// 10 changes or less than .8 of the bits used; settle's bound on the slack takes the place of both.
inline genome mutate(const search_space& s, const genome& parent, const mutate_options& o, rng& random) {
  genome g = parent;
  const std::size_t flips = draw_small(o.max_flips, random);
  if (s.rule == budget_rule::exact) {
    for (std::size_t i = 0; i < flips; ++i) level_switch(s, g, random, o.reach);
    return g;
  }
  std::vector<bool> spare(g.size());
  for (std::size_t i = 0; i < flips; ++i) {
    const bool up = random.below(4) != 0;
    const std::size_t reach = draw_small(o.reach, random);
    const std::size_t u = draw_unit(s, random, [&](std::size_t v) {
      if (is_gate(s, v)) return true;
      return is_open(s, g, v) && (up ? g[v] + 1u < s.units[v].cost.size() : g[v] > 0);
    });
    if (u == g.size()) continue;
    std::size_t level = up ? g[u] + reach : g[u] - std::min<std::size_t>(g[u], reach);
    if (is_gate(s, u)) level = g[u] == 0 ? 1 : 0;
    g[u] = static_cast<std::uint16_t>(std::min(level, s.units[u].cost.size() - 1));
    spare[u] = true;
  }
  settle(s, g, spare, largest_step(s), random);
  return g;
}

/// A random genome that keeps the budget: the lowest level that all units can have and that costs the budget or
/// more, then random steps down (EvoPress's candidates for fractional targets), under at_most up where it still fits, then
/// @p switches mutations. An integer target without switches is uniform. @p s must have passed check()
inline genome random_genome(const search_space& s, rng& random, std::size_t switches = 0) {
  genome g(s.units.size());
  const auto at_level = [&](std::size_t level, std::size_t group, bool all) {
    for (std::size_t u = 0; u < g.size(); ++u)
      if (all || s.units[u].group == group)
        g[u] = static_cast<std::uint16_t>(is_gate(s, u) ? 1 : std::min(level, s.units[u].cost.size() - 1));
  };
  std::size_t levels = 0;
  for (const search_unit& u : s.units) levels = std::max(levels, u.cost.size());
  const bool all = s.rule == budget_rule::at_most;
  for (std::size_t group = 0; group < s.budget.size(); ++group) {
    std::size_t level = 0;
    const auto cost = [&] { return all ? total_cost(s, g) : group_cost(s, g, group); };
    for (at_level(0, group, all); cost() < s.budget[group] && level + 1 < levels;)
      at_level(++level, group, all);
    if (all) {
      settle(s, g, std::vector<bool>(g.size()), 0, random);
      continue;
    }
    while (cost() > s.budget[group])
      --g[draw_unit(s, random, [&](std::size_t u) { return s.units[u].group == group && g[u] > 0; })];
  }
  for (std::size_t i = 0; i < switches; ++i) g = mutate(s, g, {}, random);
  return g;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
