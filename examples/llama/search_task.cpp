// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <llama/packed.hpp>
#include <llama/search_task.hpp>
#include <map>
#include <memory>

namespace llama {
namespace {

using quern::error;
using quern::result;

/// The half of a linear, as candidate_runner counts them.
std::size_t half_of(const linear_levels& l) { return 2 * l.layer + (l.index < 4 ? 0 : 1); }

/// Takes one half out of a block, or puts that of @p from back.
void set_half(block& b, bool ffn, const block* from) {
  const std::size_t first = ffn ? 4 : 0, end = ffn ? std::size(block_linears) : 4;
  for (std::size_t i = first; i < end; ++i) {
    linear block::*w = block_linears[i].weight;
    b.*w = from != nullptr ? from->*w : linear();
  }
}

/// Units, names and levels of a database; the levels of each unit in the order of their cost.
search_task level_units(const level_db& db, const std::vector<std::vector<std::int64_t>>& cost,
                        const joint_choice& may = {.keep = quern::level_choice::every_cost}) {
  search_task out;
  auto choice = std::make_shared<std::vector<std::vector<std::size_t>>>();  // [units][levels] of the database
  for (std::size_t i = 0; i < db.linears().size(); ++i) {
    const linear_levels& l = db.linears()[i];
    quern::level_unit unit{.name = l.name, .weights = l.rows * l.cols};
    std::vector<std::size_t> allowed;  // [levels of the unit] of the database
    for (std::size_t v = 0; v < l.levels.size(); ++v) {
      const std::string& name = db.plan().recipes[l.levels[v].recipe].name;
      if (!may.only.empty() && std::find(may.only.begin(), may.only.end(), name) == may.only.end()) continue;
      unit.levels.push_back({name, cost[i][v], l.levels[v].error});
      allowed.push_back(v);
    }
    auto& kept = choice->emplace_back();
    for (const std::size_t v : quern::sort_levels(unit, may.keep)) kept.push_back(allowed[v]);
    out.half_of.push_back(half_of(l));
    out.table.push_back(std::move(unit));
  }
  out.assemble = [&db, choice](const genome& g, model& m) {
    for (std::size_t i = 0; i < choice->size(); ++i) {
      const linear_levels& l = db.linears()[i];
      m.blocks[l.layer].*block_linears[l.index].weight = db.at(i, (*choice)[i][g[i]]);
    }
  };
  return out;
}

/// The uniform start of a joint search: every linear takes the best level that its share of the budget, by weights,
/// pays for; steps of random units settle what is left or missing.
genome equal_shares(const search_task& task) {
  const auto gate = [](const quern::level_unit& u) { return u.levels.front().label == "dropped"; };
  double weights = 0;
  for (const quern::level_unit& u : task.table) weights += gate(u) ? 0 : static_cast<double>(u.weights);
  genome g;
  for (const quern::level_unit& u : task.table) {
    const double share = static_cast<double>(task.space.budget[0]) * static_cast<double>(u.weights) / weights;
    std::uint16_t level = gate(u) ? 1 : 0;
    while (level + 1u < u.levels.size() && static_cast<double>(u.levels[level + 1u].cost) <= share) ++level;
    g.push_back(level);
  }
  quern::rng random(1);
  quern::settle(task.space, g, std::vector<bool>(g.size()), 0, random);
  return g;
}

}  // namespace

std::size_t block_bytes(const model& m) {
  std::size_t sum = 0;
  for (const block& b : m.blocks)
    for (const named_linear& l : block_linears)
      if (b.*l.weight) sum += (b.*l.weight).bytes();
  return sum;
}

std::size_t block_weights(const model& m) {
  std::size_t sum = 0;
  for (const block& b : m.blocks)
    for (const named_linear& l : block_linears)
      if (b.*l.weight) sum += (b.*l.weight).rows() * (b.*l.weight).cols();
  return sum;
}

std::size_t drop_count(std::size_t n, double share) {
  // 1e-9: a share of 1/6 of 30 is 5.
  const double wanted = share * static_cast<double>(n) + 1e-9;
  return wanted > 0 && wanted <= static_cast<double>(n) + 1e-6 ? static_cast<std::size_t>(wanted) : 0;
}

result<search_task> depth_task(const model& m, drop_unit unit, std::size_t attn, std::size_t ffn) {
  const std::size_t layers = m.shape.layers, step = unit == drop_unit::pairs ? 2 : 1, count = layers / step;
  const bool halves = unit == drop_unit::halves;
  const std::size_t most = std::max(attn, halves ? ffn : 0);
  if (most == 0 || most >= count)
    return error("llama::depth_task: ", most, " of ", count,
                 " units cannot be dropped; nearest possible: ", most == 0 ? 1 : count - 1);
  search_task out;
  for (std::size_t kind = 0; kind < (halves ? 2 : 1); ++kind)
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name = "blk." + std::to_string(i * step) +
                               (!halves     ? ""
                                : kind == 0 ? ".attn"
                                            : ".ffn");
      out.table.push_back({.name = name, .levels = {{"dropped", 0, 1}, {"kept", 1, 0}}});
      out.half_of.push_back(2 * i * step + kind);
    }
  std::vector<std::int64_t> left{static_cast<std::int64_t>(count - attn)};
  if (halves) left.push_back(static_cast<std::int64_t>(count - ffn));
  out.space = quern::space_of(out.table, quern::budget_rule::exact, std::move(left));
  for (std::size_t u = count; u < out.space.units.size(); ++u) out.space.units[u].group = 1;
  const auto dense = std::make_shared<const model>(m);
  out.assemble = [dense, count, step, halves](const genome& g, model& target) {
    for (std::size_t l = 0; l < target.blocks.size(); ++l)
      for (std::size_t kind = 0; kind < 2; ++kind) {
        const bool drop = l / step < count && g[l / step + (halves ? kind * count : 0)] == 0;
        set_half(target.blocks[l], kind == 1, drop ? nullptr : &dense->blocks[l]);
      }
  };
  return out;
}

genome drop_lowest(const search_task& task, std::span<const double> scores) {
  genome g(task.space.units.size(), 1);
  for (std::size_t group = 0; group < task.space.budget.size(); ++group)
    while (quern::group_cost(task.space, g, group) > task.space.budget[group]) {
      std::size_t least = g.size();
      for (std::size_t u = 0; u < g.size(); ++u)
        if (g[u] != 0 && task.space.units[u].group == group &&
            (least == g.size() || scores[u] < scores[least]))
          least = u;
      g[least] = 0;
    }
  return g;
}

std::vector<double> unit_scores(const search_task& task, std::span<const double> half_scores) {
  std::vector<double> out;
  for (const std::size_t half : task.half_of) out.push_back(half_scores[half]);
  return out;
}

result<search_task> bits_task(const level_db& db, double target, quern::grouping by) {
  std::vector<std::vector<std::int64_t>> cost;
  for (const linear_levels& l : db.linears()) {
    auto& row = cost.emplace_back();
    for (const linear_levels::level& v : l.levels)
      row.push_back(std::atoll(db.plan().recipes[v.recipe].name.c_str()) *
                    static_cast<std::int64_t>(l.rows * l.cols));
  }
  search_task out = level_units(db, cost);
  std::int64_t low = 0, high = 0, all = 0;
  for (const quern::level_unit& u : out.table) {
    low += u.levels.front().cost, high += u.levels.back().cost;
    all += static_cast<std::int64_t>(u.weights);
  }
  const double least = static_cast<double>(low) / static_cast<double>(all);
  const double most = static_cast<double>(high) / static_cast<double>(all);
  if (!(target >= least && target <= most))
    return error("llama::bits_task: a target of ", target,
                 " bits is impossible; nearest possible: ", target < least ? least : most);
  if (by == quern::grouping::none) {
    out.space = quern::space_of(out.table, quern::budget_rule::at_most,
                                {static_cast<std::int64_t>(target * static_cast<double>(all) + 1e-6)});
  } else {
    out.space = quern::space_of(out.table, quern::budget_rule::exact, {});
    const std::size_t groups = quern::set_groups(out.space, by);
    for (std::size_t k = 0; k < groups; ++k) {
      std::int64_t count = 0, weights = 0;
      const quern::search_unit* one = nullptr;
      for (const quern::search_unit& u : out.space.units)
        if (u.group == k) ++count, weights += static_cast<std::int64_t>(u.size), one = &u;
      const double steps = target * static_cast<double>(count);
      if (std::abs(steps - std::round(steps)) > 1e-6)
        return error("llama::bits_task: the ", count, " layers like '", one->name, "' cannot have ", target,
                     " bits on average; nearest possible: ", std::floor(steps) / static_cast<double>(count),
                     " or ", std::ceil(steps) / static_cast<double>(count));
      out.space.budget.push_back(std::llround(steps) * (weights / count));
    }
  }
  if (const auto ok = quern::check(out.space); !ok) return ok.error();
  genome uniform(out.table.size());
  for (std::size_t u = 0; u < uniform.size(); ++u)
    while (uniform[u] + 1u < out.table[u].levels.size() &&
           out.table[u].levels[uniform[u] + 1u].cost <=
               std::llround(target * static_cast<double>(out.table[u].weights)))
      ++uniform[u];
  if (quern::conforms(out.space, uniform)) out.start.push_back(std::move(uniform));
  return out;
}

result<search_task> density_task(const level_db& db) {
  std::vector<std::vector<std::int64_t>> cost;
  genome uniform;
  std::int64_t budget = 0;
  for (const linear_levels& l : db.linears()) {
    auto& row = cost.emplace_back();
    for (const linear_levels::level& v : l.levels) {
      if (db.plan().recipes[v.recipe].fewer == 0) {
        uniform.push_back(static_cast<std::uint16_t>(row.size()));
        budget += static_cast<std::int64_t>(v.kept);
      }
      row.push_back(static_cast<std::int64_t>(v.kept));
    }
  }
  search_task out = level_units(db, cost);
  out.space = quern::space_of(out.table, quern::budget_rule::exact, {budget});
  if (const auto ok = quern::check(out.space); !ok) return ok.error();
  out.start.push_back(std::move(uniform));
  return out;
}

result<search_task> joint_task(const level_db& db, std::int64_t budget,
                               const std::vector<std::vector<std::int64_t>>& given, const joint_choice& may) {
  for (const std::string& name : may.only) {
    const auto& recipes = db.plan().recipes;
    if (std::any_of(recipes.begin(), recipes.end(), [&](const level_recipe& r) { return r.name == name; }))
      continue;
    std::string names;
    for (const level_recipe& r : recipes) names += (names.empty() ? "'" : ", '") + r.name + '\'';
    return error("llama::joint_task: there is no level '", name, "'; there are ", names);
  }
  std::vector<std::vector<std::int64_t>> cost = given;
  if (cost.empty())
    for (const linear_levels& l : db.linears()) {
      auto& row = cost.emplace_back();
      for (const linear_levels::level& v : l.levels) row.push_back(static_cast<std::int64_t>(v.bytes));
    }
  search_task out = level_units(db, cost, may);
  const std::size_t linears = out.table.size();
  std::vector<std::size_t> gate_of;  // [2 * layers] unit of a half
  for (std::size_t i = 0; may.drop && i < linears; ++i) {
    const std::size_t half = out.half_of[i];
    if (gate_of.size() <= half) gate_of.resize(half + 1, 0);
    if (gate_of[half] == 0) {
      gate_of[half] = out.table.size();
      const linear_levels& l = db.linears()[i];
      out.table.push_back({.name = "blk." + std::to_string(l.layer) + (l.index < 4 ? ".attn" : ".ffn"),
                           .levels = {{"dropped", 0, 1}, {"kept", 0, 0}}});
      out.half_of.push_back(half);
    }
    out.table[i].gate = gate_of[half];
  }
  out.space = quern::space_of(out.table, quern::budget_rule::at_most, {budget});
  if (const auto ok = quern::check(out.space); !ok) return ok.error();
  out.start.push_back(equal_shares(out));
  out.assemble = [base = out.assemble, halves = out.half_of, linears](const genome& g, model& m) {
    base(g, m);
    for (std::size_t u = linears; u < g.size(); ++u)
      if (g[u] == 0) set_half(m.blocks[halves[u] / 2], halves[u] % 2 == 1, nullptr);
  };
  return out;
}

}  // namespace llama
