// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::train_options run;
// llama::add_run_options(app, run);       // --steps, --rate, --seed and the like

#include <CLI/CLI.hpp>
#include <llama/option_range.hpp>
#include <llama/trainer.hpp>

namespace llama {

/// The run of a program that trains all weights: `train`, `retrain`.
inline void add_run_options(CLI::App& app, train_options& run) {
  const CLI::Validator rate = finite(least_rate, most_rate), rate_or_none = finite(0, most_rate);
  app.add_option("--steps", run.steps)->check(count(1, most_steps));
  app.add_option("--batch", run.batch, "sequences per step, over all lanes in turn")
      ->check(count(1, most_sequences));
  app.add_option("--lanes", run.lanes, "gradient buffers; the result depends on it")->check(count(1, 1024));
  app.add_option("--rate", run.peak_rate, "peak learning rate")->check(rate);
  app.add_option("--floor", run.floor_rate, "learning rate of the last step")->check(rate_or_none);
  app.add_option("--warmup", run.warmup, "steps to reach the peak")->check(count(0, most_steps));
  app.add_option("--beta2", run.adamw.beta2)->check(finite(0, 0.999999));
  app.add_option("--decay", run.adamw.weight_decay, "weight decay of matrices")->check(rate_or_none);
  app.add_option("--clip", run.clip, "largest norm of the gradient")->check(rate);
  app.add_option("--seed", run.seed)->check(any_seed());
}

}  // namespace llama
