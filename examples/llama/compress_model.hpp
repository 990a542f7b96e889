// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::compress_plan plan{.format = llama::find_format("group<16>", "affine<4,16>")};
// auto report = llama::compress_model(model, ids, plan, pool, [](const llama::compressed_linear&) { return
// true; });

#include <cstdint>
#include <functional>
#include <llama/block_training.hpp>
#include <llama/formats.hpp>
#include <llama/model.hpp>
#include <optional>
#include <quern/compress/layer.hpp>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// How a model is compressed.
struct compress_plan {
  const format_ops* format = nullptr;
  quern::compress_options options = {};
  std::size_t context = 512;  ///< positions of a calibration window
  std::size_t windows = 64;   ///< windows, from the start of the text
  /// Weight of the first position of every window in the Hessians: attention sinks (see quern::hessian); 0: what
  /// sink_weight_of() finds.
  float sink_weight = 0;
  double damp = 0.01;
  /// Linears whose name ("blk.3.ffn_up") this regular expression finds stay as they are; empty: none.
  std::string keep_dense = {};
  /// Calibrates every block on what the compressed blocks before it put out, not on the dense model.
  bool sequential = false;
  /// Compresses the weights that would give, on what the compressed blocks before put out, what the dense model's
  /// linears give (quern::dense_targets), so that every layer corrects those before it; implies `sequential`.
  bool dense_targets = false;
  /// Trains every block after it is compressed (GQSA's first stage); implies `sequential`.
  std::optional<block_training_options> training = {};
  /// File that is written after every block and, with `resume`, read: finished blocks are taken from it and the run
  /// goes on as if it had not been interrupted, bit for bit. Empty: none.
  std::string checkpoint = {};
  bool resume = false;
  /// Sees the training: layer, step, steps, loss per position.
  std::function<void(std::size_t, std::size_t, std::size_t, double)> on_step = {};
  /// Sees what the training made of every layer.
  std::function<void(std::size_t, const quern::bqpo_report&)> on_block = {};
};

/// The calibration text of a seed: @p windows of the whole windows of @p context tokens in @p ids, drawn without
/// repetition; seed 0 takes the first ones. @returns an error if there are fewer
quern::result<std::vector<std::int32_t>> draw_windows(std::span<const std::int32_t> ids, std::size_t context,
                                                      std::size_t windows, std::uint64_t seed);

/// One linear after compression.
struct compressed_linear {
  std::string name;  ///< "blk.3.ffn_up"
  std::size_t layer = 0;
  std::size_t rows = 0, cols = 0, bytes = 0;
  double error = 0;  ///< relative squared error of its outputs on the calibration text
  double seconds = 0;
  bool kept = false;  ///< left as it was
};

struct compress_report {
  std::vector<compressed_linear> linears;
  std::vector<quern::bqpo_report> blocks;  ///< of those that were trained by this call
  std::size_t resumed = 0;                 ///< blocks that came from the checkpoint
  std::size_t tokens = 0;                  ///< calibration positions
  double calibration_seconds = 0;          ///< forward passes and Hessians
  double seconds = 0;
  bool interrupted = false;  ///< `progress` asked to stop; the model is then half done
  /// Stored bits per weight of the linears that were compressed.
  double bits_per_weight() const;
  /// Mean relative error of the linears that were compressed.
  double mean_error() const;
};

/// Replaces the linears of all blocks by compressed ones; embedding, head and norms stay. Goes block by
/// block, so that the Hessians of one block exist at a time: beside the model it needs windows * context *
/// width floats, with training four times as many.
/// @param ids       calibration text
/// @param progress  sees every linear that this call compresses; false stops
/// @returns an error if the text has fewer than context * windows tokens, if the expression cannot be read, if the
///          checkpoint is of another run, what quern::hessian, quern::compress_layer and quern::train_block say, with
///          the name of the linear or layer and, where training failed, of the last good checkpoint
quern::result<compress_report> compress_model(model& m, std::span<const std::int32_t> ids,
                                              const compress_plan& plan, quern::thread_pool& pool,
                                              const std::function<bool(const compressed_linear&)>& progress);

}  // namespace llama
