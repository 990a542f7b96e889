// SPDX-License-Identifier: Apache-2.0
#pragma once
// const llama::block_runner dense(m, layer, 512, pool);            // the block while it is dense
// dense.run(targets, mid, pool);                                   // targets were the dense stream
// ... compress the linears of m.blocks[layer] ...
// auto report = llama::train_packed_block(m, layer, dense, {stream, mid, targets, 512}, options, pool, {}).value();

#include <functional>
#include <llama/block_pass.hpp>
#include <llama/model.hpp>
#include <quern/core/error.hpp>
#include <quern/train/bqpo.hpp>
#include <vector>

namespace llama {

/// How the blocks of a model are trained.
struct block_training_options {
  quern::bqpo_options bqpo = {};
  bool halves = false;  ///< attention and MLP apart, each with a target of its own
  /// Before training, weights move towards the dense ones by this share of what their codes allow, 0 .. below 1. Two
  /// bits of SmolLM2, 90 steps: block 0 comes from .0274 to .0214 without and to .0187 with it, block 2 to .0243, .0200.
  float pull = 0.8f;
  friend bool operator==(const block_training_options&, const block_training_options&) = default;
};

/// The weights of a block as floats, for a pass over many windows, one window per thread.
class block_runner {
 public:
  /// @param length  positions of a window
  block_runner(const model& m, std::size_t layer, std::size_t length, quern::thread_pool& pool);
  /// Replaces every window of @p stream [windows * length x width] by the block's output. @p mid, of the same size or
  /// empty, receives the stream between attention and MLP. The result does not depend on the number of threads.
  void run(span2<float> stream, span2<float> mid, quern::thread_pool& pool) const;
  /// Its tensors, which live as long as this object and the model.
  block_tensors<const float> tensors() const;
  const config& shape() const { return shape_; }
  /// The weights of block_linears[i], [rows x cols].
  span2<const float> values(std::size_t i) const;

 private:
  const block* block_;
  config shape_;  // its context is the length of a window
  std::vector<std::vector<float>> values_;
};

/// The hidden states that a block is trained on, all [windows * length x width] and in llama::aligned memory.
struct block_streams {
  span2<const float> inputs;   ///< what the compressed blocks before it put out
  span2<const float> mid;      ///< target of the attention half; looked at with options.halves only
  span2<const float> targets;  ///< what the dense block makes of the dense stream
  std::size_t length;
};

/// Trains the packed linears of a block, packs and replaces them (GQSA's first stage, quern::train_block). Linears
/// that are not packed stay as they are, and so do norms. The codes are final afterwards.
/// @param dense     the block before it was compressed
/// @param progress  progress(step, steps, loss)
/// @returns the report of the block (of the MLP half, where halves are apart), or an error that names the layer
quern::result<quern::bqpo_report> train_packed_block(
    model& m, std::size_t layer, const block_runner& dense, const block_streams& streams,
    const block_training_options& options, quern::thread_pool& pool,
    const std::function<void(std::size_t, std::size_t, double)>& progress);

}  // namespace llama
