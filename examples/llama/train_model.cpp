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
    : config_(c), layout_(c), space_(c), blocks_(c.layers, block_pass<T>(c)) {
  for (auto* v : {&stream_, &normed_, &dstream_}) v->resize(c.context * c.width);
  for (auto* v : {&logits_, &dlogits_}) v->resize(c.context * c.vocab);
  inverse_.resize(c.context);
}

template <class T>
span2<const T> sequence_pass<T>::forward(std::span<const T> weights, std::span<const std::int32_t> ids) {
  quern::require(weights.size() == layout_.size(), "llama::sequence_pass: weights must hold ", layout_.size(),
                 " values, not ", weights.size());
  return forward(tensors_of(weights, layout_, config_.layers), ids);
}

template <class T>
span2<const T> sequence_pass<T>::forward(const model_tensors<const T>& weights,
                                         std::span<const std::int32_t> ids) {
  const config& c = config_;
  quern::require(!ids.empty() && ids.size() <= c.context, "llama::sequence_pass: ", ids.size(),
                 " ids; a sequence holds 1..", c.context);
  for (std::size_t r = 0; r < ids.size(); ++r)
    quern::require(ids[r] >= 0 && static_cast<std::size_t>(ids[r]) < c.vocab, "llama::sequence_pass: id ",
                   ids[r], " at position ", r, " must be below the vocabulary of ", c.vocab);
  n_ = ids.size();
  ids_.assign(ids.begin(), ids.end());
  for (std::size_t r = 0; r < n_; ++r)
    std::copy_n(weights.embedding.row(static_cast<std::size_t>(ids[r])), c.width,
                stream_.data() + r * c.width);
  const span2<T> stream = rows(stream_, c.width);
  for (std::size_t l = 0; l < c.layers; ++l) blocks_[l].forward(weights.blocks[l], stream, space_);
  rmsnorm<T>(stream, weights.output_norm, static_cast<T>(c.rms_epsilon), rows(normed_, c.width), inverse_);
  product<T>(rows(normed_, c.width), weights.head, rows(logits_, c.vocab));
  return rows(logits_, c.vocab);
}

template <class T>
span2<const T> sequence_pass<T>::hidden(std::size_t layer) const {
  return layer + 1 < config_.layers ? blocks_[layer + 1].input()
                                    : span2<const T>(stream_.data(), n_, config_.width);
}

template <class T>
void sequence_pass<T>::backward(std::span<const T> weights, span2<const T> dlogits, std::span<T> gradient) {
  quern::require(weights.size() == layout_.size() && gradient.size() == layout_.size(),
                 "llama::sequence_pass: weights and gradient must hold ", layout_.size(), " values");
  backward(tensors_of(weights, layout_, config_.layers), dlogits,
           tensors_of(gradient, layout_, config_.layers));
}

template <class T>
void sequence_pass<T>::backward(const model_tensors<const T>& weights, span2<const T> dlogits,
                                const model_tensors<T>& gradient,
                                const std::function<void(std::size_t)>& finished,
                                const std::function<void(std::size_t, span2<T>)>& entering) {
  const config& c = config_;
  quern::require(dlogits.rows() == n_ && dlogits.cols() == c.vocab, "llama::sequence_pass: dlogits must be [",
                 n_, " x ", c.vocab, "]");
  if (gradient.head.data() != nullptr)
    product_backward_weight<T>(dlogits, rows(normed_, c.width), gradient.head);
  const span2<T> dnormed = rows(space_.dnormed, c.width), dstream = rows(dstream_, c.width);
  std::fill_n(dnormed.data(), n_ * c.width, T{});
  std::fill_n(dstream.data(), n_ * c.width, T{});
  product_backward_input<T>(dlogits, weights.head, dnormed);
  rmsnorm_backward<T>(rows(stream_, c.width), weights.output_norm, inverse_, dnormed, dstream,
                      gradient.output_norm);
  for (std::size_t l = c.layers; l-- > 0;) {
    if (entering) entering(l, dstream);
    blocks_[l].backward(weights.blocks[l], dstream, gradient.blocks[l], space_);
    if (finished) finished(l);
  }
  if (gradient.embedding.data() == nullptr) return;
  for (std::size_t r = 0; r < n_; ++r)
    add<T>(gradient.embedding.rows_of(static_cast<std::size_t>(ids_[r]), 1), dstream.rows_of(r, 1));
}

template class sequence_pass<float>;
template class sequence_pass<double>;

}  // namespace llama
