// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::training_settings t;
// llama::add_training_options(app, t);       // --bqpo, --e2e and what belongs to them

#include <CLI/CLI.hpp>
#include <llama/block_training.hpp>
#include <llama/option_range.hpp>
#include <llama/tune_model.hpp>
#include <string>

namespace llama {

/// GQSA's two stages on the command line.
struct training_settings {
  bool bqpo = false;
  block_training_options blocks;
  tune_plan end_to_end{.tune = {.steps = 0}};
  std::string checkpoint;
  bool resume = false;
  std::uint64_t seed = 0;
};

inline void add_training_options(CLI::App& app, training_settings& s) {
  const char* const group = "Training";
  const CLI::Validator rate = finite(0, most_rate), batch = count(1, most_sequences);
  const auto rates = [&](const std::string& prefix, quern::training_rates& r, const std::string& stage) {
    app.add_option(prefix + "scale", r.scale, stage + ": rate of scales, in parts of their start")
        ->check(rate)
        ->group(group);
    app.add_option(prefix + "zero", r.zero, stage + ": rate of zeros, in codes")->check(rate)->group(group);
    app.add_option(prefix + "row", r.row_scale, stage + ": rate of the row scales of two-level scales")
        ->check(rate)
        ->group(group);
  };
  quern::bqpo_options& b = s.blocks.bqpo;
  app.add_flag("--bqpo", s.bqpo, "train every block after compressing it (GQSA's first stage)")->group(group);
  app.add_option("--epochs", b.epochs, "bqpo: passes over the calibration windows")
      ->check(count(0, 10'000))
      ->group(group);
  app.add_option("--batch", b.batch, "bqpo: windows per step")->check(batch)->group(group);
  app.add_option("--validation", b.validation, "bqpo: windows held back to choose the best epoch")
      ->check(count(0, most_windows))
      ->group(group);
  app.add_option("--patience", b.patience, "bqpo: epochs without a better one before it stops")
      ->check(count(0, 10'000))
      ->group(group);
  app.add_option("--rate-weight", b.rates.weight, "bqpo: rate of weights, in their root mean square")
      ->check(rate)
      ->group(group);
  rates("--rate-", b.rates, "bqpo");
  app.add_flag("--halves", s.blocks.halves, "bqpo: attention and MLP apart")->group(group);
  app.add_option("--pull", s.blocks.pull,
                 "bqpo: start this far towards the dense weights, inside their codes")
      ->check(finite(0, 0.99))
      ->group(group);
  app.add_flag_callback(
         "--squared", [&b] { b.loss = quern::block_loss::squared; },
         "bqpo: squared error of the block, not relative to each position")
      ->group(group);
  quern::tune_options& t = s.end_to_end.tune;
  app.add_option("--e2e", t.steps,
                 "steps that tune the scales end to end, codes fixed (second stage); 0: none")
      ->check(count(0, most_steps))
      ->group(group);
  app.add_option("--e2e-batch", t.batch, "e2e: windows per step")->check(batch)->group(group);
  rates("--e2e-rate-", t.rates, "e2e");
  app.add_option("--kl", s.end_to_end.distill,
                 "e2e: share of the divergence from the dense model in the loss")
      ->check(finite(0, 1))
      ->group(group);
  app.add_option("--every", s.end_to_end.every, "e2e: steps between checkpoints")
      ->check(count(1, most_steps))
      ->group(group);
  app.add_option("--checkpoint", s.checkpoint,
                 "file of finished blocks; with .e2e behind it, of the second stage")
      ->group(group);
  app.add_flag("--resume", s.resume, "go on from --checkpoint, bit for bit; start anew where there is none")
      ->group(group);
  app.add_option("--seed", s.seed, "of the windows and their order; 0: the first windows of the text")
      ->check(any_seed())
      ->group(group);
}

}  // namespace llama
