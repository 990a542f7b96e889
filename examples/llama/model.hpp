// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::model m = llama::load("model.gguf", pool).value();       // llama/load.hpp
// llama::session s(m, 1024, pool);                                // room for 1024 positions
// auto hidden = s.extend(prompt_ids);                             // prefill; later one id at a time
// auto logits = s.logits(hidden.rows_of(hidden.rows() - 1, 1));   // [1 x vocab]

#include <cstddef>
#include <cstdint>
#include <functional>
#include <llama/aligned.hpp>
#include <llama/config.hpp>
#include <llama/input.hpp>
#include <llama/linear.hpp>
#include <llama/ops.hpp>
#include <quern/core/span2.hpp>
#include <quern/core/thread_pool.hpp>
#include <span>
#include <vector>

namespace llama {

/// One block; linears are [outputs x inputs] of any format. Either half may be dropped: all its linears are null
/// then, and it adds nothing to the stream.
struct block {
  std::vector<float> attn_norm, ffn_norm;
  linear attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down;

  bool has_attn() const { return static_cast<bool>(attn_output); }
  bool has_ffn() const { return static_cast<bool>(ffn_down); }
};

/// A model to run. Linears may be replaced one by one, for instance by compressed ones.
struct model {
  config shape;
  linear embedding;  ///< [vocab x width]
  std::vector<block> blocks;
  std::vector<float> output_norm;
  linear head;  ///< [vocab x width]; shares the embedding where the config is tied
  /// What packed linears multiply with, where a session is not told otherwise.
  activation activations = activation::int8;

  /// Bytes of all stored weights, a tied head counted once, norms as fp32.
  std::size_t bytes() const;
};

/// The linears of a block by their GGUF names, in the order in which a forward pass uses them.
struct named_linear {
  const char* name;
  linear block::*weight;
};
inline constexpr named_linear block_linears[] = {
    {"attn_q", &block::attn_q},           {"attn_k", &block::attn_k},     {"attn_v", &block::attn_v},
    {"attn_output", &block::attn_output}, {"ffn_gate", &block::ffn_gate}, {"ffn_up", &block::ffn_up},
    {"ffn_down", &block::ffn_down}};

/// Called before every linear of every block with the layer, its name in block_linears and its input
/// x [n x cols], which is valid during the call. attn_k and attn_v see the x of attn_q, ffn_up that of
/// ffn_gate.
using observer = std::function<void(std::size_t layer, const char* name, span2<const float> x)>;

/// @throws shape_error that names the linear whose shape does not fit the config, or that is missing in a half that
/// has others
void check(const model& m);

/// A key-value cache and the scratch of one conversation. Not for two threads at once.
class session {
 public:
  /// @param m         must outlive the session; its linears may be replaced between calls
  /// @param capacity  positions, 1 .. m.shape.context
  /// @param kind      what packed linears multiply with
  session(const model& m, std::size_t capacity, quern::thread_pool& pool, activation kind);
  session(const model& m, std::size_t capacity, quern::thread_pool& pool)
      : session(m, capacity, pool, m.activations) {}

  std::size_t position() const { return position_; }
  std::size_t capacity() const { return capacity_; }
  /// Forgets all positions from @p position on.
  void rewind(std::size_t position = 0);
  /// Appends tokens and returns their hidden states after the output norm [ids.size() x width], valid until
  /// the next call. @throws shape_error where the capacity or the vocabulary does not suffice
  span2<const float> extend(std::span<const std::int32_t> ids);
  /// The logits [n x vocab] of such hidden states, valid until the next call.
  span2<const float> logits(span2<const float> hidden);
  /// Bytes of its caches and of the scratch that it has needed so far.
  std::size_t bytes() const;
  /// Seconds spent in the linears of blocks and head since the session was made.
  double linear_seconds() const { return linear_seconds_; }
  /// Watches the inputs of all linears; an empty function ends it.
  void observe(observer watch) { watch_ = std::move(watch); }

  /// The parts of extend(), for methods that go block by block: stream = embedding of ids [n x width];
  /// stream = block(stream) at the current position, which advance() moves; a block is its two halves.
  void embed(std::span<const std::int32_t> ids, span2<float> stream) const;
  void run_block(std::size_t layer, span2<float> stream) {
    run_attention(layer, stream);
    run_ffn(layer, stream);
  }
  void run_attention(std::size_t layer, span2<float> stream);
  void run_ffn(std::size_t layer, span2<float> stream);
  void advance(std::size_t n) { position_ += n; }

 private:
  /// Linears of a block, by their places in block_linears, that read x.
  struct part {
    std::size_t index;
    span2<float> y;
  };
  void multiply(std::size_t layer, span2<const float> x, std::initializer_list<part> parts);
  void multiply(span2<const float> x, std::span<const output> outputs);
  template <class F>
  void each_rows(std::size_t n, F&& f);
  void check_room(std::size_t n) const;

  const model* model_;
  quern::thread_pool* pool_;
  std::size_t capacity_, position_ = 0;
  activation kind_;
  input input_;
  rope<float> rope_;
  std::vector<aligned<float>> keys_, values_;  // per layer [capacity x kv_width]
  aligned<float> stream_, normed_, q_, attended_, gate_, up_, logits_;
  observer watch_;
  double linear_seconds_ = 0;
};

}  // namespace llama
