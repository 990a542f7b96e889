// SPDX-License-Identifier: Apache-2.0
#pragma once
// The operations of a LLaMA block and their hand-written derivatives, for float (running, training) and
// double (gradient checks). One token per row. Eigen stays inside ops.cpp.
//   llama::rmsnorm<float>(x, gain, 1e-5f, y, inverse_rms);
//   llama::attention<float>(q, k, v, {heads, kv_heads, head_dim}, out, log_sums);

#include <cstddef>
#include <quern/core/span2.hpp>
#include <span>
#include <vector>

namespace llama {

using quern::span2;

/// y = x W^T: x [n x in], w [out x in], y [n x out].
template <class T>
void product(span2<const T> x, span2<const T> w, span2<T> y);
/// dx += dy W.
template <class T>
void product_backward_input(span2<const T> dy, span2<const T> w, span2<T> dx);
/// dw += dy^T x.
template <class T>
void product_backward_weight(span2<const T> dy, span2<const T> x, span2<T> dw);
/// a += b.
template <class T>
void add(span2<T> a, span2<const T> b);

/// y = gain * x / sqrt(mean(x^2) + epsilon), row by row; inverse_rms [n] receives the factors (it may be
/// empty).
template <class T>
void rmsnorm(span2<const T> x, std::span<const T> gain, T epsilon, span2<T> y, std::span<T> inverse_rms);
/// Adds the derivatives to dx and dgain (which may be empty); x and inverse_rms as rmsnorm saw and left them.
template <class T>
void rmsnorm_backward(span2<const T> x, std::span<const T> gain, std::span<const T> inverse_rms,
                      span2<const T> dy, span2<T> dx, std::span<T> dgain);

/// Rotary positions, tabulated: pair i of a head at position p turns by p * base^(-2 i / head_dim).
template <class T>
class rope {
 public:
  rope() = default;
  rope(std::size_t context, std::size_t head_dim, double base);
  /// Turns every head of x [n x heads * head_dim] in place; row r stands at position first + r.
  void forward(span2<T> x, std::size_t first) const { turn(x, first, T{1}); }
  /// The derivative of a rotation is the opposite rotation.
  void backward(span2<T> dx, std::size_t first) const { turn(dx, first, T{-1}); }

 private:
  void turn(span2<T> x, std::size_t first, T direction) const;
  std::size_t head_dim_ = 0;
  std::vector<T> cos_, sin_;  // [context x head_dim / 2]
};

struct attention_shape {
  std::size_t heads, kv_heads, head_dim;
};

/// Query rows that one block of attention handles: the scores of one head that exist at a time are
/// [attention_rows x keys].
inline constexpr std::size_t attention_rows = 64;

/// Causal attention of one head for at most attention_rows queries from row @p first on: query row r sees
/// keys 0 .. keys - n + r. q, out [n x heads * head_dim]; k, v [keys x kv_heads * head_dim]; log_sums [heads
/// x n] receives the logarithms of the softmax denominators for the backward pass (it may be empty).
template <class T>
void attention_block(span2<const T> q, span2<const T> k, span2<const T> v, attention_shape shape,
                     std::size_t head, std::size_t first, span2<T> out, span2<T> log_sums);
/// All heads and rows, one after the other.
template <class T>
void attention(span2<const T> q, span2<const T> k, span2<const T> v, attention_shape shape, span2<T> out,
               span2<T> log_sums);
/// Adds the derivatives to dq, dk, dv. The probabilities are computed again from log_sums instead of stored.
template <class T>
void attention_backward(span2<const T> q, span2<const T> k, span2<const T> v, attention_shape shape,
                        span2<const T> out, span2<const T> log_sums, span2<const T> dout, span2<T> dq,
                        span2<T> dk, span2<T> dv);

/// h = gate / (1 + exp(-gate)) * up; h may be gate or up.
template <class T>
void swiglu(span2<const T> gate, span2<const T> up, span2<T> h);
/// Replaces gate by dgate and up by dup.
template <class T>
void swiglu_backward(span2<T> gate, span2<T> up, span2<const T> dh);

}  // namespace llama
