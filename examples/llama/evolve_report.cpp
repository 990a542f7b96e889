// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <llama/evaluate.hpp>
#include <llama/evolve_model.hpp>
#include <llama/evolve_report.hpp>
#include <llama/load.hpp>
#include <llama/search_text.hpp>
#include <llama/text_file.hpp>

namespace llama {

evolve_report::evolve_report(const evolve_settings& s, const model& m, const search_task& task,
                             const tokenizer& words, std::vector<std::int32_t> held)
    : settings_(s), task_(task), words_(words), work_(m), held_(std::move(held)) {}

void evolve_report::add(const std::string& name, const genome* g, double fitness, quern::thread_pool& pool) {
  if (g != nullptr) task_.assemble(*g, work_);
  const std::size_t context =
      settings_.held_context != 0 ? settings_.held_context : settings_.fitness.context;
  const double error = g == nullptr || settings_.task == "depth" ? 0 : quern::summed_error(task_.table, *g);
  double nll = 0;
  if (!held_.empty())
    nll = evaluate(work_, held_, {.context = context, .windows = settings_.windows}, pool).value().nll;
  nlohmann::ordered_json row{{"name", name},        {"block_bytes", block_bytes(work_)},
                             {"fitness", fitness},  {"summed_error", error},
                             {"held_out_nll", nll}, {"held_out_perplexity", std::exp(nll)}};
  if (g != nullptr) row["cost"] = quern::total_cost(task_.space, *g), row["levels"] = *g;
  std::printf("%-32s %11zu bytes  fitness %.5f  layer errors %.4f", name.c_str(), block_bytes(work_), fitness,
              error);
  if (!held_.empty()) std::printf("  held out %.5f nats, perplexity %.4f", nll, std::exp(nll));
  std::printf("\n");
  std::fflush(stdout);
  table_.push_back(std::move(row));
}

void evolve_report::write_winner(const quern::evolve_state& state) {
  const evolve_settings& s = settings_;
  const genome& best = state.parents[0].levels;
  task_.assemble(best, work_);
  const std::string text = as_text(task_, best, work_.shape.layers);
  if (!s.out.empty()) save(s.out, work_, words_, {{"quern.evolve", text}}).value();
  if (!s.config.empty()) write_text(s.config, text).value();
  if (!s.tensor_types.empty()) write_text(s.tensor_types, as_tensor_types(task_, best)).value();
  if (s.svg.empty()) return;
  const bool bytes = s.task == "joint" && !s.time;
  const char* const unit = bytes || s.task == "bits" ? "bits per weight"
                           : s.time                  ? "ns per weight"
                                                     : "share kept";
  write_text(s.svg + "-convergence.svg", convergence_svg(state, s.task)).value();
  write_text(s.svg + "-levels.svg", levels_svg(task_, best, unit, bytes ? 8 : 1)).value();
}

}  // namespace llama
