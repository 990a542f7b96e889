// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::span2<const float> dense(data, rows, cols);
// auto a = quern::pack<quern::group<16>, quern::affine<4, 16>>(dense);         // zeros mark what is pruned
// auto b = quern::pack<quern::group<16>, quern::affine<4, 16>>(dense, mask);   // a mask says it
// auto c = quern::try_pack<quern::nm<2, 4>, quern::real<quern::f16>>(dense);   // an error, not an exception

#include <quern/core/config.hpp>
#include <quern/core/executor.hpp>
#include <quern/format/pack_source.hpp>
#include <quern/format/traverse.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace packing {

/// Where a band of rows cannot be packed: a weight that is not finite (or overflows its format), or a mask
/// that breaks the pattern.
struct fault {
  enum { none, not_finite, too_large, pattern } kind = none;
  std::size_t row = 0, col = 0;
};

/// Rows that are packed together: those that share a block, at least a tile.
template <class P>
inline constexpr std::size_t band_rows = P::unit_rows > lanes ? P::unit_rows : lanes;
/// Lists of survivors in a band.
template <class P>
inline constexpr std::size_t band_blocks = band_rows<P> / static_cast<std::size_t>(P::unit_rows);

/// Which units of a band survive: [windows][blocks] 16-bit masks, and the number of stored cells.
template <class P, class Q, class Source>
fault scan_band(const Source& source, const bit_mask* mask, std::size_t band, std::uint16_t* masks,
                std::size_t& cells, row_bits& alive) {
  using l = layout<P, Q>;
  const std::size_t cols = source.cols(), first_row = band * band_rows<P>;
  const std::size_t end_row =
      first_row + band_rows<P> < source.rows() ? first_row + band_rows<P> : source.rows();
  for (std::size_t r = first_row; r < end_row; ++r) {
    if (const std::size_t c = source.first_bad(r, mask); c < cols) return {fault::not_finite, r, c};
    if constexpr (P::kind != survivors::all) alive.read(source, mask, r);
    if constexpr (P::kind == survivors::positions) {
      for (std::size_t c = 0; c < cols; c += P::of) {
        std::uint32_t bits = alive(c, P::of);
        if (std::popcount(bits) <= P::keep) continue;
        for (int i = 0; i < P::keep; ++i) bits &= bits - 1;
        return {fault::pattern, r, c + static_cast<std::size_t>(std::countr_zero(bits))};
      }
    } else if constexpr (P::kind != survivors::all) {
      const std::size_t block = (r - first_row) / static_cast<std::size_t>(P::unit_rows);
      const std::size_t units = l::cells_per_row(cols);
      for (std::size_t unit = 0; unit < units; ++unit) {
        constexpr int piece = P::unit_cols % 16 == 0 ? 16 : P::unit_cols % 8 == 0 ? 8 : 1;
        std::uint32_t any = 0;
        for (int i = 0; i < P::unit_cols; i += piece)
          any |= alive(unit * P::unit_cols + static_cast<std::size_t>(i), piece);
        masks[unit / l::window_units * band_blocks<P> + block] |=
            static_cast<std::uint16_t>((any != 0 ? 1u : 0u) << unit % l::window_units);
      }
    }
  }
  if constexpr (P::kind == survivors::masked || P::kind == survivors::listed) {
    const std::size_t units = l::cells_per_row(cols), windows = l::mask_windows(cols);
    cells = 0;
    for (std::size_t window = 0; window < windows; ++window)
      for (std::size_t block = 0; block < band_blocks<P>; ++block) {
        std::uint16_t& m = masks[window * band_blocks<P> + block];
        if constexpr (P::of > 0) {
          // Every window is completed to exactly N units with units that decode to zero.
          for (std::size_t first = 0; first < l::window_units; first += P::of) {
            const std::size_t unit = window * l::window_units + first;
            if (unit >= units) break;
            const std::size_t width = units - unit < P::of ? units - unit : P::of;
            const std::size_t want = width < P::keep ? width : P::keep;
            const std::uint32_t part = m >> first & ((1u << P::of) - 1);
            if (static_cast<std::size_t>(std::popcount(part)) > want)
              return {fault::pattern, first_row + block, unit * static_cast<std::size_t>(P::unit_cols)};
            std::size_t have = static_cast<std::size_t>(std::popcount(part));
            for (std::size_t i = 0; i < width && have < want; ++i)
              if ((m >> (first + i) & 1) == 0) {
                m |= static_cast<std::uint16_t>(1u << (first + i));
                ++have;
              }
          }
        }
        cells += static_cast<std::size_t>(std::popcount(m)) * P::unit_rows;
      }
  }
  return {};
}

/// Writes the list of survivors of a band.
template <class P, class Q>
void write_index(matrix<P, Q>& w, std::size_t band, const std::uint16_t* masks, std::size_t first_cell) {
  using l = layout<P, Q>;
  const std::size_t windows = l::mask_windows(w.cols());
  const std::uint32_t begin =
      static_cast<std::uint32_t>(P::kind == survivors::listed ? first_cell / P::unit_rows : first_cell);
  if constexpr (!l::uniform) std::memcpy(w.writable(stream::begin) + band * 4, &begin, 4);
  if constexpr (P::kind == survivors::masked) {
    if (windows != 0)
      std::memcpy(w.writable(stream::index) + band * windows * band_blocks<P> * 2, masks,
                  windows * band_blocks<P> * 2);
  } else {
    const int bytes = l::index_bytes(w.cols());
    std::byte* out = w.writable(stream::index) + begin * static_cast<std::size_t>(bytes);
    for (std::size_t window = 0; window < windows; ++window)
      for (std::uint32_t m = masks[window]; m != 0; m &= m - 1) {
        const std::size_t unit = window * l::window_units + static_cast<std::size_t>(std::countr_zero(m));
        for (int i = 0; i < bytes; ++i) *out++ = static_cast<std::byte>(unit >> 8 * i & 0xff);
      }
  }
}

/// What one thread works with: allocated before the threads part, since what an executor runs must not throw.
template <class P, class Q>
struct scratch {
  std::vector<row_bits> alive;  ///< of a row, or of every row of a tile
  coded_matrix<Q> rows;         ///< [16 x cols] of a tile
  std::vector<float> weights;   ///< [cols] of a row without its pruned ones
  explicit scratch(std::size_t cols)
      : alive(P::kind == survivors::positions ? lanes : 1, row_bits(cols)),
        rows(lanes, cols),
        weights(cols) {}
};

/// Codes and parameters of the 16 rows of one tile.
template <class P, class Q, class Source>
fault write_tile(matrix<P, Q>& w, const Source& source, const bit_mask* mask, std::size_t tile,
                 scratch<P, Q>& own_memory) {
  using l = layout<P, Q>;
  coded_matrix<Q>& rows = own_memory.rows;
  std::vector<row_bits>& alive = own_memory.alive;
  const std::size_t cols = source.cols();
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    const std::size_t r = tile * lanes + lane;
    if (r >= source.rows()) break;
    coded_row<Q> row = rows.row(lane);
    const std::size_t bad = source.fill(r, mask, own_memory.weights.data(), row);
    if (bad < cols) return {fault::too_large, r, bad};
    rows.row_scale(lane) = row.row_scale;
    if constexpr (Q::row_scaled) {
      const std::uint16_t bits = to_f16(row.row_scale).bits;
      std::memcpy(w.writable(stream::row_scale) + r * 2, &bits, 2);
    }
  }
  const matrix_view<P, Q> v = w.view();
  const auto put_params = [&](auto place, std::size_t lane, std::size_t run) {
    const run_params p = rows.params(lane, run);
    put_field(w.writable(stream::scale), Q::scale_bits, place.scale, Q::scale_code(p, rows.row_scale(lane)));
    if constexpr (Q::zero_bits > 0)
      put_field(w.writable(stream::zero), Q::zero_bits, place.zero, Q::zero_code(p));
  };
  std::byte* const planes[3] = {w.writable(stream::codes), w.writable(stream::codes1),
                                w.writable(stream::codes2)};
  if constexpr (P::kind == survivors::positions)
    for (std::size_t lane = 0; lane < lanes && tile * lanes + lane < source.rows(); ++lane)
      alive[lane].read(source, mask, tile * lanes + lane);
  if constexpr (Q::run > 0 && !l::params_in_cells)
    for (std::size_t lane = 0; lane < lanes && tile * lanes + lane < source.rows(); ++lane)
      for (std::size_t run = 0; run < l::runs(cols); ++run)
        put_params(v.param_at(tile, {}, static_cast<int>(lane), run), lane, run);
  for_each_cell(v, tile, [&](cell c, int lane, std::size_t unit) {
    const std::size_t r = tile * lanes + static_cast<std::size_t>(lane), own = static_cast<std::size_t>(lane);
    const std::size_t first = unit * static_cast<std::size_t>(l::cell_cols);
    std::uint32_t codes[l::cell_codes] = {};
    if constexpr (P::kind == survivors::positions) {
      // Every window is completed to exactly N with the first inputs that are free; they hold the code 0 or
      // that of a weight that is zero.
      std::uint32_t places[l::cell_codes];
      for (std::size_t i = 0; i < l::windows; ++i) {
        std::uint32_t kept = r < source.rows() ? alive[own](first + i * P::of, P::of) : 0;
        for (std::uint32_t j = 0; std::popcount(kept) < P::keep; ++j) kept |= 1u << j;
        for (std::size_t k = i * P::keep; kept != 0; ++k, kept &= kept - 1) {
          places[k] = static_cast<std::uint32_t>(std::countr_zero(kept));
          const std::size_t col = first + i * P::of + places[k];
          if (r < source.rows() && col < cols) codes[k] = rows.code(own, col);
        }
      }
      std::byte* const at = w.writable(stream::index);
      store_cell<l::position_bits, l::cell_codes>(
          {at, at + v.position_plane(v.cells(), 1), at + v.position_plane(v.cells(), 2)}, c, places);
    } else {
      if (r >= source.rows()) return;
      const std::size_t n = cols - first < l::cell_codes ? cols - first : l::cell_codes;
      for (std::size_t k = 0; k < n; ++k) codes[k] = rows.code(own, first + k);
      if constexpr (l::params_in_cells)
        for (std::size_t j = 0; j < l::runs_per_cell && first + j * Q::run < cols; ++j)
          put_params(v.param_at(tile, c, lane, j), own, first / Q::run + j);
    }
    store_cell<Q::bits, l::cell_codes>(planes, c, codes);
  });
  return {};
}

template <class P, class Q>
shape_error describe(const fault& f) {
  const name p = P::label(), q = Q::label();
  switch (f.kind) {
    case fault::not_finite:
      return shape_error("quern::pack<", p, ", ", q, ">: the weight in row ", f.row, " column ", f.col,
                         " is NaN or infinite; mend the model before packing");
    case fault::too_large:
      return shape_error(
          "quern::pack<", p, ", ", q, ">: row ", f.row, " column ", f.col,
          ": the weights are too large for this format's scale; use a bf16 scale or rescale the layer");
    default:
      if constexpr (P::of > 0)
        return shape_error("quern::pack<", p, ", ", q, ">: row ", f.row, " column ", f.col, ": more than ",
                           P::keep, " of ", P::of, P::unit_cols > 1 ? " groups" : " weights",
                           " are nonzero; select a mask for this pattern first");
      else
        return shape_error("quern::pack<", p, ", ", q, ">: row ", f.row, " column ", f.col,
                           ": the mask keeps a part of a block; select a mask for this pattern first");
  }
}

template <class P, class Q, class Source, class Exec>
result<matrix<P, Q>> pack_from(const Source& source, const bit_mask* mask, Exec& exec) {
  static_assert(layout<P, Q>::supported,
                "quern::pack: this quantizer cannot follow this pattern; layout<P, Q>::why_not() says why");
  using l = layout<P, Q>;
  const std::size_t rows = source.rows(), cols = source.cols();
  if (mask != nullptr) {
    if (mask->rows() != rows || mask->cols() != cols)
      return shape_error("quern::pack: the mask is ", mask->rows(), " x ", mask->cols(),
                         " but the weights are ", rows, " x ", cols, "; they must agree");
    if constexpr (P::kind != survivors::all)
      if (const violation v = first_violation<P>(*mask))
        return describe<P, Q>({fault::pattern, v.row, v.col});
  }
  constexpr std::size_t most = ~std::uint32_t{0};
  if (rows > most || cols > most || (cols != 0 && rows > most / cols))
    return shape_error("quern::pack: ", rows, " x ", cols,
                       " weights; a matrix holds at most 2^32 - 1, split it");
  const std::size_t bands = (rows + band_rows<P> - 1) / band_rows<P>;
  const std::size_t masks_per_band = P::kind == survivors::masked || P::kind == survivors::listed
                                         ? l::mask_windows(cols) * band_blocks<P>
                                         : 0;
  std::vector<std::uint16_t> masks(bands * masks_per_band);
  std::vector<std::size_t> begin(bands + 1);
  std::vector<fault> faults(bands);
  const std::size_t parts = part_count(bands, 1, static_cast<std::size_t>(exec.concurrency()));
  std::vector<scratch<P, Q>> memory;
  memory.reserve(parts);
  for (std::size_t p = 0; p < parts; ++p) memory.emplace_back(cols);
  const auto for_each_band = [&](auto&& f) {  // f(band, memory of nobody else)
    exec.parallel_for(parts, 1, [&](std::size_t first, std::size_t end) {
      for (std::size_t p = first; p < end; ++p)
        for (std::size_t b = part_begin(bands, parts, p); b < part_begin(bands, parts, p + 1); ++b)
          f(b, memory[p]);
    });
  };
  for_each_band([&](std::size_t b, scratch<P, Q>& s) {
    faults[b] =
        scan_band<P, Q>(source, mask, b, masks.data() + b * masks_per_band, begin[b + 1], s.alive.front());
  });
  for (const fault& f : faults)
    if (f.kind != fault::none) return describe<P, Q>(f);
  for (std::size_t b = 0; b < bands; ++b) begin[b + 1] += begin[b];
  matrix<P, Q> w(rows, cols, begin[bands]);
  if constexpr (P::kind == survivors::masked || P::kind == survivors::listed) {
    for (std::size_t b = 0; b < bands; ++b) write_index(w, b, masks.data() + b * masks_per_band, begin[b]);
    if constexpr (!l::uniform) {
      const std::uint32_t all = static_cast<std::uint32_t>(
          P::kind == survivors::listed ? begin[bands] / P::unit_rows : begin[bands]);
      std::memcpy(w.writable(stream::begin) + bands * 4, &all, 4);
    }
  }
  constexpr std::size_t tiles_per_band = band_rows<P> / lanes;
  for_each_band([&](std::size_t b, scratch<P, Q>& s) {
    for (std::size_t t = b * tiles_per_band; t < (b + 1) * tiles_per_band && faults[b].kind == fault::none;
         ++t)
      faults[b] = write_tile(w, source, mask, t, s);
  });
  for (const fault& f : faults)
    if (f.kind != fault::none) return describe<P, Q>(f);
  return {std::move(w)};  // nvcc does not move what it converts
}

template <class P, class Q>
matrix<P, Q> unwrap(result<matrix<P, Q>>&& r) {
  if (!r) raise(shape_error(r.error()));
  return std::move(*r);
}

}  // namespace packing

/// Packs W [rows x cols]. Weights outside @p mask are pruned whatever their value, NaN and infinity included;
/// without a mask, exact zeros are. Codes are rounded to nearest over the range of each run's survivors. The
/// result does not depend on the executor. All memory is allocated in the calling thread.
/// @returns the matrix, or an error that names the first row and column: NaN or infinity, a mask that breaks
///          P, a scale or offset that overflows, shapes that differ
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
result<matrix<P, Q>> try_pack(span2<const float> w, const bit_mask* mask = nullptr, Exec&& exec = Exec{}) {
  return packing::pack_from<P, Q>(packing::float_source<Q>{w}, mask, exec);
}
/// Packs codes and parameters as they are: nothing is rounded again. All weights must be finite, pruned or not.
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
result<matrix<P, Q>> try_pack(const coded_matrix<Q>& w, const bit_mask* mask = nullptr,
                              Exec&& exec = Exec{}) {
  return packing::pack_from<P, Q>(packing::coded_source<Q>{w}, mask, exec);
}

/// try_pack that raises its error. @throws shape_error
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
matrix<P, Q> pack(span2<const float> w, Exec&& exec = Exec{}) {
  return packing::unwrap(try_pack<P, Q>(w, nullptr, exec));
}
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
matrix<P, Q> pack(span2<const float> w, const bit_mask& mask, Exec&& exec = Exec{}) {
  return packing::unwrap(try_pack<P, Q>(w, &mask, exec));
}
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
matrix<P, Q> pack(const coded_matrix<Q>& w, Exec&& exec = Exec{}) {
  return packing::unwrap(try_pack<P, Q>(w, nullptr, exec));
}
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
matrix<P, Q> pack(const coded_matrix<Q>& w, const bit_mask& mask, Exec&& exec = Exec{}) {
  return packing::unwrap(try_pack<P, Q>(w, &mask, exec));
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
