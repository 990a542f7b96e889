// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::packing::float_source<quern::affine<4, 16>> source{dense};   // or coded_source{codes}
// quern::packing::row_bits alive(source.cols());
// alive.read(source, mask, r);   // which weights of row r survive

#include <cstring>
#include <quern/core/config.hpp>
#include <quern/core/span2.hpp>
#include <quern/format/coded.hpp>
#include <quern/pattern/mask.hpp>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace packing {

/// Rounds float weights as they are packed.
template <quantizer Q>
struct float_source {
  span2<const float> w;
  std::size_t rows() const { return w.rows(); }
  std::size_t cols() const { return w.cols(); }
  float value(std::size_t r, std::size_t c) const { return w(r, c); }
  /// The first column of row @p r with a NaN or infinity that is not pruned; cols() if there is none.
  std::size_t first_bad(std::size_t r, const bit_mask* mask) const {
    if (all_finite(w.row(r), cols())) return cols();
    std::size_t c = 0;
    while (c < cols() && (is_finite(w(r, c)) || (mask != nullptr && !(*mask)(r, c)))) ++c;
    return c;
  }
  /// Row @p r without its pruned weights; @p scratch holds cols() floats.
  std::size_t fill(std::size_t r, const bit_mask* mask, float* scratch, coded_row<Q>& out) const {
    if (mask == nullptr) return round_row<Q>(w.row(r), cols(), out);
    for (std::size_t c = 0; c < cols(); ++c) scratch[c] = (*mask)(r, c) ? w(r, c) : 0.0f;
    return round_row<Q>(scratch, cols(), out);
  }
};

/// Stores codes that have been chosen before.
template <quantizer Q>
struct coded_source {
  const coded_matrix<Q>& w;
  std::size_t rows() const { return w.rows(); }
  std::size_t cols() const { return w.cols(); }
  float value(std::size_t r, std::size_t c) const { return w.value(r, c); }
  /// Pruned ones included: their parameters may be stored all the same.
  std::size_t first_bad(std::size_t r, const bit_mask*) const {
    std::size_t c = 0;
    while (c < cols() && is_finite(w.value(r, c))) ++c;
    return c;
  }
  std::size_t fill(std::size_t r, const bit_mask* mask, float*, coded_row<Q>& out) const {
    for (std::size_t c = 0; c < cols(); ++c) out.codes[c] = w.code(r, c);
    for (std::size_t i = 0; i < w.runs(); ++i) out.params[i] = w.params(r, i);
    out.row_scale = w.row_scale(r);
    if (mask == nullptr) return cols();
    // A pruned weight that shares a stored unit (N:M completed to N, for example) holds the code of zero.
    for (std::size_t c = 0; c < cols(); ++c) {
      if ((*mask)(r, c)) continue;
      if constexpr (Q::run > 0)
        out.codes[c] = static_cast<typename Q::code_type>(Q::encode(0, out.params[c / Q::run]));
      else
        out.codes[c] = 0;
    }
    return cols();
  }
};

/// The survivors of one row as bits: those of the mask, or the weights that are not zero.
class row_bits {
 public:
  /// Memory for @p cols columns, so that `read` allocates nothing.
  explicit row_bits(std::size_t cols) : words_((cols + 63) / 64 + 1) {}
  template <class Source>
  void read(const Source& source, const bit_mask* mask, std::size_t r) {
    const std::size_t words = (source.cols() + 63) / 64;
    words_.assign(words + 1, 0);  // one more, so that 16 bits can be taken anywhere
    if (mask != nullptr) {
      if (words != 0) std::memcpy(words_.data(), mask->row(r), words * 8);
    } else {
      for (std::size_t c = 0; c < source.cols(); ++c)
        words_[c / 64] |= static_cast<std::uint64_t>(source.value(r, c) != 0.0f) << c % 64;
    }
  }
  /// Bits [first, first + n), n at most 16; those past the last column are 0.
  std::uint32_t operator()(std::size_t first, int n) const {
    if (first / 64 + 1 >= words_.size()) return 0;
    std::uint64_t v = words_[first / 64] >> first % 64;
    if (first % 64 > 48) v |= words_[first / 64 + 1] << (64 - first % 64);
    return static_cast<std::uint32_t>(v & ((1u << n) - 1));
  }

 private:
  std::vector<std::uint64_t> words_;
};

}  // namespace packing
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
