// SPDX-License-Identifier: Apache-2.0
#include <llama/hash.hpp>
#include <llama/packed.hpp>
#include <llama/slorb_linear.hpp>
#include <llama/training.hpp>
#include <vector>

namespace llama {
namespace {

void add_linear(hash& h, const linear& w) {
  h.add(static_cast<bool>(w));
  if (!w) return;  // of a dropped half
  h.add(w.rows()), h.add(w.cols());
  if (const packed_matrix* p = packed_of(w); p != nullptr) {
    h.add(p->format->pattern), h.add(p->format->quantizer);
    add_streams(h, *p);
  } else if (const slorb_weight* s = slorb_of(w); s != nullptr) {
    h.add(s->k);
    for (const linear* part : {&s->sparse, &s->side, &s->projection}) add_linear(h, *part);
  } else {
    std::vector<float> row(w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r) {
      w.row(r, row);
      h.add(row.data(), row.size() * sizeof(float));
    }
  }
}

}  // namespace

void add_streams(hash& h, const packed_matrix& w) {
  const quern::storage sizes = w.format->bytes(w.raw.rows, w.raw.cols, w.raw.cells);
  for (int i = 0; i < quern::stream_count; ++i) h.add(w.raw.at[i], sizes.bytes[i]);
}

std::string hash_of(const model& m) {
  hash h;
  h.add(describe_shape(m.shape));
  h.add(static_cast<int>(m.activations));
  for (const block& b : m.blocks) {
    h.add(std::span(b.attn_norm)), h.add(std::span(b.ffn_norm));
    for (const named_linear& l : block_linears) add_linear(h, b.*l.weight);
  }
  h.add(std::span(m.output_norm));
  add_linear(h, m.embedding);
  add_linear(h, m.head);
  return h.text();
}

}  // namespace llama
