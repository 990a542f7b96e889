// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::block_workspace<float> space(config);               // one per thread
// llama::block_pass<float> pass(config);                     // the activations of one block and sequence
// pass.forward(weights, stream, space);                      // stream [n x width] becomes the block's output
// pass.backward(weights, dstream, gradient, space);          // dstream becomes the derivative of its input

#include <cstddef>
#include <llama/aligned.hpp>
#include <llama/config.hpp>
#include <llama/ops.hpp>
#include <quern/core/span2.hpp>
#include <span>

namespace llama {

/// The tensors of one block, in the order of llama::slot, wherever they lie. A gradient may leave out what nobody
/// asks for: tensors without data are not computed.
template <class T>
struct block_tensors {
  std::span<T> attn_norm;
  span2<T> attn_q, attn_k, attn_v, attn_output;
  std::span<T> ffn_norm;
  span2<T> ffn_gate, ffn_up, ffn_down;
};

/// The matrix number @p i among tensors, counted as in llama::block_linears.
template <class T>
span2<T>& matrix_of(block_tensors<T>& t, std::size_t i) {
  span2<T>* const all[] = {&t.attn_q,   &t.attn_k, &t.attn_v,  &t.attn_output,
                           &t.ffn_gate, &t.ffn_up, &t.ffn_down};
  return *all[i];
}

/// What all blocks of a thread can share: the table of rotations, and buffers whose contents end with the call.
/// Memory: about (width + 2 query + 2 kv + ffn) values per position of the context.
template <class T>
struct block_workspace {
  explicit block_workspace(const config& c);
  rope<T> positions;
  aligned<T> dnormed, dq, dk, dv, dattended, dhidden;
};

/// Forward and backward pass of one block over one sequence of 1 .. context positions, in the calling thread. The
/// residual stream is x + attention(norm(x)), then x + mlp(norm(x)); each half can be run, and differentiated,
/// without the other. Sizes are the caller's to check (sequence_pass does).
template <class T>
class block_pass {
 public:
  explicit block_pass(const config& c);

  /// Both halves.
  void forward(const block_tensors<const T>& w, span2<T> stream, const block_workspace<T>& space) {
    forward_attention(w, stream, space);
    forward_mlp(w, stream);
  }
  /// The derivative of both; adds to @p gradient, replaces dstream. Once per forward pass, whose weights it must
  /// see again: it consumes the activations.
  void backward(const block_tensors<const T>& w, span2<T> dstream, const block_tensors<T>& gradient,
                block_workspace<T>& space) {
    backward_mlp(w, dstream, gradient, space);
    backward_attention(w, dstream, gradient, space);
  }
  /// The stream that the last forward pass began with, [n x width].
  span2<const T> input() const { return {in_.data(), n_, config_.width}; }
  void forward_attention(const block_tensors<const T>& w, span2<T> stream, const block_workspace<T>& space);
  void forward_mlp(const block_tensors<const T>& w, span2<T> stream);
  void backward_attention(const block_tensors<const T>& w, span2<T> dstream, const block_tensors<T>& gradient,
                          block_workspace<T>& space);
  void backward_mlp(const block_tensors<const T>& w, span2<T> dstream, const block_tensors<T>& gradient,
                    block_workspace<T>& space);

 private:
  span2<T> rows(aligned<T>& v, std::size_t cols) const { return {v.data(), n_, cols}; }

  config config_;
  aligned<T> in_, normed_, q_, k_, v_, attended_, mid_, normed_mid_, gate_, up_, hidden_;  // [context x ...]
  aligned<T> inverse_, inverse_mid_, log_sums_;  // [context], [context], [heads x context]
  std::size_t n_ = 0;
};

}  // namespace llama
