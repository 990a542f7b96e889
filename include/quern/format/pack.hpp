// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::span2<const float> dense(data, rows, cols);
// auto a = quern::pack<quern::group<16>, quern::affine<4, 16>>(dense);         // zeros mark what is pruned
// auto b = quern::pack<quern::group<16>, quern::affine<4, 16>>(dense, mask);   // a mask says it
// auto c = quern::try_pack<quern::nm<2, 4>, quern::real<quern::f16>>(dense);   // an error instead of an
// exception

#include <quern/core/executor.hpp>
#include <quern/format/coded.hpp>
#include <quern/format/traverse.hpp>
#include <quern/pattern/mask.hpp>

namespace quern::inline v0 {
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

/// Rounds float weights as they are packed.
template <quantizer Q>
struct float_source {
  span2<const float> w;
  std::size_t rows() const { return w.rows(); }
  std::size_t cols() const { return w.cols(); }
  bool is_zero(std::size_t r, std::size_t c) const { return w(r, c) == 0.0f; }
  bool is_finite(std::size_t r, std::size_t c) const { return quern::is_finite(w(r, c)); }
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
  bool is_zero(std::size_t r, std::size_t c) const { return w.value(r, c) == 0.0f; }
  bool is_finite(std::size_t r, std::size_t c) const { return quern::is_finite(w.value(r, c)); }
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

inline namespace QUERN_BUILD {

/// Which units of a band survive: [windows][blocks] 16-bit masks, and the number of stored cells.
template <class P, class Q, class Source>
fault scan_band(const Source& source, const bit_mask* mask, std::size_t band, std::uint16_t* masks,
                std::size_t& cells) {
  using l = layout<P, Q>;
  const std::size_t cols = source.cols(), first_row = band * band_rows<P>;
  const std::size_t end_row =
      first_row + band_rows<P> < source.rows() ? first_row + band_rows<P> : source.rows();
  for (std::size_t r = first_row; r < end_row; ++r) {
    const std::size_t block = (r - first_row) / static_cast<std::size_t>(P::unit_rows);
    std::size_t in_window = 0;
    for (std::size_t c = 0; c < cols; ++c) {
      if (!source.is_finite(r, c)) return {fault::not_finite, r, c};
      const bool alive = mask != nullptr ? (*mask)(r, c) : !source.is_zero(r, c);
      if constexpr (P::kind == survivors::positions) {
        if (c % P::of == 0) in_window = 0;
        if (alive && ++in_window > P::keep) return {fault::pattern, r, c};
      } else if constexpr (P::kind != survivors::all) {
        const std::size_t unit = c / static_cast<std::size_t>(P::unit_cols);
        if (alive)
          masks[unit / l::window_units * band_blocks<P> + block] |=
              static_cast<std::uint16_t>(1u << unit % l::window_units);
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

/// Kept inputs of one row of N:M, window by window, completed to exactly N with the first ones that are free.
template <class P, class Source>
void choose_positions(const Source& source, const bit_mask* mask, std::size_t r, std::size_t window,
                      int (&chosen)[16]) {
  std::uint32_t alive = 0;
  for (std::size_t i = 0; i < P::of; ++i) {
    const std::size_t c = window * P::of + i;
    if (r < source.rows() && c < source.cols() && (mask != nullptr ? (*mask)(r, c) : !source.is_zero(r, c)))
      alive |= 1u << i;
  }
  for (std::uint32_t i = 0; i < P::of && std::popcount(alive) < P::keep; ++i) alive |= 1u << i;
  for (int n = 0; alive != 0; ++n, alive &= alive - 1) chosen[n] = std::countr_zero(alive);
}

/// Codes and parameters of the 16 rows of one tile.
template <class P, class Q, class Source>
fault write_tile(matrix<P, Q>& w, const Source& source, const bit_mask* mask, std::size_t tile,
                 coded_matrix<Q>& rows, std::vector<float>& scratch) {
  using l = layout<P, Q>;
  const std::size_t cols = source.cols();
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    const std::size_t r = tile * lanes + lane;
    if (r >= source.rows()) break;
    coded_row<Q> row = rows.row(lane);
    const std::size_t bad = source.fill(r, mask, scratch.data(), row);
    if (bad < cols) return {fault::too_large, r, bad};
    rows.row_scale(lane) = row.row_scale;
    if constexpr (Q::row_scaled) {
      const std::uint16_t bits = to_f16(row.row_scale).bits;
      std::memcpy(w.writable(stream::row_scale) + r * 2, &bits, 2);
    }
  }
  const matrix_view<P, Q> v = w.view();
  const auto put_params = [&](std::size_t field_number, std::size_t lane, std::size_t run) {
    const run_params p = rows.params(lane, run);
    put_field(w.writable(stream::scale), Q::scale_bits, sequential(Q::scale_bits, field_number),
              Q::scale_code(p, rows.row_scale(lane)));
    if constexpr (Q::zero_bits > 0)
      put_field(w.writable(stream::zero), Q::zero_bits, sequential(Q::zero_bits, field_number),
                Q::zero_code(p));
  };
  std::byte* planes[3] = {w.writable(stream::codes), w.writable(stream::codes1), w.writable(stream::codes2)};
  const auto put_code = [&](cell c, int k, std::uint32_t code) {
    for (int i = 0; i < plane_count(Q::bits); ++i) {
      const int width = plane_width(Q::bits, i), shift = plane_shift(Q::bits, i);
      const std::uint32_t part = width < 8 ? code >> shift & ((1u << width) - 1) : code;
      put_field(planes[i], width, locate(width, l::cell_codes, c, k), part);
    }
  };
  if constexpr (Q::run > 0 && !l::params_in_cells)
    for (std::size_t lane = 0; lane < lanes && tile * lanes + lane < source.rows(); ++lane)
      for (std::size_t run = 0; run < l::runs(cols); ++run)
        put_params(v.param_field(tile, {}, static_cast<int>(lane), run), lane, run);
  for_each_cell(v, tile, [&](cell c, int lane, std::size_t unit) {
    const std::size_t r = tile * lanes + static_cast<std::size_t>(lane), own = static_cast<std::size_t>(lane);
    const std::size_t first = unit * static_cast<std::size_t>(l::cell_cols);
    if constexpr (P::kind == survivors::positions) {
      int chosen[16];
      for (std::size_t i = 0; i < l::windows; ++i) {
        choose_positions<P>(source, mask, r, unit * l::windows + i, chosen);
        for (int n = 0; n < P::keep; ++n) {
          const int k = static_cast<int>(i) * P::keep + n;
          for (int j = 0; j < plane_count(l::position_bits); ++j) {
            const int width = plane_width(l::position_bits, j);
            const std::uint32_t part =
                static_cast<std::uint32_t>(chosen[n]) >> plane_shift(l::position_bits, j) &
                ((1u << width) - 1);
            put_field(w.writable(stream::index) + v.position_plane(v.cells(), j), width,
                      locate(width, l::cell_codes, c, k), part);
          }
          const std::size_t col = first + i * P::of + static_cast<std::size_t>(chosen[n]);
          if (r < source.rows() && col < cols) put_code(c, k, rows.code(own, col));
        }
      }
    } else {
      if (r >= source.rows()) return;
      for (int k = 0; k < l::cell_codes && first + static_cast<std::size_t>(k) < cols; ++k)
        put_code(c, k, rows.code(own, first + static_cast<std::size_t>(k)));
      if constexpr (l::params_in_cells)
        for (std::size_t j = 0; j < l::runs_per_cell && first + j * Q::run < cols; ++j)
          put_params(v.param_field(tile, c, lane, j), own, first / Q::run + j);
    }
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
  if (cols != 0 && rows > ~std::uint32_t{0} / cols)
    return shape_error("quern::pack: ", rows, " x ", cols,
                       " weights; a matrix holds at most 2^32 - 1, split it");
  const std::size_t bands = (rows + band_rows<P> - 1) / band_rows<P>;
  const std::size_t masks_per_band = P::kind == survivors::masked || P::kind == survivors::listed
                                         ? l::mask_windows(cols) * band_blocks<P>
                                         : 0;
  std::vector<std::uint16_t> masks(bands * masks_per_band);
  std::vector<std::size_t> begin(bands + 1);
  std::vector<fault> faults(bands);
  exec.parallel_for(bands, 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t b = first; b < end; ++b)
      faults[b] = scan_band<P, Q>(source, mask, b, masks.data() + b * masks_per_band, begin[b + 1]);
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
  exec.parallel_for(bands, 1, [&](std::size_t first, std::size_t end) {
    coded_matrix<Q> scratch_rows(lanes, cols);
    std::vector<float> scratch(cols);
    for (std::size_t b = first; b < end; ++b)
      for (std::size_t t = b * tiles_per_band; t < (b + 1) * tiles_per_band && faults[b].kind == fault::none;
           ++t)
        faults[b] = write_tile(w, source, mask, t, scratch_rows, scratch);
  });
  for (const fault& f : faults)
    if (f.kind != fault::none) return describe<P, Q>(f);
  return w;
}

template <class P, class Q>
matrix<P, Q> unwrap(result<matrix<P, Q>>&& r) {
  if (!r) raise(shape_error(r.error()));
  return std::move(*r);
}

}  // namespace QUERN_BUILD
}  // namespace packing

/// Packs W [rows x cols]. Weights outside @p mask are pruned whatever their value; without a mask, exact
/// zeros are. Codes are rounded to nearest over the range of each run's survivors. The result does not depend
/// on the executor.
/// @returns the matrix, or an error that names the first row and column: NaN or infinity, a mask that breaks
/// P, a
///          scale that overflows, shapes that differ
template <sparsity_pattern P, quantizer Q, executor Exec = serial>
result<matrix<P, Q>> try_pack(span2<const float> w, const bit_mask* mask = nullptr, Exec&& exec = Exec{}) {
  return packing::pack_from<P, Q>(packing::float_source<Q>{w}, mask, exec);
}
/// Packs codes and parameters as they are: nothing is rounded again.
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

}  // namespace quern::inline v0
