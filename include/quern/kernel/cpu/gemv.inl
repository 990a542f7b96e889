// SPDX-License-Identifier: Apache-2.0
// Few vectors times a packed matrix with exact float activations. Written once; included by isa/<name>.hpp
// inside the namespace and target region of the instruction set, after its operations on 16 lanes. A lane is
// a row: every slot yields one weight of 16 rows at a time, which is multiplied with the input of that column
// (all, listed) or with the input that each row's own mask or position picks from a window of 16 (masked,
// positions).

/// Formats for which the loop has a compile-time answer to "which run does this code belong to"; others run
/// on isa::scalar.
template <class P, class Q>
inline constexpr bool fits = [] {
  using l = layout<P, Q>;
  constexpr int run = Q::run == 0 ? l::cell_cols : Q::run;
  if (Q::run == 0 || l::params_in_cells) return true;
  if (P::kind == survivors::masked) return run % l::window_units == 0;  // bitmap
  return run % l::cell_cols == 0 || l::cell_cols % run == 0;
}();

/// The planes of a stream of codes of Bits bits, at the first byte of one slot.
template <int Bits, int CellCodes>
struct slot_codes {
  const std::byte* plane[3];
  std::size_t first;  // number of the slot's first cell, for fields shorter than a byte
  lane_mask rows;     // lanes that have a cell
  int count;

  /// Code k of every row.
  inline i32x16 operator[](int k) const {
    i32x16 v = part<0>(k);
    if constexpr (plane_count(Bits) > 1) v = either(v, shift_left(part<1>(k), plane_shift(Bits, 1)));
    if constexpr (plane_count(Bits) > 2) v = either(v, shift_left(part<2>(k), plane_shift(Bits, 2)));
    return v;
  }
  template <int I>
  inline i32x16 part(int k) const {
    constexpr int width = plane_width(Bits, I);
    if constexpr (CellCodes * width < 8) {
      return expand_fields<CellCodes * width>(plane[I], first, rows);
    } else {
      constexpr int chunk = chunk_bytes(width, CellCodes), codes = chunk * 8 / width;
      const field f = locate(width, CellCodes, {0, 0, 0}, k % codes);
      return bits_of(expand<chunk>(plane[I] + k / codes * chunk * count, rows),
                     static_cast<int>(f.byte) * 8 + f.shift, width);
    }
  }
};

/// Streams of codes at the first cell of a slot.
template <int Bits, int CellCodes>
inline slot_codes<Bits, CellCodes> codes_at(const std::byte* const (&plane)[3], std::size_t first,
                                            lane_mask rows) {
  slot_codes<Bits, CellCodes> s{{}, first, rows, std::popcount(static_cast<unsigned>(rows))};
  for (int i = 0; i < plane_count(Bits); ++i) {
    const int width = plane_width(Bits, i);
    s.plane[i] =
        plane[i] + (CellCodes * width < 8 ? 0 : first * static_cast<std::size_t>(CellCodes * width / 8));
  }
  return s;
}

/// A code as the number it stands for, before scale and offset.
template <class Q>
inline f32x16 number(i32x16 code) {
  if constexpr (Q::bits == 32)
    return as_float(code);
  else if constexpr (Q::bits == 16) {
    if constexpr (Q::encode(1, {1, 0}) == to_f16(1).bits)
      return half_to_float(code);
    else
      return as_float(shift_left(code, 16));
  } else if constexpr (requires { Q::table::values; })
    return lookup(load(Q::table::values), code);
  else
    return to_float(code);
}

struct vector_params {
  f32x16 scale, offset;
};

/// Parameters in 16 fields from `first` on, of the rows in `rows`.
template <class P, class Q>
inline vector_params params_at(const matrix_view<P, Q>& w, std::size_t first, lane_mask rows,
                               f32x16 row_scale) {
  vector_params p{broadcast(1.0f), zero()};
  if constexpr (Q::run > 0) {
    const i32x16 s = expand_fields<Q::scale_bits>(w[stream::scale], first, rows);
    if constexpr (Q::row_scaled)
      p.scale = multiply(to_float(s), row_scale);
    else if constexpr (Q::scale_code({1, 0}, 1) == to_f16(1).bits)
      p.scale = half_to_float(s);
    else
      p.scale = as_float(shift_left(s, 16));
    if constexpr (Q::zero_bits == 16)
      p.offset = half_to_float(expand_fields<16>(w[stream::zero], first, rows));
    else if constexpr (Q::zero_bits > 0)
      p.offset =
          negate(multiply(p.scale, to_float(expand_fields<Q::zero_bits>(w[stream::zero], first, rows))));
    else if constexpr (requires { Q::zero; })
      p.offset = multiply(p.scale, broadcast(-static_cast<float>(Q::zero)));
  }
  return p;
}

/// scale * number + offset. Codebooks and floats have no offset.
template <class Q>
inline f32x16 weight(i32x16 code, const vector_params& p) {
  if constexpr (Q::run == 0)
    return number<Q>(code);
  else if constexpr (Q::zero_bits > 0 || requires { Q::zero; })
    return multiply_add(number<Q>(code), p.scale, p.offset);
  else
    return multiply(number<Q>(code), p.scale);
}

/// `Tokens` vectors at once: a weight is decoded once for all of them.
template <class P, class Q, int Tokens>
struct tile_loop {
  using l = layout<P, Q>;
  const matrix_view<P, Q>& w;
  const float* x[Tokens];
  f32x16 sum[Tokens];
  f32x16 row_scale;
  const std::byte* plane[3];

  /// The inputs from column `first` on, `width` of them readable: those at the right edge from a completed
  /// copy.
  template <int Width>
  inline const float* inputs(int t, std::size_t first, float (&edge)[Width]) const {
    if (first + Width <= w.cols()) return x[t] + first;
    for (std::size_t i = 0; i < Width; ++i) edge[i] = first + i < w.cols() ? x[t][first + i] : 0.0f;
    return edge;
  }

  /// A slot whose 16 rows share their columns.
  inline void shared(std::size_t first_cell, std::size_t unit) {
    const auto codes = codes_at<Q::bits, l::cell_codes>(plane, first_cell, 0xffff);
    float edge[Tokens][l::cell_cols];
    const float* in[Tokens];
    for (int t = 0; t < Tokens; ++t) in[t] = inputs(t, unit * l::cell_cols, edge[t]);
    constexpr int per_run = l::cell_codes / l::runs_per_cell;
#pragma GCC unroll 16
    for (int j = 0; j < l::runs_per_cell; ++j) {
      const std::size_t field = (first_cell * l::runs_per_cell) + static_cast<std::size_t>(j) * lanes;
      const vector_params p = params_at(w, field, 0xffff, row_scale);
#pragma GCC unroll 128
      for (int k = j * per_run; k < (j + 1) * per_run; ++k) {
        const f32x16 v = weight<Q>(codes[k], p);
        for (int t = 0; t < Tokens; ++t) sum[t] = multiply_add(v, broadcast(in[t][k]), sum[t]);
      }
    }
  }

  inline void all(std::size_t tile) {
    const std::size_t units = l::cells_per_row(w.cols());
    for (std::size_t u = 0; u < units; ++u) shared((tile * units + u) * lanes, u);
  }

  inline void listed(std::size_t tile) {
    constexpr std::size_t parts = static_cast<std::size_t>(P::unit_rows) / lanes;
    const std::size_t end = w.begin(tile / parts + 1);
    for (std::size_t j = w.begin(tile / parts); j < end; ++j)
      shared((j * parts + tile % parts) * lanes, w.block_column(j));
  }

  /// N:M: a permutation picks each row's input from the window.
  inline void positions(std::size_t tile) {
    constexpr int in_width = l::cell_cols + 16;  // the last window is loaded 16 wide
    const std::size_t units = l::cells_per_row(w.cols());
    const std::byte* position_plane[3];
    for (int i = 0; i < plane_count(l::position_bits); ++i)
      position_plane[i] = w[stream::index] + matrix_view<P, Q>::position_plane(w.cells(), i);
    constexpr bool split = Q::run > 0 && Q::run < l::cell_cols;  // several runs in a cell
    constexpr int runs_here = split ? l::cell_cols / Q::run : 1;
    for (std::size_t u = 0; u < units; ++u) {
      const std::size_t cell_number = (tile * units + u) * lanes;
      const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cell_number, 0xffff);
      const auto places = codes_at<l::position_bits, l::cell_codes>(position_plane, cell_number, 0xffff);
      float edge[Tokens][in_width];
      const float* in[Tokens];
      for (int t = 0; t < Tokens; ++t) in[t] = inputs(t, u * l::cell_cols, edge[t]);
#pragma GCC unroll 16
      for (int j = 0; j < runs_here; ++j) {
        vector_params p{broadcast(1.0f), zero()};
        if constexpr (Q::run > 0) {
          std::size_t run = split ? u * runs_here + static_cast<std::size_t>(j) : u * l::cell_cols / Q::run;
          if (run >= l::runs(w.cols())) run = l::runs(w.cols()) - 1;  // a completed part: its inputs are zero
          p = params_at(w, (tile * l::runs(w.cols()) + run) * lanes, 0xffff, row_scale);
        }
#pragma GCC unroll 128
        for (int k = j * l::cell_codes / runs_here; k < (j + 1) * l::cell_codes / runs_here; ++k) {
          const f32x16 v = weight<Q>(codes[k], p);
          const i32x16 at = places[k];
          for (int t = 0; t < Tokens; ++t)
            sum[t] = multiply_add(v, lookup(load(in[t] + k / P::keep * P::of), at), sum[t]);
        }
      }
    }
  }

  /// Own masks per row: the inputs of a window are turned into a table [code][unit], from which a permutation
  /// picks.
  inline void masked(std::size_t tile) {
    constexpr std::size_t window_cols = static_cast<std::size_t>(l::window_units) * l::cell_cols;
    std::size_t first = l::uniform ? tile * lanes * l::uniform_cells(w.cols()) : w.begin(tile);
    const std::size_t windows = l::mask_windows(w.cols());
    float table[Tokens][l::cell_codes][16];
    for (std::size_t window = 0; window < windows; ++window) {
      int bits[lanes];
      for (int lane = 0; lane < lanes; ++lane)
        bits[lane] = static_cast<int>(w.mask(tile, window, static_cast<std::size_t>(lane / P::unit_rows)));
      i32x16 left = load(bits);
      lane_mask rows = nonzero(left);
      if (rows == 0) continue;
      for (int t = 0; t < Tokens; ++t) fill_table(table[t], x[t], window * window_cols);
      vector_params p{broadcast(1.0f), zero()};
      if constexpr (Q::run > 0 && !l::params_in_cells)
        p = params_at(w, (tile * l::runs(w.cols()) + window * window_cols / Q::run) * lanes, 0xffff,
                      row_scale);
      while (rows != 0) {
        const i32x16 unit = lowest_bit(left);
        const auto codes = codes_at<Q::bits, l::cell_codes>(plane, first, rows);
        constexpr int per_run = l::cell_codes / l::runs_per_cell;
#pragma GCC unroll 16
        for (int j = 0; j < l::runs_per_cell; ++j) {
          if constexpr (l::params_in_cells)
            p = params_at(w, first * l::runs_per_cell + static_cast<std::size_t>(j * codes.count), rows,
                          row_scale);
#pragma GCC unroll 64
          for (int k = j * per_run; k < (j + 1) * per_run; ++k) {
            f32x16 v = weight<Q>(codes[k], p);
            if constexpr (!l::params_in_cells && !l::uniform) v = keep(v, rows);
            for (int t = 0; t < Tokens; ++t)
              sum[t] = multiply_add(v, lookup(load(table[t][k]), unit), sum[t]);
          }
        }
        first += static_cast<std::size_t>(codes.count);
        left = clear_lowest_bit(left);
        rows = nonzero(left);
      }
    }
  }

  /// table[k][unit] = input k of that unit of the window that starts at column `first`.
  inline void fill_table(float (&table)[l::cell_codes][16], const float* in, std::size_t first) const {
    for (int unit = 0; unit < 16; ++unit)
      for (int k = 0; k < l::cell_codes; ++k) {
        const std::size_t col = first + static_cast<std::size_t>(unit * l::cell_cols + k);
        table[k][unit] = unit < l::window_units && col < w.cols() ? in[col] : 0.0f;
      }
  }
};

template <int Tokens, class P, class Q>
inline void multiply_tokens(const matrix_view<P, Q>& w, std::size_t tile, const span2<const float>& x,
                            const span2<float>& y, std::size_t first) {
  tile_loop<P, Q, Tokens> loop{
      w, {}, {}, broadcast(1.0f), {w[stream::codes], w[stream::codes1], w[stream::codes2]}};
  for (int t = 0; t < Tokens; ++t) {
    loop.x[t] = x.row(first + static_cast<std::size_t>(t));
    loop.sum[t] = zero();
  }
  if constexpr (Q::row_scaled)
    loop.row_scale = half_to_float(expand<2>(w[stream::row_scale] + tile * lanes * 2, 0xffff));
  if constexpr (P::kind == survivors::all)
    loop.all(tile);
  else if constexpr (P::kind == survivors::listed)
    loop.listed(tile);
  else if constexpr (P::kind == survivors::positions)
    loop.positions(tile);
  else
    loop.masked(tile);
  const std::size_t rows = w.rows() - tile * lanes < lanes ? w.rows() - tile * lanes : lanes;
  for (int t = 0; t < Tokens; ++t) {
    float out[lanes];
    store(out, loop.sum[t]);
    std::memcpy(&y(first + static_cast<std::size_t>(t), tile * lanes), out, rows * sizeof(float));
  }
}

template <class P, class Q>
inline void multiply_tile(const matrix_view<P, Q>& w, std::size_t tile, const span2<const float>& x,
                          const span2<float>& y) {
  std::size_t t = 0;
  for (; t + 4 <= x.rows(); t += 4) multiply_tokens<4>(w, tile, x, y, t);
  for (; t < x.rows(); ++t) multiply_tokens<1>(w, tile, x, y, t);
}
