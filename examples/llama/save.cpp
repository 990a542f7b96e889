// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <deque>
#include <llama/flat_model.hpp>
#include <llama/load.hpp>
#include <llama/model_file.hpp>
#include <llama/packed.hpp>
#include <llama/slorb_linear.hpp>
#include <quern/core/half.hpp>

namespace llama {

using quern::io_error;
using quern::result;

namespace {

/// Rounds to bf16; empty where that would lose anything.
std::vector<quern::bf16> as_bf16(std::span<const float> values) {
  std::vector<quern::bf16> out;
  for (const float v : values) {
    out.push_back(quern::to_bf16(v));
    if (quern::to_float(out.back()) != v) return {};
  }
  return out;
}

}  // namespace

result<void> check_finite(const std::string& path, const tensor& t, std::span<const float> values) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return io_error("llama::save: '", path, "' is not written: tensor '", t.name, "' row ", i / t.cols,
                      " column ", i % t.cols,
                      " is infinite or not a number; the training diverged: lower its rate");
  return {};
}

result<void> save_bf16(const std::string& path, const config& c, std::span<const float> weights,
                       const notes& extra) {
  const parameters layout(c);
  quern::require(weights.size() == layout.size(), "llama::save_bf16: weights must hold ", layout.size(),
                 " values");
  std::vector<quern::bf16> rounded(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) rounded[i] = quern::to_bf16(weights[i]);
  quern::safetensors_writer out;
  describe(c, out);
  for (const auto& [name, text] : extra) out.metadata(name, text);
  for (const tensor& t : layout.tensors()) {
    std::vector<float> stored;  // a large float can be an infinite bf16
    for (std::size_t i = t.offset; i < t.offset + t.size(); ++i)
      stored.push_back(quern::to_float(rounded[i]));
    if (auto ok = check_finite(path, t, stored); !ok) return ok;
    auto shape = t.rows == 1 ? std::vector<std::size_t>{t.cols} : std::vector<std::size_t>{t.rows, t.cols};
    out.add(t.name, quern::dtype::bf16, std::move(shape),
            std::as_bytes(std::span<const quern::bf16>(rounded).subspan(t.offset, t.size())));
  }
  return out.write(path);
}

result<void> save(const std::string& path, const model& m, const tokenizer& words, const notes& extra) {
  quern::safetensors_writer out;
  describe(m.shape, out);
  for (const auto& [name, text] : extra) out.metadata(name, text);
  const tokenizer_blobs blobs = words.to_blobs();
  blobs.add_to(out);
  const parameters layout(m.shape);
  // What write() reads must stay until then; deques never move their elements.
  std::deque<std::vector<float>> floats;
  std::deque<std::vector<quern::bf16>> halves;
  result<void> finite;
  const auto dense = [&](const tensor& t, std::vector<float> values) {
    if (finite) finite = check_finite(path, t, values);
    auto shape = t.rows == 1 ? std::vector<std::size_t>{t.cols} : std::vector<std::size_t>{t.rows, t.cols};
    if (auto rounded = as_bf16(values); !rounded.empty()) {
      halves.push_back(std::move(rounded));
      out.add(t.name, quern::dtype::bf16, std::move(shape), std::as_bytes(std::span(halves.back())));
    } else {
      floats.push_back(std::move(values));
      out.add(t.name, quern::dtype::f32, std::move(shape), std::as_bytes(std::span(floats.back())));
    }
  };
  quern::thread_pool own(1);
  const auto matrix = [&](const tensor& t, const linear& w) {
    if (const packed_matrix* p = packed_of(w); p != nullptr)
      p->format->save(out, t.name, p->raw);
    else
      dense(t, values_of(w, own));
  };
  matrix(layout.embedding(), m.embedding);
  std::string dropped;
  std::size_t group = 0;
  for (std::size_t l = 0; l < m.blocks.size(); ++l) {
    const block& b = m.blocks[l];
    if (!b.has_attn()) dropped += half_name(l, 0) + ' ';
    if (!b.has_ffn()) dropped += half_name(l, 4) + ' ';
    dense(layout.block(l, slot::attn_norm), b.attn_norm);
    dense(layout.block(l, slot::ffn_norm), b.ffn_norm);
    for (std::size_t i = 0; i < std::size(linear_slots); ++i) {
      const tensor& t = layout.block(l, linear_slots[i]);
      const linear& w = b.*block_linears[i].weight;
      if (!w) continue;  // of a dropped half
      const slorb_weight* const parts = slorb_of(w);
      matrix(t, parts != nullptr ? parts->sparse : w);
      if (parts == nullptr) continue;
      if (group != 0 && group != parts->k)
        return io_error("llama::save: ", t.name, " has side weights for groups of ", parts->k, ", others of ",
                        group, "; a file holds one");
      group = parts->k;
      matrix({t.name + side_suffix, parts->side.rows(), parts->side.cols()}, parts->side);
      if (parts->projection)
        matrix({t.name + projection_suffix, parts->projection.rows(), parts->projection.cols()},
               parts->projection);
    }
  }
  if (!dropped.empty()) out.metadata(dropped_key, dropped);
  if (group != 0) out.metadata(group_key, std::to_string(group));
  dense(layout.output_norm(), m.output_norm);
  if (!m.shape.tied) matrix(layout.head(), m.head);
  if (!finite) return finite;
  return out.write(path);
}

}  // namespace llama
