// SPDX-License-Identifier: Apache-2.0
#pragma once
// const auto report = llama::order_model(model, ids, plan, llama::reorder::hidden, pool).value();
// llama::compress_model(model, ids, plan, pool, {});   // chooses its masks in the new order

#include <functional>
#include <llama/compress_model.hpp>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// What is put into an order in which the pattern loses less.
enum class reorder {
  none,
  hidden,  ///< within blocks: hidden units of the feed-forward halves, values within heads
  all,     ///< and the residual stream, one order for the whole model
};

/// One order that was searched for.
struct ordered_part {
  std::string name;                          ///< "blk.3.ffn", "blk.3.values", "stream"
  double before = 0, after = 0;              ///< share of the score that survives
  double error_before = 0, error_after = 0;  ///< mean relative error of the linears it moves, if compressed
  bool taken = false;                        ///< the error became less
};

struct order_report {
  std::vector<ordered_part> parts;
  double seconds = 0;
  bool interrupted = false;  ///< `progress` asked to stop; the model still computes what it did
};

/// Reorders a model for the pattern of a plan, before it is compressed: what it computes stays the same but for the
/// order of sums (llama/permute_model.hpp), like rows come to share blocks, and like inputs groups and windows
/// (quern::order_units). Every order is tried by compressing the linears it moves with what the calibration windows
/// say of the dense model, and taken where their mean relative error becomes less; that of the stream moves all, and
/// is compared with what is hidden in order alone. The linears of an order count alike.
///
/// Parts whose units would reach over the end of a head stay. Linears that move become dense fp32, also those that the
/// plan keeps as they are, whose errors count here as if they were compressed. Takes two to three times as long as
/// compressing the model, for `all` ten times; `all` holds the scores of all linears at once.
/// @param progress  sees steps done and steps in all; false stops
/// @returns an error if the plan names no format, if the text is too short, if linears have side weights, if
///          the embedding is packed and the stream is to be reordered, and what quern::hessian and
///          quern::compress_layer say, with the block
quern::result<order_report> order_model(model& m, std::span<const std::int32_t> ids,
                                        const compress_plan& plan, reorder what, quern::thread_pool& pool,
                                        const std::function<bool(std::size_t, std::size_t)>& progress = {});

}  // namespace llama
