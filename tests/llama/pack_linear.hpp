// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by the tests of packed models.

#include <llama/formats.hpp>
#include <llama/packed.hpp>
#include <llama/unit_mask.hpp>
#include <span>
#include <vector>

namespace quern_test {

/// All values of a linear.
inline std::vector<float> values_of(const llama::linear& w) {
  std::vector<float> out(w.rows() * w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) w.row(r, std::span(out).subspan(r * w.cols(), w.cols()));
  return out;
}

/// Packs a linear in a format; half of its units are pruned where the pattern leaves that free.
inline llama::packed_matrix pack_linear(const llama::linear& w, const llama::format_ops& format,
                                        quern::thread_pool& pool) {
  const std::vector<float> values = values_of(w);
  const auto facts = llama::find_facts(format.pattern, format.quantizer).value();
  const auto mask = first_units(facts, w.rows(), w.cols(), 0.5);
  return format.pack({values.data(), w.rows(), w.cols()}, &mask, pool).value();
}

}  // namespace quern_test
