// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto done = llama::retrain_run(retrainer, {.log = "run.jsonl"}, held_out_ids, pool, save_model, progress);

#include <cstdint>
#include <functional>
#include <llama/retrainer.hpp>
#include <optional>
#include <span>
#include <string>

namespace llama {

/// Files and rhythm of a run; empty names are not written.
struct run_files {
  std::string checkpoint = {};     ///< state of the run, every save_every steps and where it is stopped
  std::string log = {};            ///< one JSON object a line: every step, every held-out loss
  std::string svg = {};            ///< charts: NAME.loss.svg and NAME.flips.svg
  std::string best = {};           ///< the model with the lowest held-out loss
  std::uint64_t every = 50;        ///< steps between held-out losses
  std::uint64_t save_every = 100;  ///< steps between checkpoints
  std::size_t windows = 16;        ///< held-out windows of those; 0: all
  std::size_t final_windows = 0;   ///< of the last one
};

struct run_outcome {
  bool interrupted = false;         ///< `progress` asked to stop; the rest is not filled in then
  std::optional<double> start_nll;  ///< held-out loss before the first step; of a run from its start only
  double nll = 0;                   ///< and at the end
  double early_flips = 0;           ///< mean flip rate of the first three mask updates
  double final_flips = 0,
         drift = 0;              ///< flip rates of the last one, since the one before and since the start
  double tokens_per_second = 0;  ///< of the steps, without measuring and saving
};

/// Trains to the last step. A run that was resumed goes on with its log.
/// @param held        text to measure on
/// @param save_model  writes the model as it is to a path
/// @param progress    called with the number of steps that are done; false stops
/// @throws what stands against it: a loss that is no number, a file that cannot be written. Where that is the log or the
/// best model, the checkpoint is written first.
run_outcome retrain_run(retrainer& r, const run_files& files, std::span<const std::int32_t> held,
                        quern::thread_pool& pool, const std::function<void(const std::string&)>& save_model,
                        const std::function<bool(std::uint64_t)>& progress);

}  // namespace llama
