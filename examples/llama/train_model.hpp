// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::parameters layout(config);                     // names, shapes and places in one flat buffer
// std::vector<float> weights(layout.size()), gradient(layout.size());
// llama::sequence_pass<float> pass(config);             // the activations of one sequence, reused
// auto logits = pass.forward(weights, ids);             // [ids.size() x vocab]
// pass.backward(weights, dlogits, gradient);            // adds to gradient

#include <cstddef>
#include <cstdint>
#include <functional>
#include <llama/aligned.hpp>
#include <llama/block_pass.hpp>
#include <llama/config.hpp>
#include <llama/ops.hpp>
#include <quern/core/rng.hpp>
#include <quern/core/span2.hpp>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// One parameter tensor inside the flat buffer: [rows x cols], row-major, from `offset` on. Norms have one
/// row.
struct tensor {
  std::string name;  ///< as in GGUF: "blk.0.attn_q.weight"
  std::size_t rows = 0, cols = 0, offset = 0;
  std::size_t size() const { return rows * cols; }
};

/// The tensors of one block, in the order of the flat buffer.
enum class slot { attn_norm, attn_q, attn_k, attn_v, attn_output, ffn_norm, ffn_gate, ffn_up, ffn_down };
inline constexpr std::size_t slots = 9;

/// Where every parameter of a model lives in one flat buffer, so that an optimizer sees a single span.
class parameters {
 public:
  /// @throws the error of llama::check
  explicit parameters(const config& c);
  std::size_t size() const { return size_; }
  const std::vector<tensor>& tensors() const { return tensors_; }
  const tensor& embedding() const { return tensors_.front(); }
  const tensor& block(std::size_t layer, slot s) const {
    return tensors_[1 + layer * slots + static_cast<std::size_t>(s)];
  }
  const tensor& output_norm() const { return tensors_[output_norm_]; }
  /// The embedding where the head is tied.
  const tensor& head() const { return tensors_[head_]; }

 private:
  std::vector<tensor> tensors_;
  std::size_t size_ = 0, output_norm_ = 0, head_ = 0;
};

/// The matrix of a tensor inside a flat buffer.
template <class T>
span2<T> view(std::span<T> flat, const tensor& t) {
  return {flat.data() + t.offset, t.rows, t.cols};
}

/// The tensors of a model, wherever they lie; `head` is `embedding` where the config is tied. A gradient may leave
/// out what nobody asks for (see block_tensors).
template <class T>
struct model_tensors {
  span2<T> embedding;
  std::vector<block_tensors<T>> blocks;
  std::span<T> output_norm;
  span2<T> head;
};

/// The tensors of a flat buffer of layout.size() values.
template <class T>
model_tensors<T> tensors_of(std::span<T> flat, const parameters& layout, std::size_t layers) {
  model_tensors<T> out{view(flat, layout.embedding()), {}, {}, view(flat, layout.head())};
  const auto vector = [&](const tensor& t) { return flat.subspan(t.offset, t.size()); };
  for (std::size_t l = 0; l < layers; ++l) {
    const auto at = [&](slot s) { return view(flat, layout.block(l, s)); };
    out.blocks.push_back({vector(layout.block(l, slot::attn_norm)), at(slot::attn_q), at(slot::attn_k),
                          at(slot::attn_v), at(slot::attn_output), vector(layout.block(l, slot::ffn_norm)),
                          at(slot::ffn_gate), at(slot::ffn_up), at(slot::ffn_down)});
  }
  out.output_norm = vector(layout.output_norm());
  return out;
}

/// Starting weights: normal with variance 1 / (3 inputs) for linears, divided by 2 * layers for the two that
/// write to the residual stream; 0.02 for the embedding; norms 1.
void initialise(const config& c, const parameters& layout, quern::rng& random, std::span<float> weights);

/// Forward and backward pass of one sequence in the calling thread, with the activations it keeps in between.
/// Memory: about (10 width + 4 ffn) values per position and layer, and 2 vocab per position.
template <class T>
class sequence_pass {
 public:
  explicit sequence_pass(const config& c);
  /// The logits after every position of @p ids (1 .. context of them), [n x vocab]; valid until the next
  /// call.
  /// @throws shape_error for a wrong length or an id that is not below vocab
  span2<const T> forward(const model_tensors<const T>& weights, std::span<const std::int32_t> ids);
  /// The same with the weights in one flat buffer. @throws shape_error for a wrong length
  span2<const T> forward(std::span<const T> weights, std::span<const std::int32_t> ids);
  /// Adds to @p gradient what dlogits [n x vocab] makes of the last forward pass, which used the same
  /// weights. Once per forward pass: it consumes the activations.
  /// @param finished  called with each layer, last to first, when the gradient of its block is whole: blocks may
  ///                  share one buffer that is emptied here
  /// @param entering  called with each layer, last to first, and the gradient of what its block puts out
  ///                  [n x width], before it goes through the block: losses on hidden states add theirs
  void backward(const model_tensors<const T>& weights, span2<const T> dlogits,
                const model_tensors<T>& gradient, const std::function<void(std::size_t)>& finished = {},
                const std::function<void(std::size_t, span2<T>)>& entering = {});
  void backward(std::span<const T> weights, span2<const T> dlogits, std::span<T> gradient);
  /// What the block of @p layer put out in the last forward pass, [n x width], until its backward pass.
  span2<const T> hidden(std::size_t layer) const;
  /// A scratch [n x vocab] for the caller's dlogits of the last forward pass.
  span2<T> dlogits() { return {dlogits_.data(), n_, config_.vocab}; }
  const parameters& layout() const { return layout_; }

 private:
  span2<T> rows(aligned<T>& v, std::size_t cols) const { return {v.data(), n_, cols}; }

  config config_;
  parameters layout_;
  block_workspace<T> space_;
  std::vector<block_pass<T>> blocks_;
  aligned<T> stream_, normed_, inverse_, logits_, dlogits_;  // after the last block
  aligned<T> dstream_;
  std::vector<std::int32_t> ids_;
  std::size_t n_ = 0;
};

}  // namespace llama
