// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::kernel<quern::isa::scalar>::multiply_tile(w.view(), tile, x, y);

#include <quern/format/traverse.hpp>
#include <quern/kernel/cpu/kernel.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Portable C++: the oracle of all other instruction sets. Every cell is decoded once and multiplied with all
/// tokens. The products of a row are summed in float in the order in which its cells are stored, each cell on
/// its own first.
template <>
struct kernel<isa::scalar> {
  template <class P, class Q>
  static constexpr bool supports = true;

  template <class P, class Q>
  static void multiply_tile(const matrix_view<P, Q>& w, std::size_t tile, span2<const float> x,
                            span2<float> y) noexcept {
    using l = layout<P, Q>;
    float scales[lanes];
    for (std::size_t lane = 0; lane < lanes && tile * lanes + lane < w.rows(); ++lane) {
      scales[lane] = w.row_scale(tile * lanes + lane);
      for (std::size_t t = 0; t < x.rows(); ++t) y(t, tile * lanes + lane) = 0;
    }
    for_each_cell(w, tile, [&](cell c, int lane, std::size_t unit) {
      const std::size_t r = tile * lanes + static_cast<std::size_t>(lane);
      if (r >= w.rows()) return;
      float values[l::cell_codes];
      std::size_t cols[l::cell_codes];
      decode_cell(w, tile, c, lane, unit, scales[lane], values);
      cell_columns(w, c, unit, cols);
      int n = 0;  // codes that belong to an input: cells at the right edge are completed with zeros
      for (int k = 0; k < l::cell_codes; ++k) {
        if (cols[k] >= w.cols()) continue;
        values[n] = values[k];
        cols[n++] = cols[k];
      }
      for (std::size_t t = 0; t < x.rows(); ++t) {
        const float* xt = x.row(t);
        float sum = 0;
        for (int k = 0; k < n; ++k) sum += values[k] * xt[cols[k]];
        y(t, r) += sum;
      }
    });
  }
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
