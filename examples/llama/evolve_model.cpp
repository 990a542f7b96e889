// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <llama/evolve_model.hpp>
#include <llama/svg.hpp>
#include <llama/text_file.hpp>

namespace llama {

using quern::error;
using quern::io_error;
using quern::result;

namespace {

double preset_scale(const quern::evolve_options& o, std::size_t tokens) {
  return std::min(1.0, static_cast<double>(tokens) / static_cast<double>(o.stages.back().samples));
}

}  // namespace

result<quern::evolve_options> preset(const std::string& name, const std::string& task, std::size_t pairs,
                                     std::size_t tokens) {
  quern::evolve_options o;
  const bool depth = task == "depth", sparse = task == "sparsity" || task == "groups";
  // The scripts of EvoPress (section 4, appendix): generations, children, survivors, tokens.
  if (name == "paper" || name == "small") {
    o.generations = depth ? std::max<std::size_t>(1, pairs * 2 / 3) : sparse ? 400 : 150;
    o.offspring = depth ? 32 : sparse ? 64 : 128;
    o.stages = depth    ? std::vector<quern::stage>{{2, 2048}, {1, 32768}}
               : sparse ? std::vector<quern::stage>{{8, 2048}, {2, 16384}, {1, 65536}}
                        : std::vector<quern::stage>{{16, 2048}, {4, 16384}, {1, 131072}};
  } else if (name == "fast") {
    o.generations = 400, o.offspring = 16;
    o.stages = {{1, 512}, {1, 8192}};
  } else {
    return error("llama::preset: there is no '", name, "'; choose paper, fast or small");
  }
  if (name == "small") {
    o.generations = depth ? std::min<std::size_t>(o.generations, 20) : sparse ? 35 : 25;
    o.offspring = depth ? 32 : 16;
    // Drops: of 10 searches, 8 found the best of 4,900 subsets with one parent, all with two (docs/results/evopress.md).
    o.stages = depth ? std::vector<quern::stage>{{4, 2048}, {2, 32768}}
                     : std::vector<quern::stage>{{4, 512}, {2, 2048}, {1, 8192}};
  }
  const double scale = preset_scale(o, tokens);
  const auto scaled = [&](std::size_t n) {
    return std::max<std::size_t>(2, static_cast<std::size_t>(scale * static_cast<double>(n)));
  };
  for (quern::stage& s : o.stages) s.samples = scaled(s.samples);
  o.initial = name == "paper" ? 64 : 32;
  o.initial_samples = scaled(2048);
  return o;
}

std::string describe(const quern::evolve_options& o) {
  std::string out = std::to_string(o.generations) + " generations of " + std::to_string(o.offspring) +
                    " offspring, survivors@tokens";
  for (const quern::stage& s : o.stages)
    out += ' ' + std::to_string(s.survivors) + '@' + std::to_string(s.samples);
  return out + "; begins with the best of " + std::to_string(o.initial) + '@' +
         std::to_string(o.initial_samples);
}

result<std::string> scaling_of(const std::string& name, const std::string& task, std::size_t tokens) {
  const auto whole = preset(name, task, 0, std::numeric_limits<std::size_t>::max());
  if (!whole) return whole.error();
  const double scale = preset_scale(*whole, tokens);
  if (scale == 1) return std::string();
  char factor[16];
  std::snprintf(factor, sizeof factor, "%.3g", scale);
  return "preset " + name + ": tokens are " + factor + " times its own, which end with " +
         std::to_string(whole->stages.back().samples) + "; the text has " + std::to_string(tokens) +
         " (--text-tokens)";
}

namespace {

/// Whether the budget holds without dropping anything: errors of layers do not say what a dropped half costs.
bool keeps_all_halves(const quern::search_space& s) {
  std::int64_t least = 0, budget = 0;
  for (const std::int64_t b : s.budget) budget += b;
  for (std::size_t u = 0; u < s.units.size(); ++u)
    if (!quern::is_gate(s, u)) least += s.units[u].cost.front();
  return least <= budget;
}

}  // namespace

result<std::vector<rival>> level_rivals(const search_task& task, const level_db& db, const model& dense,
                                        std::span<const std::int32_t> ids, double owl_density,
                                        quern::thread_pool& pool) {
  std::vector<rival> out;
  if (!task.start.empty()) out.push_back({"uniform", task.start.front()});
  if (keeps_all_halves(task.space)) {
    auto dp = quern::knapsack(task.space, quern::errors_of(task.table));
    if (!dp) return dp.error();
    out.push_back({"dynamic programming", std::move(*dp)});
  }
  if (owl_density > 0) {
    // The middle of the grid that its authors search (m 3 to 10, lambda .02 to .2).
    const std::size_t windows = std::min<std::size_t>(32, ids.size() / db.plan().context);
    const auto ratios = outlier_ratios(dense, ids, db.plan().context, windows, 5, pool);
    if (!ratios) return ratios.error();
    out.push_back({"OWL", owl_levels(task, db, *ratios, owl_density, 0.08)});
  }
  return out;
}

std::vector<rival> depth_rivals(const search_task& task, const model& dense,
                                std::span<const std::int32_t> ids, std::size_t n, std::size_t samples,
                                candidate_runner& run, quern::thread_pool& pool) {
  const std::size_t context = std::min<std::size_t>(256, dense.shape.context);
  const std::size_t windows = std::max<std::size_t>(1, std::min<std::size_t>(8, ids.size() / context));
  const stream_scores s = score_streams(dense, ids, context, windows, pool);
  const std::vector<double> single = single_drop_scores(task, samples, run);
  return {{"ShortGPT, blocks by cosine", drop_blocks(task, s.block_cosine, n)},
          {"window cosine", drop_window(task, s, n)},
          {"weight subcloning, norm ratio", drop_lowest(task, unit_scores(task, s.ratio))},
          {"halves by cosine", drop_lowest(task, unit_scores(task, s.cosine))},
          {"Shortened LLaMA, fitness", drop_lowest(task, single)}};
}

std::string convergence_svg(const quern::evolve_state& state, const std::string& title) {
  svg_chart c{.title = title, .x_label = "generation", .y_label = "fitness of the best, nats"};
  svg_series line{.name = "", .points = {}, .line = true};
  for (const quern::generation_record& r : state.history)
    line.points.push_back({.x = static_cast<double>(r.generation), .y = r.fitness});
  c.series.push_back(std::move(line));
  return svg(c);
}

std::string levels_svg(const search_task& task, const genome& g, const std::string& y_label, double scale) {
  svg_chart c{.title = "Levels per layer", .x_label = "layer", .y_label = y_label};
  for (std::size_t u = 0; u < g.size(); ++u) {
    const std::string& name = task.table[u].name;
    const std::string kind = name.substr(name.rfind('.') + 1);
    auto at =
        std::find_if(c.series.begin(), c.series.end(), [&](const svg_series& s) { return s.name == kind; });
    if (at == c.series.end()) at = c.series.insert(at, {.name = kind, .points = {}, .line = true});
    const auto cost = static_cast<double>(quern::unit_cost(task.space, g, u));
    at->points.push_back({.x = static_cast<double>(task.half_of[u] / 2),
                          .y = scale * cost / static_cast<double>(task.table[u].weights)});
  }
  return svg(c);
}

result<quern::evolve_state> read_state(const std::string& path, const quern::search_space& space,
                                       std::uint64_t mark, std::uint64_t generations) {
  const auto text = read_text(path);
  if (!text) return io_error("llama::read_state: ", text.error().what(), ", or start without --resume");
  auto state = quern::parse_state(*text, space, mark, generations);
  if (!state) return io_error("llama::read_state: '", path, "': ", state.error().what());
  return state;
}

}  // namespace llama
