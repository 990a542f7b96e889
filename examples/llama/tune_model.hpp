// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::tune_plan plan{.tune = {.steps = 200}, .context = 512, .distill = 0.5f};
// auto report = llama::tune_model(m, &dense, ids, plan, pool, {}).value();   // scales of all packed linears

#include <functional>
#include <llama/model.hpp>
#include <quern/core/error.hpp>
#include <quern/train/scale_tune.hpp>
#include <span>
#include <string>

namespace llama {

/// How the scales of a compressed model are tuned end to end.
struct tune_plan {
  quern::tune_options tune = {};
  std::size_t context = 512;  ///< positions of a window
  /// Share of KL(dense || compressed) in the loss; the rest is the negative log likelihood of the next token.
  float distill = 0.0f;
  /// File with the state of the run, written every `every` steps and at the end; empty: none.
  std::string checkpoint = {};
  bool resume = false;
  std::uint64_t every = 50;
};

struct tune_report {
  std::uint64_t steps = 0;     ///< done by this call
  double first = 0, last = 0;  ///< loss of the first and last step, nats per token
  bool interrupted =
      false;  ///< `progress` asked to stop; the checkpoint holds the last step, the model is as it was
};

/// Trains the scales of all packed linears on the windows of @p ids (GQSA's second stage, quern::scale_tuner) and packs
/// them again; codes and masks are the same bits afterwards. Embedding, head, norms and linears that are not packed
/// stay as they are. Memory: the model as floats, and about (10 width + 4 ffn) layers + 2 vocab floats per position
/// and thread, with a teacher one vocab more.
/// @param teacher   the dense model, for plan.distill > 0; else null
/// @param ids       whole windows of plan.context tokens, one after the other
/// @param progress  progress(step, report); false stops
/// @returns an error if nothing is packed, if the checkpoint is of another run, or what quern::scale_tuner says, with
///          the last good checkpoint
quern::result<tune_report> tune_model(
    model& m, const model* teacher, std::span<const std::int32_t> ids, const tune_plan& plan,
    quern::thread_pool& pool, const std::function<bool(std::uint64_t, const quern::tune_step&)>& progress);

}  // namespace llama
