// SPDX-License-Identifier: Apache-2.0
// Few vectors times a packed matrix with exact float activations. Written once; included by isa/<name>.hpp
// inside the namespace and target region of the instruction set, after its operations on 16 lanes and
// fields.inl. A lane is a row: every slot yields one weight of 16 rows at a time, which is multiplied with the
// input of that column (all, listed) or with the input that each row's own mask or position picks from a window
// of 16 (masked, positions).

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

/// Whole-number codes in one plane of 2 or 4 bits: sum(code * x) and sum(x) of a run are scaled once.
template <class Q>
inline constexpr bool deferred = Q::run > 0 && (Q::bits == 2 || Q::bits == 4) && !requires {
  Q::table::values;
};
/// The code that stands for 0, or for the middle where every run has its own.
template <class Q>
inline constexpr int middle_code = 1 << (Q::bits - 1);
/// code - middle for the lowest bits of an index, whatever is in the others.
template <class Q>
inline constexpr auto code_table = [] {
  struct {
    float value[16];
  } t{};
  for (int i = 0; i < 16; ++i)
    t.value[i] = static_cast<float>((i & ((1 << (Q::bits < 4 ? Q::bits : 4)) - 1)) - middle_code<Q>);
  return t;
}();

/// `Tokens` vectors at once: a weight is decoded once for all of them.
template <class P, class Q, int Tokens>
struct tile_loop {
  using l = layout<P, Q>;
  const matrix_view<P, Q>& w;
  const float* x[Tokens];
  f32x16 sum[Tokens];
  f32x16 row_scale;
  const std::byte* plane[3];
  const float* run_sum[Tokens];  // of every run of inputs, or null

  template <int Runs, class Slot>
  inline vector_params params(const Slot& s, int run) const {
    return floats<Q>(params_in<Q, Runs>(w[stream::scale], w[stream::zero], s, run), row_scale);
  }

  /// The inputs from column `first` on, `width` of them readable: those at the right edge from a completed
  /// copy.
  template <int Width>
  inline const float* inputs(int t, std::size_t first, float (&edge)[Width]) const {
    if (first + Width <= w.cols()) return x[t] + first;
    for (std::size_t i = 0; i < Width; ++i) edge[i] = first + i < w.cols() ? x[t][first + i] : 0.0f;
    return edge;
  }

  /// A slot whose 16 rows share their columns.
  inline void shared(std::size_t first, std::size_t unit) {
    const full_slot cells(first);
    const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
    float edge[Tokens][l::cell_codes];
    const float* in[Tokens];
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) in[t] = inputs(t, unit * l::cell_codes, edge[t]);
    constexpr int per_run = l::cell_codes / l::runs_per_cell;
    codes.prefetch_ahead();
    if constexpr (deferred<Q> && per_run % 16 == 0) return shared_deferred<per_run>(cells, codes, in, unit);
#pragma GCC unroll 16
    for (int j = 0; j < l::runs_per_cell; ++j) {
      const vector_params p = params<l::runs_per_cell>(cells, j);
#pragma GCC unroll 128
      for (int k = j * per_run; k < (j + 1) * per_run; ++k) {
        const f32x16 v = weight<Q>(codes[k], p);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) sum[t] = multiply_add(v, broadcast(in[t][k]), sum[t]);
      }
    }
  }

  template <int PerRun, class Codes>
  inline void shared_deferred(const full_slot& cells, const Codes& codes, const float* const (&in)[Tokens],
                              std::size_t unit) {
    constexpr bool own_zero = Q::zero_bits > 0;
    constexpr int chains = Tokens == 1 ? 4 : 2;  // sums at once: an addition waits for the one before it
#pragma GCC unroll 8
    for (int j = 0; j < l::runs_per_cell; ++j) {
      f32x16 part[Tokens][chains];
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
        for (int i = 0; i < chains; ++i) part[t][i] = zero();
#pragma GCC unroll 128
      for (int k = j * PerRun; k < (j + 1) * PerRun; ++k) {
        f32x16 v;
        if constexpr (lookup_is_cheap)
          v = lookup(load(code_table<Q>.value), codes.unmasked(k));
        else
          v = to_float(add(codes[k], broadcast(-middle_code<Q>)));
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t)
          part[t][k % chains] = multiply_add(v, broadcast(in[t][k]), part[t][k % chains]);
      }
      const vector_params p = params<l::runs_per_cell>(cells, j);
      const f32x16 offset = multiply_add(p.scale, broadcast(static_cast<float>(middle_code<Q>)), p.offset);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        f32x16 run = add(part[t][0], part[t][1]);
        if constexpr (chains == 4) run = add(run, add(part[t][2], part[t][3]));
        sum[t] = multiply_add(run, p.scale, sum[t]);
        if constexpr (own_zero) {
          const float total = run_sum[t] != nullptr
                                  ? run_sum[t][unit * l::runs_per_cell + static_cast<std::size_t>(j)]
                                  : sum_of<PerRun>(in[t] + j * PerRun);
          sum[t] = multiply_add(offset, broadcast(total), sum[t]);
        }
      }
    }
  }

  template <int Count>
  static inline float sum_of(const float* p) {
    f32x16 total = zero();
    for (int k = 0; k < Count; k += 16) total = add(total, load(p + k));
    return reduce_add(total);
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
      const full_slot cells((tile * units + u) * lanes);
      const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
      const auto places = codes_at<l::position_bits, l::cell_codes>(position_plane, cells);
      float edge[Tokens][in_width];
      const float* in[Tokens];
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) in[t] = inputs(t, u * l::cell_cols, edge[t]);
#pragma GCC unroll 16
      for (int j = 0; j < runs_here; ++j) {
        vector_params p{broadcast(1.0f), zero()};
        if constexpr (Q::run > 0) {
          std::size_t run = split ? u * runs_here + static_cast<std::size_t>(j) : u * l::cell_cols / Q::run;
          if (run >= l::runs(w.cols())) run = l::runs(w.cols()) - 1;  // a completed part: its inputs are zero
          p = params<1>(full_slot((tile * l::runs(w.cols()) + run) * lanes), 0);
        }
#pragma GCC unroll 128
        for (int k = j * l::cell_codes / runs_here; k < (j + 1) * l::cell_codes / runs_here; ++k) {
          const f32x16 v = weight<Q>(codes[k], p);
          const i32x16 at = places[k];
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t)
            sum[t] = multiply_add(v, lookup(load(in[t] + k / P::keep * P::of), at), sum[t]);
        }
      }
    }
  }

  /// Own masks per row: the inputs of a window are turned into a table [code][unit], from which a permutation
  /// picks.
  inline void masked(std::size_t tile) {
    for (int k = 0; k < l::cell_codes; k += table_codes) masked_codes(tile, k);
  }
  /// Codes of a unit whose inputs are in the table at a time: 64 KB of stack for four tokens.
  static constexpr int table_codes = l::cell_codes < 256 ? l::cell_codes : 256;
  /// Codes [from, from + table_codes) of every unit.
  inline void masked_codes(std::size_t tile, int from) {
    constexpr bool whole = table_codes == l::cell_codes;
    const int begin = whole ? 0 : from, end = begin + table_codes;
    constexpr std::size_t window_cols = static_cast<std::size_t>(l::window_units) * l::cell_cols;
    float table[Tokens][table_codes][16];
    for_each_slot<ranked_slot>(
        w, tile,
        [&](std::size_t window) {
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t)
            fill_table(table[t], x[t], window * window_cols + static_cast<std::size_t>(begin),
                       l::cell_cols - begin);
        },
        [&](const auto& cells, std::size_t window, i32x16 place) {
          const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
          constexpr int per_run = l::cell_codes / l::runs_per_cell;
          vector_params p{broadcast(1.0f), zero()};
          // Rows without a cell multiply what another row has with inputs that they do not read. Dropping the sum of the
          // cell, or the input of a cell of one code, keeps an infinity out that 0 times it would not.
          constexpr bool apart = !l::uniform && l::cell_codes > 1;
          f32x16 part[Tokens];
          if constexpr (!whole)
            for (int t = 0; t < Tokens; ++t) part[t] = zero();
          if constexpr (Q::run > 0 && !l::params_in_cells)
            p = params<1>(full_slot((tile * l::runs(w.cols()) + window * window_cols / Q::run) * lanes), 0);
          const auto add_code = [&](int k) __attribute__((always_inline)) {
            const f32x16 v = weight<Q>(codes[k], p);
#pragma GCC unroll 4
            for (int t = 0; t < Tokens; ++t) {
              const f32x16 in = lookup(load(table[t][k - begin]), place);
              if constexpr (apart)
                part[t] = whole && k == 0 ? multiply(v, in) : multiply_add(v, in, part[t]);
              else
                sum[t] = multiply_add(v, l::uniform ? in : keep(in, cells.rows()), sum[t]);
            }
          };
#pragma GCC unroll 16
          for (int j = 0; j < l::runs_per_cell; ++j) {
            const int run = j * per_run, run_end = run + per_run;
            if (!whole && (run_end <= begin || run >= end)) continue;
            if constexpr (l::params_in_cells) p = params<l::runs_per_cell>(cells, j);
            if constexpr (whole) {
#pragma GCC unroll 64
              for (int k = run; k < run_end; ++k) add_code(k);
            } else {
              for (int k = run < begin ? begin : run; k < run_end && k < end; ++k) add_code(k);
            }
          }
          if constexpr (apart) {
#pragma GCC unroll 4
            for (int t = 0; t < Tokens; ++t) sum[t] = add(sum[t], keep(part[t], cells.rows()));
          }
        });
  }

  /// table[k][15 - unit] = input k, below `inputs`, of that unit of a window; `first` is that of the first one.
  inline void fill_table(float (&table)[table_codes][16], const float* in, std::size_t first,
                         int inputs) const {
    for (int unit = 0; unit < 16; ++unit)
      for (int k = 0; k < table_codes; ++k) {
        const std::size_t col = first + static_cast<std::size_t>(unit * l::cell_cols + k);
        table[k][15 - unit] = unit < l::window_units && k < inputs && col < w.cols() ? in[col] : 0.0f;
      }
  }
};

/// Sums of runs of inputs that are kept for all tiles of a call.
inline constexpr std::size_t kept_sums = 1024;

template <int Tokens, class P, class Q>
inline void multiply_tokens(const matrix_view<P, Q>& w, std::size_t tile, const span2<const float>& x,
                            const span2<float>& y, std::size_t first, const float* sums) {
  tile_loop<P, Q, Tokens> loop{
      w, {}, {}, broadcast(1.0f), {w[stream::codes], w[stream::codes1], w[stream::codes2]}, {}};
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
    loop.x[t] = x.row(first + static_cast<std::size_t>(t));
    loop.sum[t] = zero();
    loop.run_sum[t] = sums == nullptr ? nullptr : sums + (first + static_cast<std::size_t>(t)) * kept_sums;
  }
  if constexpr (Q::row_scaled) loop.row_scale = load_half(w[stream::row_scale] + tile * lanes * 2);
  if constexpr (P::kind == survivors::all || P::kind == survivors::listed)
    for_each_shared(w, tile, [&](std::size_t cell, std::size_t unit) { loop.shared(cell, unit); });
  else if constexpr (P::kind == survivors::positions)
    loop.positions(tile);
  else
    loop.masked(tile);
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t)
    store_rows(&y(first + static_cast<std::size_t>(t), tile * lanes), loop.sum[t], w.rows() - tile * lanes);
}

/// Tiles [begin, end).
template <class P, class Q>
inline void multiply_exact(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                           const span2<const float>& x, const span2<float>& y) {
  using l = layout<P, Q>;
  constexpr bool shares = deferred<Q> && Q::zero_bits > 0 && Q::run % 16 == 0 &&
                          (P::kind == survivors::all || P::kind == survivors::listed);
  float sums[shares ? 4 * kept_sums : 1];
  const std::size_t runs = l::cells_per_row(w.cols()) * l::runs_per_cell;
  const bool keep_sums = shares && x.rows() <= 4 && runs <= kept_sums && end - begin > 1;
  if constexpr (shares)
    for (std::size_t t = 0; keep_sums && t < x.rows(); ++t)
      for (std::size_t r = 0; r < runs; ++r) {
        const std::size_t c = r * Q::run;
        if (c + Q::run <= w.cols()) {
          sums[t * kept_sums + r] = tile_loop<P, Q, 1>::template sum_of<Q::run>(x.row(t) + c);
          continue;
        }
        float edge[shares ? Q::run : 1] = {};
        if (c < w.cols()) std::memcpy(edge, x.row(t) + c, (w.cols() - c) * sizeof(float));
        sums[t * kept_sums + r] = tile_loop<P, Q, 1>::template sum_of<Q::run>(edge);
      }
  const float* const kept = keep_sums ? sums : nullptr;
  for (std::size_t tile = begin; tile < end; ++tile) {
    std::size_t t = 0;
    for (; t + 4 <= x.rows(); t += 4) multiply_tokens<4>(w, tile, x, y, t, kept);
    for (; t < x.rows(); ++t) multiply_tokens<1>(w, tile, x, y, t, kept);
  }
}
