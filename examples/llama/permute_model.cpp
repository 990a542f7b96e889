// SPDX-License-Identifier: Apache-2.0
#include <llama/permute_model.hpp>
#include <quern/core/error.hpp>

namespace llama {
namespace {

using places = std::span<const std::size_t>;

void check_order(const char* who, places order, std::size_t size) {
  quern::require(order.size() == size, who, ": the order has ", order.size(), " places; ", size,
                 " are needed");
  std::vector<bool> seen(size);
  for (std::size_t i = 0; i < size; ++i) {
    quern::require(order[i] < size && !seen[order[i]], who, ": place ", i, " of the order is ", order[i],
                   "; it must name each of 0..", size, " - 1 once");
    seen[order[i]] = true;
  }
}

linear rows_in_order(const linear& w, places order, quern::thread_pool& pool) {
  const std::vector<float> old = values_of(w, pool);
  std::vector<float> out(old.size());
  const std::size_t cols = w.cols();
  for (std::size_t r = 0; r < w.rows(); ++r) std::copy_n(&old[order[r] * cols], cols, &out[r * cols]);
  return dense_linear(std::move(out), w.rows(), cols);
}

linear cols_in_order(const linear& w, places order, quern::thread_pool& pool) {
  const std::vector<float> old = values_of(w, pool);
  std::vector<float> out(old.size());
  const std::size_t cols = w.cols();
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < cols; ++c) out[r * cols + c] = old[r * cols + order[c]];
  return dense_linear(std::move(out), w.rows(), cols);
}

std::vector<float> in_order(const std::vector<float>& v, places order) {
  std::vector<float> out(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) out[i] = v[order[i]];
  return out;
}

}  // namespace

void permute_ffn(block& b, places order, quern::thread_pool& pool) {
  quern::require(b.has_ffn(), "llama::permute_ffn: this half is dropped");
  check_order("llama::permute_ffn", order, b.ffn_down.cols());
  b.ffn_gate = rows_in_order(b.ffn_gate, order, pool);
  b.ffn_up = rows_in_order(b.ffn_up, order, pool);
  b.ffn_down = cols_in_order(b.ffn_down, order, pool);
}

std::vector<std::size_t> output_places(const config& c, places order) {
  std::vector<std::size_t> out(c.query_width());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t head = i / c.head_dim, shared = head / (c.heads / c.kv_heads);
    out[i] = head * c.head_dim + order[shared * c.head_dim + i % c.head_dim];
  }
  return out;
}

void permute_values(block& b, const config& c, places order, quern::thread_pool& pool) {
  quern::require(b.has_attn(), "llama::permute_values: this half is dropped");
  quern::require(order.size() == c.kv_width(), "llama::permute_values: the orders have ", order.size(),
                 " places; ", c.kv_width(), " are needed");
  for (std::size_t h = 0; h < c.kv_heads; ++h)
    check_order("llama::permute_values", order.subspan(h * c.head_dim, c.head_dim), c.head_dim);
  std::vector<std::size_t> rows(c.kv_width());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = i / c.head_dim * c.head_dim + order[i];
  b.attn_v = rows_in_order(b.attn_v, rows, pool);
  b.attn_output = cols_in_order(b.attn_output, output_places(c, order), pool);
}

void permute_stream(model& m, places order, quern::thread_pool& pool) {
  check_order("llama::permute_stream", order, m.shape.width);
  m.embedding = cols_in_order(m.embedding, order, pool);
  m.head = m.shape.tied ? m.embedding : cols_in_order(m.head, order, pool);
  m.output_norm = in_order(m.output_norm, order);
  for (block& b : m.blocks) {
    b.attn_norm = in_order(b.attn_norm, order);
    b.ffn_norm = in_order(b.ffn_norm, order);
    for (linear block::*const reads :
         {&block::attn_q, &block::attn_k, &block::attn_v, &block::ffn_gate, &block::ffn_up})
      if (b.*reads) b.*reads = cols_in_order(b.*reads, order, pool);
    for (linear block::*const writes : {&block::attn_output, &block::ffn_down})
      if (b.*writes) b.*writes = rows_in_order(b.*writes, order, pool);
  }
}

}  // namespace llama
