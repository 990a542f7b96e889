// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/evolve_model.hpp>
#include <llama/evolve_task.hpp>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>

namespace llama {
namespace {

level_plan plan_of(const evolve_settings& s, const model& m) {
  level_plan plan;
  plan.context = s.fitness.context, plan.windows = s.calibration_windows;
  plan.sink_weight = s.sink_weight, plan.options.refine = s.refine;
  const bool groups = s.task == "groups";
  if (s.task == "bits") plan.recipes = bit_recipes(2, 8, s.run);
  if (s.task == "joint") plan.recipes = joint_recipes();
  if (s.task == "sparsity" || groups) {
    const auto mean = static_cast<std::int64_t>(block_weights(m) / (m.shape.layers * 7));
    // Steps half as large end alike, of a third are behind (docs/results/evopress.md).
    const std::int64_t delta = s.delta > 0 ? s.delta : mean / 32, unit = groups ? 16 : 1;
    quern::require(delta >= unit, "evolve: --delta must be at least ", unit);
    quern::require(s.target > 0 && s.target < 1, "evolve: --target is the share removed, 0 to 1");
    plan.recipes =
        density_recipes(groups ? "group<16>" : "bitmap", 1 - s.target, delta / unit * unit, s.steps);
  }
  return plan;
}

}  // namespace

std::size_t predicted_database(const evolve_settings& s, const model& m) {
  return s.task == "depth" ? 0 : bytes_of(level_db::describe(m, plan_of(s, m)).value());
}

prepared_search prepare_levels(const evolve_settings& s, const model& m, std::span<const std::int32_t> ids,
                               const std::function<bool(std::size_t, std::size_t)>& progress,
                               quern::thread_pool& pool) {
  prepared_search out;
  quern::require(s.task == "joint" || (s.only.empty() && !s.keep_halves && !s.all_levels && !s.time),
                 "evolve: --only, --keep-halves, --all-levels and --time belong to --task joint");
  quern::require(s.task == "depth" || !s.packed,
                 "evolve: --packed belongs to --task depth: levels are made of floats");
  // Before levels are made, which can take hours.
  quern::require(!s.greedy || (s.task != "joint" && (s.task != "bits" || s.group != quern::grouping::none)),
                 "evolve: --greedy takes an exact budget, not the bytes of --task joint or --group none");
  if (s.task == "depth") return out;
  out.predicted_bytes = predicted_database(s, m);
  out.db = std::make_unique<level_db>(level_db::make(m, ids, plan_of(s, m), s.db, pool, progress).value());
  out.database_bytes = out.db->bytes();
  return out;
}

void prepare_task(prepared_search& p, const evolve_settings& s, const model& m,
                  const std::vector<std::vector<std::int64_t>>& times) {
  const auto weights = static_cast<double>(block_weights(m));
  const joint_choice may{s.all_levels ? quern::level_choice::every_cost : quern::level_choice::front, s.only,
                         !s.keep_halves};
  if (s.task == "depth") {
    const auto unit = s.unit == "halves"   ? drop_unit::halves
                      : s.unit == "blocks" ? drop_unit::blocks
                                           : drop_unit::pairs;
    const bool counted = s.attn + s.ffn > 0;
    const std::size_t n = drop_count(m.shape.layers / (s.unit == "pairs" ? 2 : 1), s.target);
    p.task = depth_task(m, unit, counted ? s.attn : n, counted ? s.ffn : n).value();
  } else if (s.task == "bits") {
    p.task = bits_task(*p.db, s.target, s.group).value();
  } else if (s.task == "joint" && s.time) {
    double four = 0;
    for (const auto& row : times) four += static_cast<double>(row[2]);
    p.task = joint_task(*p.db, static_cast<std::int64_t>(s.target * four), times, may).value();
  } else if (s.task == "joint") {
    p.task = joint_task(*p.db, static_cast<std::int64_t>(s.target * weights / 8), {}, may).value();
  } else {
    p.task = density_task(*p.db).value();
  }
}

quern::evolve_options search_options(const evolve_settings& s, const search_task& task, std::size_t tokens) {
  std::size_t pairs = 0;
  for (const std::int64_t kept : task.space.budget) {
    const auto n = task.space.units.size() / task.space.budget.size(), k = n - static_cast<std::size_t>(kept);
    if (s.task == "depth") pairs += k * (n - k);
  }
  quern::evolve_options o = preset(s.preset, s.task, pairs, tokens).value();
  if (s.generations != 0) o.generations = s.generations;
  if (s.offspring != 0) o.offspring = s.offspring;
  if (!s.survivors.empty() || !s.tokens.empty()) {
    quern::require(s.survivors.size() == s.tokens.size(),
                   "evolve: --survivors and --tokens must have equally many stages");
    o.stages.clear();
    for (std::size_t i = 0; i < s.tokens.size(); ++i) o.stages.push_back({s.survivors[i], s.tokens[i]});
  }
  o.mutate = s.mutate;
  o.seed = s.seed;
  return o;
}

std::uint64_t search_mark(const evolve_settings& s, const model& m, std::span<const std::int32_t> ids,
                          const search_task& task, const quern::evolve_options& o, std::size_t tokens) {
  fingerprint f;
  f.add("task", s.task).add("measure", s.fitness.measure).add("top", s.fitness.top);
  f.add("context", s.fitness.context).add("tokens", tokens).add("piece", s.fitness.piece).add("unit", s.unit);
  const std::size_t seen = std::max(tokens, s.calibration_windows * s.fitness.context);
  f.add("ids", hash_of(ids.first(std::min(seen, ids.size())))).add("weights", hash_of(m));
  hash levels;  // by their names and what they lose, which depends on all they were made of
  for (const quern::level_unit& u : task.table) {
    levels.add(u.name), levels.add(u.weights);
    for (const quern::level_info& l : u.levels) levels.add(l.label), levels.add(l.cost), levels.add(l.error);
  }
  return quern::fingerprint(task.space, o, f.add("levels", levels.text()).text());
}

}  // namespace llama
