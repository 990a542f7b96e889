// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/flat_model.hpp>
#include <quern/core/error.hpp>

namespace llama {

aligned<float> flatten(const model& m) {
  check(m);
  const parameters layout(m.shape);
  aligned<float> out(layout.size());
  const auto matrix = [&](const linear& w, const tensor& t) {
    quern::require(static_cast<bool>(w), "llama::flatten: ", t.name,
                   " is of a half that was dropped; only whole "
                   "models can be trained");
    for (std::size_t r = 0; r < t.rows; ++r) w.row(r, {out.data() + t.offset + r * t.cols, t.cols});
  };
  const auto gain = [&](const std::vector<float>& v, const tensor& t) {
    std::copy(v.begin(), v.end(), out.begin() + static_cast<std::ptrdiff_t>(t.offset));
  };
  matrix(m.embedding, layout.embedding());
  for (std::size_t l = 0; l < m.blocks.size(); ++l) {
    gain(m.blocks[l].attn_norm, layout.block(l, slot::attn_norm));
    gain(m.blocks[l].ffn_norm, layout.block(l, slot::ffn_norm));
    for (std::size_t i = 0; i < std::size(block_linears); ++i)
      matrix(m.blocks[l].*block_linears[i].weight, layout.block(l, linear_slots[i]));
  }
  gain(m.output_norm, layout.output_norm());
  if (!m.shape.tied) matrix(m.head, layout.head());
  return out;
}

model model_of(const config& c, std::span<const float> flat) {
  const parameters layout(c);
  quern::require(flat.size() == layout.size(), "llama::model_of: the config has ", layout.size(),
                 " weights, not ", flat.size());
  const auto values = [&](const tensor& t) {
    const auto part = flat.subspan(t.offset, t.size());
    return std::vector<float>(part.begin(), part.end());
  };
  const auto matrix = [&](const tensor& t) { return dense_linear(values(t), t.rows, t.cols); };
  model m;
  m.shape = c;
  m.embedding = matrix(layout.embedding());
  m.blocks.resize(c.layers);
  for (std::size_t l = 0; l < c.layers; ++l) {
    block& b = m.blocks[l];
    b.attn_norm = values(layout.block(l, slot::attn_norm));
    b.ffn_norm = values(layout.block(l, slot::ffn_norm));
    for (std::size_t i = 0; i < std::size(block_linears); ++i)
      b.*block_linears[i].weight = matrix(layout.block(l, linear_slots[i]));
  }
  m.output_norm = values(layout.output_norm());
  m.head = c.tied ? m.embedding : matrix(layout.head());
  return m;
}

}  // namespace llama
