// SPDX-License-Identifier: Apache-2.0
#pragma once
// A random model that runs in no time, and a random text for it.

#include <llama/model.hpp>
#include <quern/core/rng.hpp>
#include <span>
#include <vector>

namespace llama_test {

inline constexpr llama::config tiny{.vocab = 64,
                                    .width = 32,
                                    .layers = 2,
                                    .ffn = 48,
                                    .heads = 2,
                                    .kv_heads = 1,
                                    .head_dim = 16,
                                    .context = 32};

inline llama::model random_model(std::uint64_t seed, const llama::config& shape = tiny) {
  quern::rng g(seed);
  const auto matrix = [&](std::size_t rows, std::size_t cols) {
    std::vector<float> v(rows * cols);
    for (float& x : v) x = g.normal() * 0.3f;
    return llama::dense_linear(std::move(v), rows, cols);
  };
  llama::model m;
  m.shape = shape;
  m.embedding = m.head = matrix(shape.vocab, shape.width);
  m.output_norm.assign(shape.width, 1.0f);
  for (std::size_t l = 0; l < shape.layers; ++l) {
    llama::block b;
    b.attn_norm.assign(shape.width, 1.0f);
    b.ffn_norm.assign(shape.width, 1.0f);
    b.attn_q = matrix(shape.query_width(), shape.width);
    b.attn_k = matrix(shape.kv_width(), shape.width);
    b.attn_v = matrix(shape.kv_width(), shape.width);
    b.attn_output = matrix(shape.width, shape.query_width());
    b.ffn_gate = matrix(shape.ffn, shape.width);
    b.ffn_up = matrix(shape.ffn, shape.width);
    b.ffn_down = matrix(shape.width, shape.ffn);
    m.blocks.push_back(std::move(b));
  }
  return m;
}

inline std::vector<std::int32_t> random_ids(std::size_t n) {
  quern::rng g(91);
  std::vector<std::int32_t> ids(n);
  for (auto& id : ids) id = static_cast<std::int32_t>(g.below(tiny.vocab));
  return ids;
}

inline std::vector<float> values(const llama::linear& w) {
  std::vector<float> out(w.rows() * w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) w.row(r, std::span(out).subspan(r * w.cols(), w.cols()));
  return out;
}

}  // namespace llama_test
