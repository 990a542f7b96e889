// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::bit_mask keep(rows, cols);            // nothing kept
// keep.set(r, c, true);
// auto bad = quern::first_violation<quern::nm<2, 4>>(keep);
// if (bad) printf("row %zu column %zu", bad.row, bad.col);

#include <bit>
#include <cstdint>
#include <quern/core/buffer.hpp>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/span2.hpp>
#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// Where a mask breaks its pattern: the first weight, row by row, that may not be as it is.
struct violation {
  bool found = false;
  std::size_t row = 0, col = 0;
  explicit operator bool() const { return found; }
};

inline namespace QUERN_BUILD {

/// One bit per weight of W [rows x cols]; set = the weight survives. Rows start at a 64-bit word; bits past
/// the last column are zero. Copying is explicit (`clone`).
class bit_mask {
 public:
  bit_mask() = default;
  bit_mask(std::size_t rows, std::size_t cols, bool value = false)
      : rows_(rows), cols_(cols), words_((cols + 63) / 64), bits_(rows * words_ * 8) {
    if (!value) return;
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t w = 0; w < words_; ++w)
        row(r)[w] =
            w + 1 < words_ || cols % 64 == 0 ? ~std::uint64_t{0} : (std::uint64_t{1} << cols % 64) - 1;
  }
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t words() const { return words_; }
  /// [words()] 64-bit words of row @p r; bit c % 64 of word c / 64 is column c.
  std::uint64_t* row(std::size_t r) { return reinterpret_cast<std::uint64_t*>(bits_.data()) + r * words_; }
  const std::uint64_t* row(std::size_t r) const {
    return reinterpret_cast<const std::uint64_t*>(bits_.data()) + r * words_;
  }
  bool operator()(std::size_t r, std::size_t c) const { return (row(r)[c / 64] >> c % 64 & 1) != 0; }
  void set(std::size_t r, std::size_t c, bool value) {
    const std::uint64_t bit = std::uint64_t{1} << c % 64;
    row(r)[c / 64] = value ? row(r)[c / 64] | bit : row(r)[c / 64] & ~bit;
  }
  bit_mask clone() const {
    bit_mask copy;
    copy.rows_ = rows_;
    copy.cols_ = cols_;
    copy.words_ = words_;
    copy.bits_ = bits_.clone();
    return copy;
  }

 private:
  std::size_t rows_ = 0, cols_ = 0, words_ = 0;
  buffer bits_;
};

/// Weights that survive.
inline std::size_t count(const bit_mask& m) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < m.rows() * m.words(); ++i)
    n += static_cast<std::size_t>(std::popcount(m.row(0)[i]));
  return n;
}

/// Share of the weights whose mask differs (the flip rate that AST logs between two mask updates); 0 when
/// empty.
/// @throws shape_error if the shapes differ
inline double flip_rate(const bit_mask& a, const bit_mask& b) {
  require(a.rows() == b.rows() && a.cols() == b.cols(),
          "quern::flip_rate: the masks must have one shape, got ", a.rows(), " x ", a.cols(), " and ",
          b.rows(), " x ", b.cols());
  if (a.rows() * a.cols() == 0) return 0;
  std::size_t n = 0;
  for (std::size_t i = 0; i < a.rows() * a.words(); ++i)
    n += static_cast<std::size_t>(std::popcount(a.row(0)[i] ^ b.row(0)[i]));
  return static_cast<double>(n) / (static_cast<double>(a.rows()) * static_cast<double>(a.cols()));
}

/// The mask of a matrix that marks its pruned weights by zeros.
inline bit_mask nonzero(span2<const float> w) {
  bit_mask m(w.rows(), w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c)
      if (w(r, c) != 0.0f) m.row(r)[c / 64] |= std::uint64_t{1} << c % 64;
  return m;
}

/// The first place where @p m breaks P: a unit that is kept in part, or more than `keep` of `of` units.
template <sparsity_pattern P>
violation first_violation(const bit_mask& m) {
  if constexpr (P::kind == survivors::all) {
    for (std::size_t r = 0; r < m.rows(); ++r)
      for (std::size_t c = 0; c < m.cols(); ++c)
        if (!m(r, c)) return {true, r, c};
  } else {
    const std::size_t units = units_per_row<P>(m.cols());
    for (std::size_t r = 0; r < m.rows(); ++r) {
      const std::size_t top = r - r % P::unit_rows;
      int kept = 0;
      for (std::size_t u = 0; u < units; ++u) {
        const std::size_t first = u * P::unit_cols;
        const std::size_t end = first + P::unit_cols < m.cols() ? first + P::unit_cols : m.cols();
        const bool alive = m(top, first);
        if constexpr (P::unit_rows > 1 || P::unit_cols > 1)
          for (std::size_t c = first; c < end; ++c)
            if (m(r, c) != alive) return {true, r, c};
        if constexpr (P::of > 0) {
          if (u % P::of == 0) kept = 0;
          if (alive && ++kept > P::keep) return {true, r, first};
        }
      }
    }
  }
  return {};
}

/// Whether @p m obeys P.
template <sparsity_pattern P>
bool conforms(const bit_mask& m) {
  return !first_violation<P>(m);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
