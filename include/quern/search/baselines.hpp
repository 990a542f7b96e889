// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto dp = quern::knapsack(space, errors).value();                   // least sum of layer errors (SPDY-like)
// auto lucky = quern::best_of(space, 32, 16384, evaluate, 1).value();   // best of 32 random genomes
// auto all = quern::brute_force(space, 65536, 4096, evaluate, 1).value();
// auto steps = quern::greedy(space, stages, evaluate, 1).value();       // one drop at a time (SLEB)

#include <limits>
#include <quern/search/evolve.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Every genome that keeps an exact budget, up to @p most of them.
/// @returns an error if there are more, or if the rule is not exact
inline result<std::vector<genome>> all_genomes(const search_space& s, std::size_t most) {
  if (auto ok = check(s); !ok) return ok.error();
  if (s.rule != budget_rule::exact) return error("quern::all_genomes: only exact budgets can be enumerated");
  std::vector<genome> out;
  genome g(s.units.size());
  // What the units from u on can cost at least and at most, by group: branches that cannot keep a budget are cut.
  const std::size_t groups = s.budget.size(), n = s.units.size();
  std::vector<std::int64_t> low((n + 1) * groups), high((n + 1) * groups), left = s.budget;
  for (std::size_t u = n; u-- > 0;)
    for (std::size_t k = 0; k < groups; ++k) {
      const bool in = s.units[u].group == k;
      low[u * groups + k] = low[(u + 1) * groups + k] + (in ? s.units[u].cost.front() : 0);
      high[u * groups + k] = high[(u + 1) * groups + k] + (in ? s.units[u].cost.back() : 0);
    }
  bool over = false;
  const auto descend = [&](const auto& self, std::size_t u) -> void {
    if (over) return;
    if (u == n) {
      if (out.size() == most) over = true;
      if (!over) out.push_back(g);
      return;
    }
    const std::size_t k = s.units[u].group;
    for (std::size_t l = 0; l < s.units[u].cost.size(); ++l) {
      const std::int64_t rest = left[k] - s.units[u].cost[l];
      if (rest < low[(u + 1) * groups + k] || rest > high[(u + 1) * groups + k]) continue;
      left[k] = rest;
      g[u] = static_cast<std::uint16_t>(l);
      self(self, u + 1);
      left[k] += s.units[u].cost[l];
    }
  };
  descend(descend, 0);
  if (over) return error("quern::all_genomes: more than ", most, " genomes keep the budget; search instead");
  return out;
}

/// Measures every genome of a small space on one minibatch of @p samples.
/// @returns all of them, best first, or the errors of all_genomes() and race()
template <class Evaluate>
result<std::vector<measured>> brute_force(const search_space& s, std::size_t most, std::size_t samples,
                                          Evaluate&& evaluate, std::uint64_t seed) {
  auto all = all_genomes(s, most);
  if (!all) return all.error();
  rng random(seed);
  evaluation_counts counts;
  const stage only{all->size(), samples};
  return race(std::move(*all), {}, std::span(&only, 1), evaluate, random, counts);
}

/// The best of @p count random genomes, each @p switches mutations away from the uniform one, on one minibatch.
template <class Evaluate>
result<measured> best_of(const search_space& s, std::size_t count, std::size_t samples, Evaluate&& evaluate,
                         std::uint64_t seed, std::size_t switches = 0) {
  if (auto ok = check(s); !ok) return ok.error();
  rng random(seed);
  evaluation_counts counts;
  std::vector<genome> some;
  for (std::size_t i = 0; i < count; ++i) some.push_back(random_genome(s, random, switches));
  const stage only{1, samples};
  auto best = race(std::move(some), {}, std::span(&only, 1), evaluate, random, counts);
  if (!best) return best.error();
  return std::move(best->front());
}

/// From the highest levels down to an exact budget, one unit by one level at a time, whichever leaves the best fitness:
/// for drops SLEB (arXiv 2402.09025), which measures again after every drop. What the last stage leaves is carried
/// along (a beam), each of them lowered in all ways. For n units and k steps down about n k evaluations times the beam.
/// @param stages  the selection of one step, see race(); a fresh minibatch per stage and step
/// @returns the best, with the fitness of its last minibatch, or an error: if the rule is not exact or the budget pays
/// for the highest levels (there is nothing to lower), from check() of the space or the stages, or from race()
template <class Evaluate>
result<measured> greedy(const search_space& s, std::span<const stage> stages, Evaluate&& evaluate,
                        std::uint64_t seed) {
  if (auto ok = check(s); !ok) return ok.error();
  evolve_options selection;
  selection.stages.assign(stages.begin(), stages.end());
  if (auto ok = check(selection); !ok) return ok.error();
  if (s.rule != budget_rule::exact)
    return error("quern::greedy: only exact budgets are reached step by step");
  genome highest;
  for (const search_unit& u : s.units) highest.push_back(static_cast<std::uint16_t>(u.cost.size() - 1));
  if (conforms(s, highest)) return error("quern::greedy: the budget pays for the highest levels already");
  rng random(seed);
  evaluation_counts counts;
  std::vector<measured> beam{{std::move(highest), 0}};
  // A step of a group costs the same in all its units, so that every genome of the beam takes equally many.
  while (!conforms(s, beam.front().levels)) {
    std::vector<genome> lower;
    for (const measured& m : beam)
      for (std::size_t u = 0; u < s.units.size(); ++u) {
        const std::size_t group = s.units[u].group;
        if (m.levels[u] == 0 || group_cost(s, m.levels, group) == s.budget[group]) continue;
        genome g = m.levels;
        --g[u];
        if (std::find(lower.begin(), lower.end(), g) == lower.end()) lower.push_back(std::move(g));
      }
    auto best = race(std::move(lower), {}, stages, evaluate, random, counts);
    if (!best) return best.error();
    beam = std::move(*best);
  }
  return std::move(beam.front());
}

/// The genome with the least sum of errors within the budget, by dynamic programming: the assumption that errors of
/// layers add up (SPDY, arXiv 2201.13096), which EvoPress does without. Gates stay open. Exact budgets are solved
/// exactly; for at_most the budget is cut into @p buckets and costs are rounded up, so that the result is within
/// units / buckets of the budget below the best, then raised by the steps that gain most while they fit.
/// @param errors  [units][levels]; finite
/// @returns an error for errors that are not finite or do not match the units, or what check() says
inline result<genome> knapsack(const search_space& s, const std::vector<std::vector<double>>& errors,
                               std::size_t buckets = 20000) {
  if (auto ok = check(s); !ok) return ok.error();
  const std::size_t n = s.units.size();
  for (std::size_t u = 0; u < n; ++u) {
    if (errors.size() != n || errors[u].size() != s.units[u].cost.size())
      return error("quern::knapsack: unit ", u, " ('", s.units[u].name,
                   "') must have an error for every level");
    for (const double e : errors[u])
      if (!std::isfinite(e))
        return error("quern::knapsack: unit ", u, " ('", s.units[u].name, "') has a NaN error");
  }
  constexpr double never = std::numeric_limits<double>::infinity();
  genome g(n);
  for (std::size_t group = 0; group < s.budget.size(); ++group) {
    std::vector<std::size_t> members;
    std::int64_t low = 0, step = 1;
    for (std::size_t u = 0; u < n; ++u) {
      if (is_gate(s, u))
        g[u] = 1;
      else if (s.rule == budget_rule::at_most || s.units[u].group == group) {
        members.push_back(u);
        low += s.units[u].cost[0];
        if (s.rule == budget_rule::exact && s.units[u].cost.size() > 1)
          step = s.units[u].cost[1] - s.units[u].cost[0];
      }
    }
    const std::int64_t spare = s.budget[group] - low;
    if (spare < 0)
      return error("quern::knapsack: with all gates open the least cost is ", low, ", above the budget");
    if (s.rule == budget_rule::at_most)
      step = std::max<std::int64_t>(1, spare / static_cast<std::int64_t>(buckets));
    const auto places = static_cast<std::size_t>(spare / step);
    std::vector<double> best(places + 1, 0.0), next(places + 1);
    std::vector<std::vector<std::uint16_t>> choice;  // [members][places + 1]
    const auto price = [&](std::size_t u, std::size_t l) {
      return static_cast<std::size_t>((s.units[u].cost[l] - s.units[u].cost[0] + step - 1) / step);
    };
    if (s.rule == budget_rule::exact) std::fill(best.begin() + 1, best.end(), never);
    for (const std::size_t u : members) {
      auto& taken = choice.emplace_back(places + 1);
      std::fill(next.begin(), next.end(), never);
      for (std::size_t l = 0; l < s.units[u].cost.size(); ++l)
        for (std::size_t p = price(u, l); p <= places; ++p)
          if (best[p - price(u, l)] + errors[u][l] < next[p]) {
            next[p] = best[p - price(u, l)] + errors[u][l];
            taken[p] = static_cast<std::uint16_t>(l);
          }
      std::swap(best, next);
    }
    std::size_t p = places;
    for (std::size_t i = members.size(); i-- > 0;) {
      g[members[i]] = choice[i][p];
      p -= price(members[i], choice[i][p]);
    }
    if (s.rule == budget_rule::exact) continue;
    // What rounding up left over.
    for (;;) {
      std::size_t most = n;
      double gain = -never;
      for (const std::size_t u : members) {
        if (g[u] + 1u >= s.units[u].cost.size() ||
            step_cost(s, g, u, g[u] + 1u) > s.budget[0] - total_cost(s, g))
          continue;
        if (const double d = errors[u][g[u]] - errors[u][g[u] + 1u]; d > gain) gain = d, most = u;
      }
      if (most == n || (gain <= 0 && s.budget[0] - total_cost(s, g) < largest_step(s))) break;
      ++g[most];
    }
  }
  return g;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
