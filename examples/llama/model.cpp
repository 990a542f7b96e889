// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <llama/model.hpp>
#include <quern/core/error.hpp>
#include <string>

namespace llama {

std::size_t model::bytes() const {
  std::size_t sum = embedding.bytes() + output_norm.size() * sizeof(float);
  if (!shape.tied) sum += head.bytes();
  for (const block& b : blocks) {
    sum += (b.attn_norm.size() + b.ffn_norm.size()) * sizeof(float);
    for (const named_linear& l : block_linears)
      if (b.*l.weight) sum += (b.*l.weight).bytes();
  }
  return sum;
}

void check(const model& m) {
  const config& c = m.shape;
  check(c).value();
  const auto linear_is = [](const std::string& name, const linear& w, std::size_t rows, std::size_t cols) {
    quern::require(static_cast<bool>(w), "llama::model: ", name, " is missing");
    quern::require(w.rows() == rows && w.cols() == cols, "llama::model: ", name, " is ", w.rows(), " x ",
                   w.cols(), ", but the config asks for ", rows, " x ", cols);
  };
  const auto norm_is = [&](const std::string& name, const std::vector<float>& gain) {
    quern::require(gain.size() == c.width, "llama::model: ", name, " has ", gain.size(),
                   " values, but the width is ", c.width);
  };
  linear_is("token_embd", m.embedding, c.vocab, c.width);
  linear_is("output", m.head, c.vocab, c.width);
  norm_is("output_norm", m.output_norm);
  quern::require(m.blocks.size() == c.layers, "llama::model: has ", m.blocks.size(),
                 " blocks, but the config asks for ", c.layers);
  for (std::size_t l = 0; l < c.layers; ++l) {
    const block& b = m.blocks[l];
    const std::string prefix = "blk." + std::to_string(l) + ".";
    norm_is(prefix + "attn_norm", b.attn_norm);
    norm_is(prefix + "ffn_norm", b.ffn_norm);
    const std::size_t outputs[] = {c.query_width(), c.kv_width(), c.kv_width(), c.width,
                                   c.ffn,           c.ffn,        c.width};
    const std::size_t inputs[] = {c.width, c.width, c.width, c.query_width(), c.width, c.width, c.ffn};
    for (std::size_t i = 0; i < std::size(block_linears); ++i) {
      const linear& w = b.*block_linears[i].weight;
      if (w || (i < 4 ? b.has_attn() : b.has_ffn()))
        linear_is(prefix + block_linears[i].name, w, outputs[i], inputs[i]);
      quern::require(!w || (i < 4 ? b.has_attn() : b.has_ffn()), "llama::model: ", prefix,
                     block_linears[i].name, " belongs to a dropped half, whose linears must all be null");
    }
  }
}

session::session(const model& m, std::size_t capacity, quern::thread_pool& pool, activation kind)
    : model_(&m),
      pool_(&pool),
      capacity_(capacity),
      kind_(kind),
      rope_(capacity, m.shape.head_dim, static_cast<double>(m.shape.rope_base)),
      keys_(m.shape.layers),
      values_(m.shape.layers) {
  check(m);
  quern::require(capacity > 0 && capacity <= m.shape.context, "llama::session: capacity ", capacity,
                 " must be 1..", m.shape.context, ", the context of the model");
  for (auto* cache : {&keys_, &values_})
    for (auto& layer : *cache) layer.resize(capacity * m.shape.kv_width());
}

std::size_t session::bytes() const {
  std::size_t floats = 0;
  for (const auto* cache : {&keys_, &values_})
    for (const auto& layer : *cache) floats += layer.size();
  for (const auto* v : {&stream_, &normed_, &q_, &attended_, &gate_, &up_, &logits_}) floats += v->size();
  return floats * sizeof(float);
}

void session::rewind(std::size_t position) {
  quern::require(position <= position_, "llama::session: cannot rewind to ", position, " from ", position_);
  position_ = position;
}

// Rows are independent, so any split gives the same result. Sixteen rows of a small model take longer than a
// fork and join.
template <class F>
void session::each_rows(std::size_t n, F&& f) {
  pool_->parallel_for(n, 16, [&](std::size_t begin, std::size_t end) { f(begin, end - begin); });
}

void session::multiply(std::size_t layer, span2<const float> x, std::initializer_list<part> parts) {
  output outputs[std::size(block_linears)];
  std::size_t n = 0;
  for (const part& p : parts) {
    if (watch_) watch_(layer, block_linears[p.index].name, x);
    outputs[n++] = {&(model_->blocks[layer].*block_linears[p.index].weight), p.y};
  }
  multiply(x, std::span(outputs, n));
}

void session::multiply(span2<const float> x, std::span<const output> outputs) {
  const auto start = std::chrono::steady_clock::now();
  input_.assign(x, kind_);
  llama::multiply(input_, outputs, *pool_);
  linear_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void session::embed(std::span<const std::int32_t> ids, span2<float> stream) const {
  const config& c = model_->shape;
  quern::require(stream.rows() == ids.size() && stream.cols() == c.width,
                 "llama::session: the stream must be [", ids.size(), " x ", c.width, "]");
  for (std::size_t r = 0; r < ids.size(); ++r) {
    quern::require(ids[r] >= 0 && static_cast<std::size_t>(ids[r]) < c.vocab, "llama::session: id ", ids[r],
                   " at position ", r, " must be below the vocabulary of ", c.vocab);
    model_->embedding.row(static_cast<std::size_t>(ids[r]), {stream.row(r), c.width});
  }
}

void session::check_room(std::size_t n) const {
  quern::require(n > 0 && n <= capacity_ - position_, "llama::session: ", n, " tokens after ", position_,
                 " do not fit its capacity of ", capacity_, "; make a larger one or rewind");
}

namespace {
/// Places in block_linears.
enum : std::size_t { attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down };

span2<float> scratch(aligned<float>& v, std::size_t rows, std::size_t cols) {
  if (v.size() < rows * cols) v.resize(rows * cols);
  return {v.data(), rows, cols};
}
}  // namespace

void session::run_attention(std::size_t layer, span2<float> stream) {
  const config& c = model_->shape;
  const block& b = model_->blocks[layer];
  const std::size_t n = stream.rows(), past = position_;
  check_room(n);
  if (!b.has_attn()) return;
  const span2<float> normed = scratch(normed_, n, c.width), q = scratch(q_, n, c.query_width());
  const span2<float> attended = scratch(attended_, n, c.query_width());
  const span2<float> keys(keys_[layer].data(), past + n, c.kv_width());
  const span2<float> values(values_[layer].data(), past + n, c.kv_width());
  each_rows(n, [&](std::size_t r, std::size_t count) {
    rmsnorm<float>(stream.rows_of(r, count), b.attn_norm, c.rms_epsilon, normed.rows_of(r, count), {});
  });
  multiply(layer, normed, {{attn_q, q}, {attn_k, keys.rows_of(past, n)}, {attn_v, values.rows_of(past, n)}});
  each_rows(n, [&](std::size_t r, std::size_t count) {
    rope_.forward(q.rows_of(r, count), past + r);
    rope_.forward(keys.rows_of(past + r, count), past + r);
  });
  const std::size_t pieces = (n + attention_rows - 1) / attention_rows;
  pool_->parallel_for(c.heads * pieces, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i)
      attention_block<float>(q, keys, values, {c.heads, c.kv_heads, c.head_dim}, i / pieces,
                             i % pieces * attention_rows, attended, {});
  });
  multiply(layer, attended, {{attn_output, normed}});
  each_rows(n, [&](std::size_t r, std::size_t count) {
    add<float>(stream.rows_of(r, count), normed.rows_of(r, count));
  });
}

void session::run_ffn(std::size_t layer, span2<float> stream) {
  const config& c = model_->shape;
  const block& b = model_->blocks[layer];
  const std::size_t n = stream.rows();
  check_room(n);
  if (!b.has_ffn()) return;
  const span2<float> normed = scratch(normed_, n, c.width), gate = scratch(gate_, n, c.ffn);
  const span2<float> up = scratch(up_, n, c.ffn);
  each_rows(n, [&](std::size_t r, std::size_t count) {
    rmsnorm<float>(stream.rows_of(r, count), b.ffn_norm, c.rms_epsilon, normed.rows_of(r, count), {});
  });
  multiply(layer, normed, {{ffn_gate, gate}, {ffn_up, up}});
  each_rows(n, [&](std::size_t r, std::size_t count) {
    swiglu<float>(gate.rows_of(r, count), up.rows_of(r, count), gate.rows_of(r, count));
  });
  multiply(layer, gate, {{ffn_down, normed}});
  each_rows(n, [&](std::size_t r, std::size_t count) {
    add<float>(stream.rows_of(r, count), normed.rows_of(r, count));
  });
}

span2<const float> session::extend(std::span<const std::int32_t> ids) {
  const config& c = model_->shape;
  quern::require(!ids.empty() && ids.size() <= capacity_ - position_, "llama::session: ", ids.size(),
                 " tokens after ", position_, " do not fit its capacity of ", capacity_,
                 "; make a larger one or rewind");
  if (stream_.size() < ids.size() * c.width) stream_.resize(ids.size() * c.width);
  const span2<float> stream(stream_.data(), ids.size(), c.width);
  embed(ids, stream);
  for (std::size_t l = 0; l < c.layers; ++l) run_block(l, stream);
  advance(ids.size());
  rmsnorm<float>(stream, model_->output_norm, c.rms_epsilon, stream, {});
  return stream;
}

span2<const float> session::logits(span2<const float> hidden) {
  const std::size_t vocab = model_->shape.vocab;
  if (logits_.size() < hidden.rows() * vocab) logits_.resize(hidden.rows() * vocab);
  const span2<float> out(logits_.data(), hidden.rows(), vocab);
  const output head{&model_->head, out};
  multiply(hidden, std::span(&head, 1));
  return out;
}

}  // namespace llama
