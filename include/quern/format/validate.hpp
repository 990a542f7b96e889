// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::packed_view raw = ...;                              // streams that come from a file
// auto v = quern::checked<quern::group<16>, quern::affine<4, 16>>(raw, sizes);
// if (!v) puts(v.error().what());

#include <quern/core/config.hpp>
#include <quern/format/traverse.hpp>
#include <quern/quant/round.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

namespace validation {

template <class P, class Q>
result<void> check_lists(const matrix_view<P, Q>& w) {
  using l = layout<P, Q>;
  const std::size_t blocks = l::padded_rows(w.rows()) / P::unit_rows, units = l::cells_per_row(w.cols());
  const std::size_t total = w.cells() / P::unit_rows;
  if (w.cells() % P::unit_rows != 0) return io_error("cells: ", w.cells(), " are not whole blocks");
  if (w.begin(0) != 0 || w.begin(blocks) != total)
    return io_error("begin: must go from 0 to ", total, ", goes from ", w.begin(0), " to ", w.begin(blocks));
  for (std::size_t b = 0; b < blocks; ++b) {
    if (w.begin(b + 1) < w.begin(b) || w.begin(b + 1) > total)
      return io_error("begin[", b + 1, "]: not ascending");
    for (std::size_t j = w.begin(b); j < w.begin(b + 1); ++j)
      if (w.block_column(j) >= units || (j > w.begin(b) && w.block_column(j) <= w.block_column(j - 1)))
        return io_error("index[", j, "]: block row ", b, " lists block ", w.block_column(j), " of ", units,
                        ", or not in ascending order");
  }
  return {};
}

template <class P, class Q>
result<void> check_masks(const matrix_view<P, Q>& w) {
  using l = layout<P, Q>;
  const std::size_t tiles = l::tiles(w.rows()), windows = l::mask_windows(w.cols());
  const std::size_t units = l::cells_per_row(w.cols());
  std::size_t total = 0;
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    if constexpr (!l::uniform)
      if (w.begin(tile) != total)
        return io_error("begin[", tile, "]: is ", w.begin(tile), ", masks say ", total);
    for (std::size_t window = 0; window < windows; ++window) {
      const std::size_t first = window * l::window_units;
      const std::size_t width = units - first < l::window_units ? units - first : l::window_units;
      for (std::size_t b = 0; b < l::blocks_per_tile; ++b) {
        const std::uint32_t m = w.mask(tile, window, b);
        if (m >> width != 0)
          return io_error("index: tile ", tile, " window ", window, " keeps a unit past the last");
        if (!l::uniform && m != 0 && tile * lanes + b * P::unit_rows >= w.rows())
          return io_error("index: tile ", tile, " window ", window, " keeps a unit of a row past the last");
        if constexpr (P::of > 0)
          for (std::size_t i = 0; i < width; i += P::of) {
            const std::size_t n = width - i < P::of ? width - i : P::of;
            if (std::popcount(m >> i & ((1u << P::of) - 1)) != static_cast<int>(n < P::keep ? n : P::keep))
              return io_error("index: tile ", tile, " window ", window, " does not keep ", P::keep, " of ",
                              P::of);
          }
        total += static_cast<std::size_t>(std::popcount(m)) * P::unit_rows;
      }
    }
  }
  if (total != w.cells())
    return io_error("index: masks keep ", total, " cells, the matrix stores ", w.cells());
  if constexpr (!l::uniform)
    if (w.begin(tiles) != total)
      return io_error("begin[", tiles, "]: is ", w.begin(tiles), ", masks say ", total);
  return {};
}

template <class P, class Q>
result<void> check_positions(const matrix_view<P, Q>& w) {
  using l = layout<P, Q>;
  result<void> out;
  for (std::size_t tile = 0; tile < l::tiles(w.rows()) && out; ++tile)
    for_each_cell(w, tile, [&](cell c, int lane, std::size_t unit) {
      std::uint32_t places[l::cell_codes];
      load_positions(w, c, places);
      int last = -1;
      for (int k = 0; k < l::cell_codes; ++k) {
        const int at = static_cast<int>(places[k]);
        if (k % P::keep == 0) last = -1;
        if (out && (at >= P::of || at <= last))
          out = io_error("index: row ", tile * lanes + static_cast<std::size_t>(lane), " column ",
                         unit * static_cast<std::size_t>(l::cell_cols),
                         ": positions are not ascending within ", P::of);
        last = at;
      }
    });
  return out;
}

/// Whether every code decodes to a number: a bf16 scale may be one, and the weight still be infinite.
template <class Q>
bool is_finite_run(run_params p) {
  constexpr std::uint32_t top = (1u << Q::bits) - 1;
  if constexpr (requires { Q::table::values; }) {  // largest where the table has them
    for (std::uint32_t code = 0; code < top; ++code)
      if (!is_finite(Q::decode(code, p))) return false;
  }
  return is_finite(p.scale) && is_finite(p.offset) && is_finite(Q::decode(0, p)) &&
         is_finite(Q::decode(top, p));
}

template <class P, class Q>
result<void> check_params(const matrix_view<P, Q>& w) {
  using l = layout<P, Q>;
  if constexpr (Q::row_scaled)
    for (std::size_t r = 0; r < w.rows(); ++r)
      if (!is_finite(w.row_scale(r))) return io_error("row_scale[", r, "]: is not finite");
  if constexpr (Q::run > 0) {
    const std::size_t fields =
        l::params_in_cells ? w.cells() * l::runs_per_cell : l::tiles(w.rows()) * lanes * l::runs(w.cols());
    for (std::size_t i = 0; i < fields; ++i) {
      // Zero codes lie in an order of their own: the largest one stands for all.
      std::uint32_t zero = (1u << Q::zero_bits) - 1;
      if constexpr (Q::zero_bits == 16) zero = get_field(w[stream::zero], 16, sequential(16, i));
      const std::uint32_t scale = get_field(w[stream::scale], Q::scale_bits, sequential(Q::scale_bits, i));
      if (!is_finite_run<Q>(Q::params(scale, zero, 1)))
        return io_error("scale[", i, "] or zero[", i, "]: is not finite, or makes weights that are not");
    }
  }
  return {};
}

}  // namespace validation

/// Checks everything that a kernel takes on trust: sizes of the streams, their alignment, ascending lists,
/// masks that fit the shape and the pattern, finite scales. Linear in the bytes of indices and scales; codes
/// are any bits, except those of `real`, which may not be NaN or infinite.
/// @param sizes  bytes available in each stream
/// @returns the typed view, or an error that names the stream and the place
template <sparsity_pattern P, quantizer Q>
result<matrix_view<P, Q>> checked(const packed_view& raw, const storage& sizes) {
  using l = layout<P, Q>;
  // Each on its own as well: an empty matrix has a shape, too, from which the sizes of streams are computed.
  constexpr std::size_t most = ~std::uint32_t{0};
  if (raw.rows > most || raw.cols > most || (raw.cols != 0 && raw.rows > most / raw.cols))
    return io_error("shape: ", raw.rows, " x ", raw.cols, " weights; a matrix holds at most 2^32 - 1");
  const matrix_view<P, Q> w(raw);
  if (raw.cells > l::padded_rows(raw.rows) * l::cells_per_row(raw.cols) ||
      raw.cells != l::cells(raw.rows, raw.cols, raw.cells))
    return io_error("cells: ", raw.cells, " do not fit ", raw.rows, " x ", raw.cols);
  const storage want = w.bytes();
  for (int i = 0; i < stream_count; ++i) {
    const char* const stream_label = stream_name(static_cast<stream>(i));
    if (sizes.bytes[i] != want.bytes[i])
      return io_error(stream_label, ": has ", sizes.bytes[i], " bytes, must have ", want.bytes[i]);
    if (want.bytes[i] > 0 && reinterpret_cast<std::uintptr_t>(raw.at[i]) % 64 != 0)
      return io_error(stream_label, ": does not start at a 64-byte boundary");
  }
  result<void> ok;
  if constexpr (P::kind == survivors::listed)
    ok = validation::check_lists(w);
  else if constexpr (P::kind == survivors::masked)
    ok = validation::check_masks(w);
  else if constexpr (P::kind == survivors::positions)
    ok = validation::check_positions(w);
  if (!ok) return ok.error();
  if (const result<void> params = validation::check_params(w); !params) return params.error();
  if constexpr (Q::run == 0) {
    constexpr std::size_t code_bytes = Q::bits / 8;
    for (std::size_t i = 0; i < raw.cells * l::cell_codes; ++i)
      if (!is_finite(Q::decode(get_field(raw[stream::codes], Q::bits, {i * code_bytes, 0}), {1, 0})))
        return io_error("codes[", i, "]: is NaN or infinite");
  }
  return w;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
