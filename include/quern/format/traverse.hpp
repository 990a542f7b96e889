// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::for_each_cell(w.view(), tile, [&](quern::cell c, int lane, std::size_t unit) {
//   // row 16 * tile + lane, inputs from unit * layout<P, Q>::cell_cols
// });

#include <bit>
#include <quern/core/config.hpp>
#include <quern/format/matrix.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Calls f(cell, lane, unit) for every stored cell of tile @p tile, in the order in which they are stored.
/// Packing, unpacking, checking and the scalar kernels all walk a matrix through this one function.
template <class P, class Q, class F>
void for_each_cell(const matrix_view<P, Q>& w, std::size_t tile, F&& f) {
  using l = layout<P, Q>;
  if constexpr (P::kind == survivors::all || P::kind == survivors::positions) {
    const std::size_t units = l::cells_per_row(w.cols());
    for (std::size_t u = 0; u < units; ++u)
      for (int lane = 0; lane < lanes; ++lane) f(cell{(tile * units + u) * lanes, lanes, lane}, lane, u);
  } else if constexpr (P::kind == survivors::listed) {
    constexpr std::size_t parts = P::unit_rows / lanes;
    const std::size_t block_row = tile / parts, part = tile % parts;
    for (std::size_t j = w.begin(block_row); j < w.begin(block_row + 1); ++j)
      for (int lane = 0; lane < lanes; ++lane)
        f(cell{(j * parts + part) * lanes, lanes, lane}, lane, w.block_column(j));
  } else {
    std::size_t first = l::uniform ? tile * lanes * l::uniform_cells(w.cols()) : w.begin(tile);
    const std::size_t windows = l::mask_windows(w.cols());
    for (std::size_t window = 0; window < windows; ++window) {
      std::uint32_t left[l::blocks_per_tile];
      int alive = 0;
      for (int b = 0; b < l::blocks_per_tile; ++b) {
        left[b] = w.mask(tile, window, static_cast<std::size_t>(b));
        alive += left[b] != 0 ? P::unit_rows : 0;
      }
      while (alive > 0) {
        cell c{first, alive, 0};
        int next = 0;
        for (int b = 0; b < l::blocks_per_tile; ++b) {
          if (left[b] == 0) continue;
          const std::size_t unit =
              window * l::window_units + static_cast<std::size_t>(std::countr_zero(left[b]));
          left[b] &= left[b] - 1;
          next += left[b] != 0 ? P::unit_rows : 0;
          for (int r = 0; r < P::unit_rows; ++r, ++c.rank) f(c, b * P::unit_rows + r, unit);
        }
        first += static_cast<std::size_t>(alive);
        alive = next;
      }
    }
  }
}

/// All codes [cell_codes] of a cell.
template <class P, class Q>
void load_codes(const matrix_view<P, Q>& w, cell c, std::uint32_t* codes) {
  load_cell<Q::bits, layout<P, Q>::cell_codes>({w[stream::codes], w[stream::codes1], w[stream::codes2]}, c,
                                               codes);
}

/// Positions [cell_codes] of the kept codes of a cell, each within its N:M window (positions).
template <class P, class Q>
void load_positions(const matrix_view<P, Q>& w, cell c, std::uint32_t* positions) {
  using l = layout<P, Q>;
  // The planes of the positions follow each other inside the one index stream.
  const std::byte* p = w[stream::index];
  load_cell<l::position_bits, l::cell_codes>(
      {p, p + w.position_plane(w.cells(), 1), p + w.position_plane(w.cells(), 2)}, c, positions);
}

/// Decodes a cell to @p out [cell_codes] floats, in the order of its codes.
template <class P, class Q>
void decode_cell(const matrix_view<P, Q>& w, std::size_t tile, cell c, int lane, std::size_t unit,
                 float row_scale, float* out) {
  using l = layout<P, Q>;
  std::uint32_t codes[l::cell_codes];
  load_codes(w, c, codes);
  constexpr int per_run = Q::run == 0 ? l::cell_codes : l::params_in_cells ? Q::run : 0;
  if constexpr (per_run > 0) {
    for (int j = 0; j < l::cell_codes / per_run; ++j) {
      const run_params p = w.params(w.param_at(tile, c, lane, static_cast<std::size_t>(j)), row_scale);
      for (int k = j * per_run; k < (j + 1) * per_run; ++k) out[k] = Q::decode(codes[k], p);
    }
  } else {
    // Runs are counted over all inputs: find the run of each code. An N:M window lies within one run.
    constexpr int per_window = P::kind == survivors::positions ? P::keep : 1;
    constexpr int window_cols = P::kind == survivors::positions ? P::of : 1;
    const std::size_t first = unit * static_cast<std::size_t>(l::cell_cols);
    std::size_t run = ~std::size_t{0};
    run_params p{};
    for (int k = 0; k < l::cell_codes; ++k) {
      const std::size_t at = (first + static_cast<std::size_t>(k / per_window * window_cols)) / Q::run;
      // A completed window past the last input has codes but no run of its own.
      if (at != run && at < l::runs(w.cols())) {
        run = at;
        p = w.params(w.param_at(tile, c, lane, run), row_scale);
      }
      out[k] = Q::decode(codes[k], p);
    }
  }
}

/// Inputs [cell_codes] that the codes of a cell belong to; those of completed cells may lie past the last
/// one.
template <class P, class Q>
void cell_columns(const matrix_view<P, Q>& w, cell c, std::size_t unit, std::size_t* cols) {
  using l = layout<P, Q>;
  const std::size_t first = unit * static_cast<std::size_t>(l::cell_cols);
  if constexpr (P::kind == survivors::positions) {
    std::uint32_t at[l::cell_codes];
    load_positions(w, c, at);
    for (int k = 0; k < l::cell_codes; ++k)
      cols[k] = first + static_cast<std::size_t>(k / P::keep * P::of) + at[k];
  } else {
    for (int k = 0; k < l::cell_codes; ++k) cols[k] = first + static_cast<std::size_t>(k);
  }
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
