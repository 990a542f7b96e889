// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <llama/train_model.hpp>
#include <quern/core/error.hpp>

namespace llama {

parameters::parameters(const config& c) {
  check(c).value();
  const auto append = [this](std::string name, std::size_t rows, std::size_t cols) {
    tensors_.push_back({std::move(name), rows, cols, size_});
    size_ += rows * cols;
  };
  append("token_embd.weight", c.vocab, c.width);
  for (std::size_t l = 0; l < c.layers; ++l) {
    const std::string prefix = "blk." + std::to_string(l) + ".";
    append(prefix + "attn_norm.weight", 1, c.width);
    append(prefix + "attn_q.weight", c.query_width(), c.width);
    append(prefix + "attn_k.weight", c.kv_width(), c.width);
    append(prefix + "attn_v.weight", c.kv_width(), c.width);
    append(prefix + "attn_output.weight", c.width, c.query_width());
    append(prefix + "ffn_norm.weight", 1, c.width);
    append(prefix + "ffn_gate.weight", c.ffn, c.width);
    append(prefix + "ffn_up.weight", c.ffn, c.width);
    append(prefix + "ffn_down.weight", c.width, c.ffn);
  }
  output_norm_ = tensors_.size();
  append("output_norm.weight", 1, c.width);
  if (!c.tied) {
    head_ = tensors_.size();
    append("output.weight", c.vocab, c.width);
  }
}

void initialise(const config& c, const parameters& layout, quern::rng& random, std::span<float> weights) {
  quern::require(weights.size() == layout.size(), "llama::initialise: weights must hold ", layout.size(),
                 " values");
  for (const tensor& t : layout.tensors()) {
    float deviation = 1.0f / std::sqrt(3.0f * static_cast<float>(t.cols));
    if (t.name.find("attn_output") != std::string::npos || t.name.find("ffn_down") != std::string::npos)
      deviation /= std::sqrt(2.0f * static_cast<float>(c.layers));
    if (&t == &layout.embedding()) deviation = 0.02f;
    for (float& w : weights.subspan(t.offset, t.size())) w = t.rows == 1 ? 1.0f : deviation * random.normal();
  }
}

template <class T>
sequence_pass<T>::sequence_pass(const config& c)
    : config_(c),
      layout_(c),
      rope_(c.context, c.head_dim, static_cast<double>(c.rope_base)),
      blocks_(c.layers) {
  const std::size_t n = c.context, wide = n * c.width, query = n * c.query_width(), kv = n * c.kv_width();
  for (block_state& b : blocks_) {
    for (auto* v : {&b.in, &b.normed, &b.mid, &b.normed_mid}) v->resize(wide);
    for (auto* v : {&b.q, &b.attended}) v->resize(query);
    for (auto* v : {&b.k, &b.v}) v->resize(kv);
    for (auto* v : {&b.gate, &b.up, &b.hidden}) v->resize(n * c.ffn);
    for (auto* v : {&b.inverse, &b.inverse_mid}) v->resize(n);
    b.log_sums.resize(n * c.heads);
  }
  for (auto* v : {&stream_, &normed_, &dstream_, &dnormed_}) v->resize(wide);
  for (auto* v : {&dq_, &dattended_}) v->resize(query);
  for (auto* v : {&dk_, &dv_}) v->resize(kv);
  for (auto* v : {&logits_, &dlogits_}) v->resize(n * c.vocab);
  inverse_.resize(n);
  dhidden_.resize(n * c.ffn);
}

template <class T>
span2<const T> sequence_pass<T>::forward(std::span<const T> weights, std::span<const std::int32_t> ids) {
  const config& c = config_;
  quern::require(weights.size() == layout_.size(), "llama::sequence_pass: weights must hold ", layout_.size(),
                 " values, not ", weights.size());
  quern::require(!ids.empty() && ids.size() <= c.context, "llama::sequence_pass: ", ids.size(),
                 " ids; a sequence holds 1..", c.context);
  for (std::size_t r = 0; r < ids.size(); ++r)
    quern::require(ids[r] >= 0 && static_cast<std::size_t>(ids[r]) < c.vocab, "llama::sequence_pass: id ",
                   ids[r], " at position ", r, " must be below the vocabulary of ", c.vocab);
  n_ = ids.size();
  ids_.assign(ids.begin(), ids.end());
  const span2<const T> embedding = view(weights, layout_.embedding());
  for (std::size_t r = 0; r < n_; ++r)
    std::copy_n(embedding.row(static_cast<std::size_t>(ids[r])), c.width, stream_.data() + r * c.width);
  for (std::size_t l = 0; l < c.layers; ++l) block_forward(weights, l);
  const std::span<const T> gain(view(weights, layout_.output_norm()).data(), c.width);
  rmsnorm<T>(rows(stream_, c.width), gain, static_cast<T>(c.rms_epsilon), rows(normed_, c.width), inverse_);
  product<T>(rows(normed_, c.width), view(weights, layout_.head()), rows(logits_, c.vocab));
  return rows(logits_, c.vocab);
}

template <class T>
void sequence_pass<T>::block_forward(std::span<const T> weights, std::size_t layer) {
  const config& c = config_;
  block_state& b = blocks_[layer];
  const auto w = [&](slot s) { return view(weights, layout_.block(layer, s)); };
  const auto gain = [&](slot s) { return std::span<const T>(w(s).data(), c.width); };
  const T epsilon = static_cast<T>(c.rms_epsilon);
  const span2<T> stream = rows(stream_, c.width), normed = rows(b.normed, c.width),
                 mid = rows(b.mid, c.width);
  const span2<T> q = rows(b.q, c.query_width()), k = rows(b.k, c.kv_width()), v = rows(b.v, c.kv_width());
  const span2<T> attended = rows(b.attended, c.query_width()), normed_mid = rows(b.normed_mid, c.width);
  const span2<T> gate = rows(b.gate, c.ffn), up = rows(b.up, c.ffn), hidden = rows(b.hidden, c.ffn);

  std::copy_n(stream_.data(), n_ * c.width, b.in.data());
  rmsnorm<T>(stream, gain(slot::attn_norm), epsilon, normed, b.inverse);
  product<T>(normed, w(slot::attn_q), q);
  product<T>(normed, w(slot::attn_k), k);
  product<T>(normed, w(slot::attn_v), v);
  rope_.forward(q, 0);
  rope_.forward(k, 0);
  attention<T>(q, k, v, {c.heads, c.kv_heads, c.head_dim}, attended,
               span2<T>(b.log_sums.data(), c.heads, n_));
  product<T>(attended, w(slot::attn_output), mid);
  add<T>(mid, stream);
  rmsnorm<T>(mid, gain(slot::ffn_norm), epsilon, normed_mid, b.inverse_mid);
  product<T>(normed_mid, w(slot::ffn_gate), gate);
  product<T>(normed_mid, w(slot::ffn_up), up);
  swiglu<T>(gate, up, hidden);
  product<T>(hidden, w(slot::ffn_down), stream);
  add<T>(stream, mid);
}

template <class T>
void sequence_pass<T>::backward(std::span<const T> weights, span2<const T> dlogits, std::span<T> gradient) {
  const config& c = config_;
  quern::require(weights.size() == layout_.size() && gradient.size() == layout_.size(),
                 "llama::sequence_pass: weights and gradient must hold ", layout_.size(), " values");
  quern::require(dlogits.rows() == n_ && dlogits.cols() == c.vocab, "llama::sequence_pass: dlogits must be [",
                 n_, " x ", c.vocab, "]");
  product_backward_weight<T>(dlogits, rows(normed_, c.width), view(gradient, layout_.head()));
  std::fill_n(dnormed_.data(), n_ * c.width, T{});
  std::fill_n(dstream_.data(), n_ * c.width, T{});
  product_backward_input<T>(dlogits, view(weights, layout_.head()), rows(dnormed_, c.width));
  rmsnorm_backward<T>(rows(stream_, c.width), {view(weights, layout_.output_norm()).data(), c.width},
                      inverse_, rows(dnormed_, c.width), rows(dstream_, c.width),
                      {view(gradient, layout_.output_norm()).data(), c.width});
  for (std::size_t l = c.layers; l-- > 0;) block_backward(weights, l, gradient);
  const span2<T> dembedding = view(gradient, layout_.embedding());
  for (std::size_t r = 0; r < n_; ++r)
    add<T>(dembedding.rows_of(static_cast<std::size_t>(ids_[r]), 1), rows(dstream_, c.width).rows_of(r, 1));
}

template <class T>
void sequence_pass<T>::block_backward(std::span<const T> weights, std::size_t layer, std::span<T> gradient) {
  const config& c = config_;
  block_state& b = blocks_[layer];
  const auto w = [&](slot s) { return view(weights, layout_.block(layer, s)); };
  const auto dw = [&](slot s) { return view(gradient, layout_.block(layer, s)); };
  const auto gain = [&](slot s) { return std::span<const T>(w(s).data(), c.width); };
  const auto dgain = [&](slot s) { return std::span<T>(dw(s).data(), c.width); };
  const span2<T> normed = rows(b.normed, c.width), normed_mid = rows(b.normed_mid, c.width);
  const span2<T> dstream = rows(dstream_, c.width), dnormed = rows(dnormed_, c.width);
  const span2<T> dhidden = rows(dhidden_, c.ffn), gate = rows(b.gate, c.ffn), up = rows(b.up, c.ffn);
  const span2<T> dattended = rows(dattended_, c.query_width());
  const span2<T> dq = rows(dq_, c.query_width()), dk = rows(dk_, c.kv_width()), dv = rows(dv_, c.kv_width());
  const auto zero = [](span2<T> m) { std::fill_n(m.data(), m.rows() * m.cols(), T{}); };

  // stream = mid + down(swiglu(gate(norm(mid)), up(norm(mid))))
  product_backward_weight<T>(dstream, rows(b.hidden, c.ffn), dw(slot::ffn_down));
  zero(dhidden);
  product_backward_input<T>(dstream, w(slot::ffn_down), dhidden);
  swiglu_backward<T>(gate, up, dhidden);
  product_backward_weight<T>(gate, normed_mid, dw(slot::ffn_gate));
  product_backward_weight<T>(up, normed_mid, dw(slot::ffn_up));
  zero(dnormed);
  product_backward_input<T>(gate, w(slot::ffn_gate), dnormed);
  product_backward_input<T>(up, w(slot::ffn_up), dnormed);
  rmsnorm_backward<T>(rows(b.mid, c.width), gain(slot::ffn_norm), b.inverse_mid, dnormed, dstream,
                      dgain(slot::ffn_norm));

  // mid = in + output(attention(q(norm(in)), k(norm(in)), v(norm(in))))
  product_backward_weight<T>(dstream, rows(b.attended, c.query_width()), dw(slot::attn_output));
  zero(dattended);
  product_backward_input<T>(dstream, w(slot::attn_output), dattended);
  for (const auto& m : {dq, dk, dv}) zero(m);
  attention_backward<T>(rows(b.q, c.query_width()), rows(b.k, c.kv_width()), rows(b.v, c.kv_width()),
                        {c.heads, c.kv_heads, c.head_dim}, rows(b.attended, c.query_width()),
                        span2<const T>(b.log_sums.data(), c.heads, n_), dattended, dq, dk, dv);
  rope_.backward(dq, 0);
  rope_.backward(dk, 0);
  product_backward_weight<T>(dq, normed, dw(slot::attn_q));
  product_backward_weight<T>(dk, normed, dw(slot::attn_k));
  product_backward_weight<T>(dv, normed, dw(slot::attn_v));
  zero(dnormed);
  product_backward_input<T>(dq, w(slot::attn_q), dnormed);
  product_backward_input<T>(dk, w(slot::attn_k), dnormed);
  product_backward_input<T>(dv, w(slot::attn_v), dnormed);
  rmsnorm_backward<T>(rows(b.in, c.width), gain(slot::attn_norm), b.inverse, dnormed, dstream,
                      dgain(slot::attn_norm));
}

template class sequence_pass<float>;
template class sequence_pass<double>;

}  // namespace llama
