// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/block_pass.hpp>

namespace llama {
namespace {

template <class T>
span2<T> zeroed(aligned<T>& v, std::size_t n, std::size_t cols) {
  std::fill_n(v.data(), n * cols, T{});
  return {v.data(), n, cols};
}

template <class T>
void weight_gradient(span2<const T> dy, span2<const T> x, span2<T> dw) {
  if (dw.data() != nullptr) product_backward_weight<T>(dy, x, dw);
}

}  // namespace

template <class T>
block_workspace<T>::block_workspace(const config& c)
    : positions(c.context, c.head_dim, static_cast<double>(c.rope_base)),
      dnormed(c.context * c.width),
      dq(c.context * c.query_width()),
      dk(c.context * c.kv_width()),
      dv(dk.size()),
      dattended(dq.size()),
      dhidden(c.context * c.ffn) {}

template <class T>
block_pass<T>::block_pass(const config& c) : config_(c) {
  const std::size_t n = c.context;
  for (auto* v : {&in_, &normed_, &mid_, &normed_mid_}) v->resize(n * c.width);
  for (auto* v : {&q_, &attended_}) v->resize(n * c.query_width());
  for (auto* v : {&k_, &v_}) v->resize(n * c.kv_width());
  for (auto* v : {&gate_, &up_, &hidden_}) v->resize(n * c.ffn);
  for (auto* v : {&inverse_, &inverse_mid_}) v->resize(n);
  log_sums_.resize(n * c.heads);
}

template <class T>
void block_pass<T>::forward_attention(const block_tensors<const T>& w, span2<T> stream,
                                      const block_workspace<T>& space) {
  const config& c = config_;
  n_ = stream.rows();
  const span2<T> in = rows(in_, c.width), normed = rows(normed_, c.width);
  const span2<T> q = rows(q_, c.query_width()), k = rows(k_, c.kv_width()), v = rows(v_, c.kv_width());
  const span2<T> attended = rows(attended_, c.query_width());
  std::copy_n(stream.data(), n_ * c.width, in_.data());
  rmsnorm<T>(in, w.attn_norm, static_cast<T>(c.rms_epsilon), normed, inverse_);
  product<T>(normed, w.attn_q, q);
  product<T>(normed, w.attn_k, k);
  product<T>(normed, w.attn_v, v);
  space.positions.forward(q, 0);
  space.positions.forward(k, 0);
  attention<T>(q, k, v, {c.heads, c.kv_heads, c.head_dim}, attended, span2<T>(log_sums_.data(), c.heads, n_));
  product<T>(attended, w.attn_output, stream);
  add<T>(stream, in);
}

template <class T>
void block_pass<T>::forward_mlp(const block_tensors<const T>& w, span2<T> stream) {
  const config& c = config_;
  n_ = stream.rows();
  const span2<T> mid = rows(mid_, c.width), normed = rows(normed_mid_, c.width);
  const span2<T> gate = rows(gate_, c.ffn), up = rows(up_, c.ffn), hidden = rows(hidden_, c.ffn);
  std::copy_n(stream.data(), n_ * c.width, mid_.data());
  rmsnorm<T>(mid, w.ffn_norm, static_cast<T>(c.rms_epsilon), normed, inverse_mid_);
  product<T>(normed, w.ffn_gate, gate);
  product<T>(normed, w.ffn_up, up);
  swiglu<T>(gate, up, hidden);
  product<T>(hidden, w.ffn_down, stream);
  add<T>(stream, mid);
}

template <class T>
void block_pass<T>::backward_mlp(const block_tensors<const T>& w, span2<T> dstream,
                                 const block_tensors<T>& gradient, block_workspace<T>& space) {
  const config& c = config_;
  const span2<T> normed = rows(normed_mid_, c.width);
  const span2<T> gate = rows(gate_, c.ffn), up = rows(up_, c.ffn);
  // stream = mid + down(swiglu(gate(norm(mid)), up(norm(mid))))
  weight_gradient<T>(dstream, rows(hidden_, c.ffn), gradient.ffn_down);
  const span2<T> dhidden = zeroed(space.dhidden, n_, c.ffn);
  product_backward_input<T>(dstream, w.ffn_down, dhidden);
  swiglu_backward<T>(gate, up, dhidden);
  weight_gradient<T>(gate, normed, gradient.ffn_gate);
  weight_gradient<T>(up, normed, gradient.ffn_up);
  const span2<T> dnormed = zeroed(space.dnormed, n_, c.width);
  product_backward_input<T>(gate, w.ffn_gate, dnormed);
  product_backward_input<T>(up, w.ffn_up, dnormed);
  rmsnorm_backward<T>(rows(mid_, c.width), w.ffn_norm, inverse_mid_, dnormed, dstream, gradient.ffn_norm);
}

template <class T>
void block_pass<T>::backward_attention(const block_tensors<const T>& w, span2<T> dstream,
                                       const block_tensors<T>& gradient, block_workspace<T>& space) {
  const config& c = config_;
  const span2<T> normed = rows(normed_, c.width);
  // stream = in + output(attention(q(norm(in)), k(norm(in)), v(norm(in))))
  weight_gradient<T>(dstream, rows(attended_, c.query_width()), gradient.attn_output);
  const span2<T> dattended = zeroed(space.dattended, n_, c.query_width());
  product_backward_input<T>(dstream, w.attn_output, dattended);
  const span2<T> dq = zeroed(space.dq, n_, c.query_width());
  const span2<T> dk = zeroed(space.dk, n_, c.kv_width()), dv = zeroed(space.dv, n_, c.kv_width());
  attention_backward<T>(rows(q_, c.query_width()), rows(k_, c.kv_width()), rows(v_, c.kv_width()),
                        {c.heads, c.kv_heads, c.head_dim}, rows(attended_, c.query_width()),
                        span2<const T>(log_sums_.data(), c.heads, n_), dattended, dq, dk, dv);
  space.positions.backward(dq, 0);
  space.positions.backward(dk, 0);
  weight_gradient<T>(dq, normed, gradient.attn_q);
  weight_gradient<T>(dk, normed, gradient.attn_k);
  weight_gradient<T>(dv, normed, gradient.attn_v);
  const span2<T> dnormed = zeroed(space.dnormed, n_, c.width);
  product_backward_input<T>(dq, w.attn_q, dnormed);
  product_backward_input<T>(dk, w.attn_k, dnormed);
  product_backward_input<T>(dv, w.attn_v, dnormed);
  rmsnorm_backward<T>(rows(in_, c.width), w.attn_norm, inverse_, dnormed, dstream, gradient.attn_norm);
}

template struct block_workspace<float>;
template struct block_workspace<double>;
template class block_pass<float>;
template class block_pass<double>;

}  // namespace llama
