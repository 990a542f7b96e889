// SPDX-License-Identifier: Apache-2.0
#pragma once
// using q = quern::affine<4, 16>;
// quern::coded_row<q> row{codes, params, 1};
// std::size_t bad = quern::round_row<q>(w, cols, row);   // round to nearest; cols: all weights are finite

#include <bit>
#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/quant/concept.hpp>

namespace quern::inline v0 {

/// One quantized row in somebody else's memory.
template <quantizer Q>
struct coded_row {
  typename Q::code_type* codes;  ///< [cols] codes in natural order
  run_params* params;            ///< [ceil(cols / run)] parameters as they come back from storage
  float row_scale = 1;           ///< fp16 scale of the row (two-level scales)
};

inline namespace QUERN_BUILD {

/// Whether @p x is neither infinite nor NaN; also under -ffast-math.
constexpr bool is_finite(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }

/// Whether @p n floats are all finite.
inline bool all_finite(const float* w, std::size_t n) {
  std::uint32_t bad[8] = {};
  const std::size_t whole = n - n % 8;
  for (std::size_t i = 0; i < whole; i += 8)
    for (std::size_t j = 0; j < 8; ++j)
      bad[j] |= (std::bit_cast<std::uint32_t>(w[i + j]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  for (std::size_t i = whole; i < n; ++i) bad[0] |= is_finite(w[i]) ? 0u : 1u;
  return (bad[0] | bad[1] | bad[2] | bad[3] | bad[4] | bad[5] | bad[6] | bad[7]) == 0;
}

/// Chooses the parameters of every run of a row from its range.
/// @returns the first column whose weight, or whose run's scale once stored, is not finite; @p cols if there
/// is none
template <quantizer Q>
std::size_t fit_row(const float* w, std::size_t cols, coded_row<Q>& out) {
  if (!all_finite(w, cols)) {
    std::size_t bad = 0;
    while (bad + 1 < cols && is_finite(w[bad])) ++bad;
    return bad;
  }
  if constexpr (Q::run > 0) {
    float largest = 0;
    for (std::size_t r = 0, c = 0; c < cols; ++r, c += Q::run) {
      const std::size_t end = c + Q::run < cols ? c + Q::run : cols;
      // Eight at a time, so that the compiler needs no permission to reorder.
      float lows[8] = {}, highs[8] = {}, lo = 0, hi = 0;
      std::size_t i = c;
      for (; i + 8 <= end; i += 8)
        for (std::size_t j = 0; j < 8; ++j) {
          lows[j] = w[i + j] < lows[j] ? w[i + j] : lows[j];
          highs[j] = w[i + j] > highs[j] ? w[i + j] : highs[j];
        }
      for (; i < end; ++i) {
        lows[0] = w[i] < lows[0] ? w[i] : lows[0];
        highs[0] = w[i] > highs[0] ? w[i] : highs[0];
      }
      for (std::size_t j = 0; j < 8; ++j) {
        lo = lows[j] < lo ? lows[j] : lo;
        hi = highs[j] > hi ? highs[j] : hi;
      }
      out.params[r] = Q::fit(lo, hi);
      largest = out.params[r].scale > largest ? out.params[r].scale : largest;
    }
    out.row_scale = Q::row_scale(largest);
    for (std::size_t r = 0, c = 0; c < cols; ++r, c += Q::run) {
      out.params[r] = Q::stored(out.params[r], out.row_scale);
      if (!is_finite(out.params[r].scale) || !is_finite(out.params[r].offset)) return c;
    }
  }
  return cols;
}

/// Rounds every weight of a row to the nearest code of the given parameters.
/// @returns the first column that the format cannot hold (fp16 overflow); @p cols if there is none
template <quantizer Q>
std::size_t encode_row(const float* w, std::size_t cols, const coded_row<Q>& out) {
  if constexpr (Q::run > 0) {
    for (std::size_t r = 0, c = 0; c < cols; ++r, c += Q::run) {
      const run_params p = out.params[r];
      const std::size_t end = c + Q::run < cols ? c + Q::run : cols;
      std::size_t i = c;
      for (; i + 8 <= end; i += 8)
        for (std::size_t j = 0; j < 8; ++j)
          out.codes[i + j] = static_cast<typename Q::code_type>(Q::encode(w[i + j], p));
      for (; i < end; ++i) out.codes[i] = static_cast<typename Q::code_type>(Q::encode(w[i], p));
    }
  } else {
    for (std::size_t i = 0; i < cols; ++i) {
      const std::uint32_t code = Q::encode(w[i], {1, 0});
      out.codes[i] = static_cast<typename Q::code_type>(code);
      if (!is_finite(Q::decode(code, {1, 0}))) return i;
    }
  }
  return cols;
}

/// Round to nearest (RTN): fit_row, then encode_row.
template <quantizer Q>
std::size_t round_row(const float* w, std::size_t cols, coded_row<Q>& out) {
  const std::size_t bad = fit_row<Q>(w, cols, out);
  return bad < cols ? bad : encode_row<Q>(w, cols, out);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
