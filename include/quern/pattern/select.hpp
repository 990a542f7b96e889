// SPDX-License-Identifier: Apache-2.0
#pragma once
// // scores [block rows x units per row], larger is worth more
// quern::bit_mask keep = quern::select<quern::group<16>>(scores, rows, cols, 0.5, quern::scope::row).value();
// quern::bit_mask two_of_four = quern::select<quern::nm<2, 4>>(scores, rows, cols).value();
// quern::bit_mask alive = quern::surviving_units(w, quern::shape_of<quern::nm<2, 4>>()).value();

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <quern/core/config.hpp>
#include <quern/pattern/mask.hpp>
#include <span>
#include <utility>
#include <vector>

namespace quern::inline v0 {

/// Among which units the best are kept, where the pattern leaves the density free.
enum class scope {
  row,        ///< every row (every block row of `bsr`) keeps equally many
  row_block,  ///< every 16 rows (every block row of taller blocks): equal work for the tiles of a kernel
  layer,      ///< the whole matrix
};

/// The numbers of a pattern at run time: what choosing a mask needs to know. Whatever
/// does not touch codes takes it instead of the type, so that it is compiled once and not for every format.
struct unit_shape {
  std::size_t rows = 1, cols = 1;  ///< of a unit
  std::size_t keep = 0, of = 0;    ///< at most `keep` of every `of` units of a row; 0, 0: any number
  bool dense = false;              ///< nothing may be pruned
  /// Columns within which a choice of fixed density is made; 0 for patterns of free density.
  constexpr std::size_t window() const { return of * cols; }
  friend bool operator==(const unit_shape&, const unit_shape&) = default;
};

inline namespace QUERN_BUILD {

/// Those of P.
template <sparsity_pattern P>
constexpr unit_shape shape_of() {
  return {static_cast<std::size_t>(P::unit_rows), static_cast<std::size_t>(P::unit_cols),
          static_cast<std::size_t>(P::keep), static_cast<std::size_t>(P::of), P::kind == survivors::all};
}

/// round(density * (before + now)) - round(density * before): quotas of consecutive parts that add up to the
/// rounded quota of the whole.
inline std::size_t keep_quota(double density, std::size_t before, std::size_t now) {
  const auto share = [&](std::size_t n) {
    return static_cast<std::size_t>(std::llround(density * static_cast<double>(n)));
  };
  return share(before + now) - share(before);
}

/// Block rows that share one quota, of @p blocks in all.
constexpr std::size_t scope_height(const unit_shape& p, scope s, std::size_t blocks) {
  const std::size_t tile = p.rows < 16 ? 16 / p.rows : 1;
  return s == scope::row ? 1 : s == scope::row_block ? tile : blocks;
}

/// Sets whether unit @p unit of block row @p block survives.
inline void set_unit(bit_mask& mask, const unit_shape& p, std::size_t block, std::size_t unit, bool value) {
  const std::size_t end_row = std::min(mask.rows(), (block + 1) * p.rows);
  const std::size_t end_col = std::min(mask.cols(), (unit + 1) * p.cols);
  for (std::size_t r = block * p.rows; r < end_row; ++r)
    for (std::size_t c = unit * p.cols; c < end_col; ++c) mask.set(r, c, value);
}

/// Units that survive of the first @p units of block rows [top, end), which are whole.
inline std::size_t kept_units(const bit_mask& mask, const unit_shape& p, std::size_t top, std::size_t end,
                              std::size_t units) {
  const std::size_t cols = units * p.cols, words = cols / 64;
  std::size_t weights = 0;  // of the first row of every block
  for (std::size_t b = top; b < end; ++b) {
    const std::uint64_t* const row = mask.row(b * p.rows);
    for (std::size_t i = 0; i < words; ++i) weights += static_cast<std::size_t>(std::popcount(row[i]));
    if (cols % 64 != 0)
      weights += static_cast<std::size_t>(std::popcount(row[words] & ((std::uint64_t{1} << cols % 64) - 1)));
  }
  return weights / p.cols;
}

/// Decides units of which @p scores [blocks x units] are known, the first of which is unit @p first_unit of
/// block row @p first_block; best score survives, of equal ones the one further up, then further left.
/// Patterns of fixed density keep `keep` of `of`; first_unit must start a window of `of` units. Of the others
/// round(density * n) survive of the n units from the first of the row to the last that has a score, those left of
/// first_unit, which @p mask has, included: the parts of a matrix that is decided from left to right add up.
/// @param decide  how many of the units of a row are written; those right of them only compete. Patterns of fixed
///                density decide all.
inline void select_units(span2<const float> scores, const unit_shape& p, std::size_t first_block,
                         std::size_t first_unit, double density, scope s, bit_mask& mask,
                         std::size_t decide = ~std::size_t{0}) {
  const std::size_t blocks = scores.rows(), units = scores.cols();
  const std::size_t height = p.of > 0 ? 1 : scope_height(p, s, blocks), window = p.of > 0 ? p.of : units;
  std::vector<std::size_t> order;
  for (std::size_t top = 0; top < blocks; top += height) {
    const std::size_t tall = std::min(height, blocks - top);
    for (std::size_t left = 0; left < units; left += window) {
      const std::size_t wide = std::min(window, units - left);
      const std::size_t quota =
          p.of > 0 ? std::min(wide, p.keep)
                   : keep_quota(density, 0, (first_unit + units) * tall) -
                         kept_units(mask, p, first_block + top, first_block + top + tall, first_unit);
      const auto score = [&](std::size_t i) { return scores(top + i / wide, left + i % wide); };
      order.resize(tall * wide);
      std::iota(order.begin(), order.end(), std::size_t{0});
      const auto better = [&](std::size_t a, std::size_t b) {
        const float x = score(a), y = score(b);
        return x > y || (x == y && a < b);
      };
      if (quota < order.size())
        std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(quota), order.end(),
                         better);
      for (std::size_t n = 0; n < order.size(); ++n)
        if (left + order[n] % wide < decide)
          set_unit(mask, p, first_block + top + order[n] / wide, first_unit + left + order[n] % wide,
                   n < quota);
    }
  }
}

/// The mask of W [rows x cols] that keeps the units of pattern P with the best scores. It always obeys P, and
/// the counts are exact: of n units that share a quota, round(density * n) survive.
/// @param scores   [block_rows x units_per_row], one per unit; larger is worth more; `dense` does not look
/// @param density  0..1; patterns of fixed density (nm, group_nm) and `dense` do not look at it
/// @returns an error if a score is NaN (with its row and column), if the density is not 0..1, or if the sizes
///          do not fit
inline result<bit_mask> select(span2<const float> scores, const unit_shape& p, std::size_t rows,
                               std::size_t cols, double density = 0.5, scope s = scope::row) {
  if (p.dense) return bit_mask(rows, cols, true);
  const std::size_t blocks = scores.rows(), units = scores.cols(), want_blocks = (rows + p.rows - 1) / p.rows,
                    want_units = (cols + p.cols - 1) / p.cols;
  if (blocks != want_blocks || units != want_units)
    return error("quern::select: W [", rows, " x ", cols, "] has ", want_blocks, " x ", want_units,
                 " units of ", p.rows, " x ", p.cols, " but there are ", blocks, " x ", units, " scores");
  if (!(density >= 0 && density <= 1))
    return error("quern::select: the density is ", density, "; it must be 0..1");
  for (std::size_t b = 0; b < blocks; ++b)
    for (std::size_t u = 0; u < units; ++u)
      if (std::isnan(scores(b, u)))
        return error("quern::select: the score of row ", b * p.rows, " column ", u * p.cols,
                     " is NaN; check the weights and the calibration");
  bit_mask mask(rows, cols);
  select_units(scores, p, 0, 0, density, s, mask);
  return {std::move(mask)};  // nvcc does not move what it converts
}
template <sparsity_pattern P>
result<bit_mask> select(span2<const float> scores, std::size_t rows, std::size_t cols, double density = 0.5,
                        scope s = scope::row) {
  return select(scores, shape_of<P>(), rows, cols, density, s);
}

/// The magnitude of every unit of W [rows x cols]: the mean of |w| over its weights, each times the factor of its
/// column, where there are any (Wanda: the norm of the input).
/// @param factor  [cols] of the columns, or empty: 1
/// @param out     [block rows x units per row]
inline void unit_magnitudes(span2<const float> w, const unit_shape& p, std::span<const float> factor,
                            span2<float> out) {
  require(factor.empty() || factor.size() == w.cols(), "quern::unit_magnitudes: ", factor.size(),
          " factors for ", w.cols(), " columns; they must be equal");
  require(out.rows() == (w.rows() + p.rows - 1) / p.rows && out.cols() == (w.cols() + p.cols - 1) / p.cols,
          "quern::unit_magnitudes: out must have one element for every unit of W");
  for (std::size_t b = 0; b < out.rows(); ++b)
    for (std::size_t u = 0; u < out.cols(); ++u) {
      const std::size_t end_row = std::min(w.rows(), (b + 1) * p.rows),
                        end_col = std::min(w.cols(), (u + 1) * p.cols);
      float sum = 0;
      for (std::size_t r = b * p.rows; r < end_row; ++r)
        for (std::size_t c = u * p.cols; c < end_col; ++c)
          sum += std::abs(w(r, c)) * (factor.empty() ? 1.0f : factor[c]);
      const std::size_t count = (end_row - b * p.rows) * (end_col - u * p.cols);
      out(b, u) = sum / static_cast<float>(count);
    }
}

/// The mask of a matrix that was pruned before: units with any weight that is not zero survive.
/// @returns an error that names the row and column of the first unit that is one too many for the pattern
inline result<bit_mask> surviving_units(span2<const float> w, const unit_shape& p) {
  if (p.dense) return bit_mask(w.rows(), w.cols(), true);
  const bit_mask weights = nonzero(w);
  bit_mask mask(w.rows(), w.cols());
  const std::size_t blocks = (w.rows() + p.rows - 1) / p.rows, units = (w.cols() + p.cols - 1) / p.cols;
  for (std::size_t b = 0; b < blocks; ++b) {
    std::size_t kept = 0;
    for (std::size_t u = 0; u < units; ++u) {
      if (p.of > 0 && u % p.of == 0) kept = 0;
      bool alive = false;
      for (std::size_t r = b * p.rows; r < std::min(w.rows(), (b + 1) * p.rows); ++r)
        for (std::size_t c = u * p.cols; c < std::min(w.cols(), (u + 1) * p.cols); ++c)
          alive = alive || weights(r, c);
      if (!alive) continue;
      if (p.of > 0 && ++kept > p.keep)
        return error("quern::surviving_units: row ", b * p.rows, " column ", u * p.cols, ": more than ",
                     p.keep, " of ", p.of, " units of ", p.rows, " x ", p.cols,
                     " are not zero; W was not pruned to this pattern");
      set_unit(mask, p, b, u, true);
    }
  }
  return {std::move(mask)};  // nvcc does not move what it converts
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
