// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<float> dense(w.rows() * w.cols());
// quern::unpack(w.view(), {dense.data(), w.rows(), w.cols()});

#include <quern/core/config.hpp>
#include <quern/core/executor.hpp>
#include <quern/format/coded.hpp>
#include <quern/format/traverse.hpp>
#include <quern/pattern/mask.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Decodes the rows of tile @p tile that lie in [first_row, first_row + out.rows()) into @p out, whose row 0
/// is first_row of W. Pruned weights become 0.
template <class P, class Q>
void unpack_tile(const matrix_view<P, Q>& w, std::size_t tile, std::size_t first_row, span2<float> out) {
  using l = layout<P, Q>;
  float scales[lanes];
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    const std::size_t r = tile * lanes + lane;
    scales[lane] = r < w.rows() ? w.row_scale(r) : 1;
    if (r >= first_row && r < first_row + out.rows())
      for (std::size_t c = 0; c < w.cols(); ++c) out(r - first_row, c) = 0;
  }
  for_each_cell(w, tile, [&](cell c, int lane, std::size_t unit) {
    const std::size_t r = tile * lanes + static_cast<std::size_t>(lane);
    if (r < first_row || r >= first_row + out.rows() || r >= w.rows()) return;
    float values[l::cell_codes];
    std::size_t cols[l::cell_codes];
    decode_cell(w, tile, c, lane, unit, scales[lane], values);
    cell_columns(w, c, unit, cols);
    for (int k = 0; k < l::cell_codes; ++k)
      if (cols[k] < w.cols()) out(r - first_row, cols[k]) = values[k];
  });
}

/// Decodes rows [first_row, first_row + out.rows()) into @p out [n x cols].
/// @throws shape_error if out does not fit
template <class P, class Q, executor Exec = serial>
void unpack_rows(const matrix_view<P, Q>& w, std::size_t first_row, span2<float> out, Exec&& exec = Exec{}) {
  require(out.cols() == w.cols() && first_row <= w.rows() && out.rows() <= w.rows() - first_row,
          "quern::unpack_rows: out must be [n x ", w.cols(), "] with first_row + n <= ", w.rows());
  if (out.rows() == 0) return;
  const std::size_t first = first_row / lanes, end = (first_row + out.rows() + lanes - 1) / lanes;
  exec.parallel_for(end - first, 1, [&](std::size_t b, std::size_t e) {
    for (std::size_t t = first + b; t < first + e; ++t) unpack_tile(w, t, first_row, out);
  });
}

/// Decodes all of W into @p out [rows x cols]: the oracle of every kernel.
template <class P, class Q, executor Exec = serial>
void unpack(const matrix_view<P, Q>& w, span2<float> out, Exec&& exec = Exec{}) {
  require(out.rows() == w.rows(), "quern::unpack: out must have ", w.rows(), " rows, got ", out.rows());
  unpack_rows(w, 0, out, exec);
}

/// Parameters of the run that holds column @p c.
template <quantizer Q>
run_params params_at(const coded_matrix<Q>& w, std::size_t r, std::size_t c) {
  if constexpr (Q::run > 0)
    return w.params(r, c / Q::run);
  else
    return {1, 0};
}

/// The codes and parameters that are stored, and, in @p mask, which weights they belong to (null: not
/// wanted). Weights that are not stored get the code of zero.
template <class P, class Q>
coded_matrix<Q> unpack_codes(const matrix_view<P, Q>& w, bit_mask* mask = nullptr) {
  using l = layout<P, Q>;
  coded_matrix<Q> out(w.rows(), w.cols());
  if (mask != nullptr) *mask = bit_mask(w.rows(), w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) {
    out.row_scale(r) = w.row_scale(r);
    if constexpr (Q::run > 0 && !l::params_in_cells)
      for (std::size_t run = 0; run < out.runs(); ++run)
        out.params(r, run) =
            w.params(w.param_at(r / lanes, {}, static_cast<int>(r % lanes), run), w.row_scale(r));
    for (std::size_t c = 0; c < w.cols(); ++c)
      out.code(r, c) = static_cast<typename Q::code_type>(Q::encode(0, params_at(out, r, c)));
  }
  for (std::size_t tile = 0; tile < l::tiles(w.rows()); ++tile)
    for_each_cell(w, tile, [&](cell c, int lane, std::size_t unit) {
      const std::size_t r = tile * lanes + static_cast<std::size_t>(lane);
      if (r >= w.rows()) return;
      if constexpr (l::params_in_cells)
        for (std::size_t j = 0; j < l::runs_per_cell; ++j)
          if (const std::size_t run = unit * l::runs_per_cell + j; run < out.runs())
            out.params(r, run) = w.params(w.param_at(tile, c, lane, j), w.row_scale(r));
      std::uint32_t codes[l::cell_codes];
      std::size_t cols[l::cell_codes];
      load_codes(w, c, codes);
      cell_columns(w, c, unit, cols);
      for (int k = 0; k < l::cell_codes; ++k) {
        if (cols[k] >= w.cols()) continue;
        out.code(r, cols[k]) = static_cast<typename Q::code_type>(codes[k]);
        if (mask != nullptr) mask->set(r, cols[k], true);
      }
    });
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
