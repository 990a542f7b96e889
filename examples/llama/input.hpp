// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::input x;                               // reused from call to call: its memory only grows
// x.assign(hidden, llama::activation::int8);
// llama::multiply(x, {{&b.attn_q, q}, {&b.attn_k, k}, {&b.attn_v, v}}, pool);   // linear.hpp; quantizes once

#include <cstddef>
#include <quern/core/buffer.hpp>
#include <quern/core/span2.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/kernel/cpu/activations.hpp>
#include <type_traits>

namespace llama {

using quern::span2;

/// What packed linears multiply with; quern/kernel/cpu/activations.hpp has the errors. A format without kernels for
/// it, and a dense fp32 linear, takes the floats.
enum class activation {
  f32,    ///< exact
  int24,  ///< 24 bits, one scale per 32 inputs: as good as f32; more than a few tokens are taken as floats
  bf16,   ///< rounded to bf16; more than a few tokens at a time are taken as floats
  int8,   ///< 8 bits, one scale per 32 inputs
  int8_token  ///< 8 bits, one scale per token: fast, and wrong for models with outlier channels
};
/// Their names on command lines.
inline constexpr struct {
  const char* name;
  activation kind;
} activation_names[] = {{"f32", activation::f32},
                        {"int24", activation::int24},
                        {"bf16", activation::bf16},
                        {"int8", activation::int8},
                        {"int8_token", activation::int8_token}};

/// What a linear reads of an input: floats, or what input::prepare() makes of them.
struct reading {
  bool prepared = false;
  quern::unit_tables tables = 0;  ///< of prepared int8 vectors

  reading operator|(const reading& r) const { return {prepared || r.prepared, tables | r.tables}; }
};

/// From how many tokens on formats without a kernel for batches are decoded to panels and multiplied by Eigen.
inline constexpr std::size_t panel_batch = 8;

/// The input of the linears that read it: floats, and the same as kernels want them, made once for all of them.
class input {
 public:
  /// @param x [n x cols] must stay where and as it is for as long as it is multiplied
  void assign(span2<const float> x, activation kind) {
    floats_ = x;
    kind_ = kind;
    done_ = {};
  }
  span2<const float> floats() const { return floats_; }
  std::size_t tokens() const { return floats_.rows(); }
  activation kind() const { return kind_; }
  /// Makes what view() gives to linears that read @p what, unless that is done. The result does not depend on the number
  /// of threads.
  void prepare(const reading& what, quern::thread_pool& pool);
  /// The input as the kernels of A read it, after prepare(). A must be what kind() stands for, or float.
  template <class A>
  quern::activation_view<A> view() const {
    quern::activation_view<A> v;
    v.source = floats_;
    if constexpr (!std::is_same_v<A, float>) {
      v.shape = {floats_.rows(), floats_.cols(), 32, done_.tables};
      if constexpr (quern::is_int8<A>) v.shape.group = A::group;
      v.memory = const_cast<std::byte*>(memory_.data());  // kernels only read it
    }
    return v;
  }

 private:
  template <class A>
  void prepare_as(quern::thread_pool& pool);
  span2<const float> floats_;
  activation kind_ = activation::f32;
  reading done_;
  quern::buffer memory_;
};

}  // namespace llama
