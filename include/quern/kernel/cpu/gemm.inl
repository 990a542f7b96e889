// SPDX-License-Identifier: Apache-2.0
// Many tokens times a packed matrix. Included after gemv_int8.inl. 16 (or 32) rows of up to 1024 inputs are
// decoded to bytes in a panel on the stack, which every tile of tokens then multiplies with: decoding is shared
// by all tokens, the panel stays in the first or second level of cache, and pruned blocks are not in it.

/// Inputs in a panel.
inline constexpr int panel_inputs = 2048;

/// Decoded weights of Vectors * 16 rows. Word k holds four inputs of 16 rows: bytes of value + 128 where `dot`
/// takes unsigned bytes, else signed values.
template <int Vectors, int Segments>
struct panel {
  alignas(64) int word[panel_inputs / 4][Vectors][lanes];
  alignas(64) float scale[Segments][Vectors][lanes];
  alignas(64) float offset[Segments][Vectors][lanes];  // divided by -128, as sums of inputs are times -128
  std::uint32_t start[panel_inputs / 16];              // input at which a segment starts
  int segments;
};

/// MR tokens times a panel: y += .. . Weighted: every segment has scales of its own; Grouped: so have the
/// inputs.
template <int MR, int Vectors, bool Weighted, bool Grouped, bool Offset, class Panel>
[[gnu::noinline]] inline void multiply_panel(const Panel& w, int words, const std::int8_t* codes,
                                             std::size_t stride, const int* sums, const float* scales,
                                             std::size_t group, f32x16 (&out)[MR][Vectors]) {
  constexpr bool floats = Weighted || Grouped || Offset;
  i32x16 a[MR][Vectors];
  f32x16 f[MR][Vectors];
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) f[m][v] = zero();
  const std::size_t inputs = static_cast<std::size_t>(words) * 4;
  if constexpr (!floats) {
    int total[lanes] = {};
    if constexpr (dot_takes_bytes) {
      i32x16 sum = zero_int();
      for (int s = 0; s < w.segments; ++s) sum = add(sum, load(sums + w.start[s] / inputs * stride));
      store(total, sum);
    }
#pragma GCC unroll 12
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) a[m][v] = broadcast(total[m]);
  }
  const int(*word)[Vectors][lanes] = w.word;
  for (int s = 0; s < w.segments; ++s) {
    const std::int8_t* x = codes + w.start[s] * stride;
    const int* const sum = sums + w.start[s] / inputs * stride;
    if constexpr (floats) {
#pragma GCC unroll 12
      for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) a[m][v] = dot_takes_bytes ? broadcast(sum[m]) : zero_int();
    }
    for (int k = 0; k < words; ++k, ++word, x += 4 * stride) {
      i32x16 b[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) b[v] = load((*word)[v]);
#pragma GCC unroll 12
      for (int m = 0; m < MR; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) a[m][v] = dot_broadcast(a[m][v], b[v], x + 4 * m);
      }
    }
    if constexpr (floats) {
      const float* const scale = scales + w.start[s] / group * stride;
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        f32x16 by = broadcast(1.0f), offset = zero();
        if constexpr (Weighted) by = load(w.scale[s][v]);
        if constexpr (Offset) offset = load(w.offset[s][v]);
#pragma GCC unroll 12
        for (int m = 0; m < MR; ++m) {
          f32x16 value = to_float(a[m][v]);
          if constexpr (Offset) {
            if constexpr (Weighted) value = multiply(value, by);
            value = multiply_add(offset, to_float(broadcast(sum[m])), value);
            f[m][v] = Grouped ? multiply_add(value, broadcast(scale[m]), f[m][v]) : add(f[m][v], value);
          } else if constexpr (Weighted && Grouped) {
            f[m][v] = multiply_add(value, multiply(by, broadcast(scale[m])), f[m][v]);
          } else {
            f[m][v] = multiply_add(value, Weighted ? by : broadcast(scale[m]), f[m][v]);
          }
        }
      }
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) out[m][v] = floats ? f[m][v] : to_float(a[m][v]);
}

template <class P, class Q, class A>
struct int8_batch {
  using l = layout<P, Q>;
  using plan = int8_plan<P, Q, A::group>;
  static constexpr bool weighted = !plan::premultiplied, grouped = A::group > 0, offset = plan::batch_offset;
  static constexpr bool integers = !weighted && !grouped && !offset;
  /// Registers of 16 rows: two where they share their columns and their sums are integers.
  static constexpr int vectors =
      integers && (P::kind != survivors::listed || P::unit_rows % 32 == 0) ? batch_vectors : 1;
  static constexpr int segments = weighted || offset ? panel_inputs / plan::batch_segment : 1;
  /// Slots of a tile that fill a panel.
  static constexpr int slots = panel_inputs / l::cell_cols;
  template <int Vectors>
  using panel_type = panel<Vectors, segments>;

  const matrix_view<P, Q>& w;
  const activation_view<A>& a;
  const span2<float>& y;
  std::size_t next_first[2] = {}, next_cells = 0;
  int next_count = 0;

  /// Four weights of 16 rows as bytes.
  struct byte_form {
    i32x16 minus;       // what is added to every byte: -zero, times the multiplier, and the bias
    i32x16 multiplier;  // in every 16-bit word
  };
  static inline byte_form form(const slot_params& p) {
    byte_form f{zero_int(), zero_int()};
    i32x16 z = zero_int();
    if constexpr (Q::bits == 8 || Q::zero_bits == 16)
      z = broadcast(centre);
    else if constexpr (Q::zero_bits > 0)
      z = p.zero_code;
    else
      z = broadcast(1 << (Q::bits - 1));
    if constexpr (plan::premultiplied) {
      f.multiplier = either(p.multiplier, shift_left(p.multiplier, 16));
      z = multiply_words(z, p.multiplier);
    }
    static constexpr std::int8_t low_byte[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    f.minus =
        shuffle_bytes(add(broadcast(dot_takes_bytes ? 128 : 0), negate(z)), broadcast_quarter(low_byte));
    return f;
  }
  /// The code that becomes 0 where the rest is an offset.
  static constexpr int centre = Q::bits == 8 ? 128 : 0;
  static inline i32x16 bytes(i32x16 codes, const byte_form& f) {
    if constexpr (plan::premultiplied)
      codes = either(multiply_words(both(codes, 0x00ff00ff), f.multiplier),
                     multiply_words(both(codes, static_cast<int>(0xff00ff00u)), f.multiplier));
    return add_bytes(codes, f.minus);
  }
  static inline f32x16 scale_of(const slot_params& p) {
    if constexpr (Q::row_scaled)
      return to_float(p.multiplier);
    else
      return p.scale;
  }
  /// -1/128 of what scale * byte leaves out.
  static inline f32x16 offset_of(const slot_params& p) {
    if constexpr (Q::zero_bits == 16)
      return multiply(p.offset, broadcast(-1.0f / 128));
    else if constexpr (offset)
      return multiply(multiply(scale_of(p), to_float(add(p.zero_code, broadcast(-centre)))),
                      broadcast(1.0f / 128));
    else
      return zero();
  }

  /// Decodes a slot of 16 rows that share their columns to words from `at` on.
  template <int V>
  inline void decode_shared(panel_type<V>& out, int v, std::size_t first, int at) {
    const slot<true> cells = full_slot(first);
    const std::byte* const plane[3] = {w[stream::codes], w[stream::codes1], w[stream::codes2]};
    const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
    constexpr int words = l::cell_codes / l::runs_per_cell / 4;
#pragma GCC unroll 8
    for (int j = 0; j < l::runs_per_cell; ++j) {
      const slot_params p = params_in<Q, l::runs_per_cell>(w[stream::scale], w[stream::zero], cells, j);
      const byte_form f = form(p);
#pragma GCC unroll 32
      for (int k = j * words; k < (j + 1) * words; ++k) store(out.word[at + k][v], bytes(codes.bytes(k), f));
      if constexpr (weighted) {
        constexpr int per_run = Q::run / plan::segment;
        for (int i = 0; i < per_run; ++i) {
          const int s = at * 4 / plan::segment + j * per_run + i;
          store(out.scale[s][v], scale_of(p));
          if constexpr (offset) store(out.offset[s][v], offset_of(p));
        }
      }
    }
  }
  /// N:M codes go to their places among zeros.
  template <int V>
  inline void decode_positions(panel_type<V>& out, int v, std::size_t tile, std::size_t u, int at) {
    const slot<true> cells = full_slot((tile * l::cells_per_row(w.cols()) + u) * lanes);
    const std::byte* const plane[3] = {w[stream::codes], w[stream::codes1], w[stream::codes2]};
    const std::byte* position_plane[3];
    for (int i = 0; i < plane_count(l::position_bits); ++i)
      position_plane[i] = w[stream::index] + matrix_view<P, Q>::position_plane(w.cells(), i);
    const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
    const auto places = codes_at<l::position_bits, l::cell_codes>(position_plane, cells);
    const std::size_t runs = l::runs(w.cols());
    slot_params p{};
    byte_form f{};
    // `minus` holds the bias, which the zeros between the codes need too.
    const i32x16 bias = broadcast(dot_takes_bytes ? static_cast<int>(0x80808080u) : 0);
#pragma GCC unroll 32
    for (int word = 0; word < l::cell_cols / 4; ++word) {
      const std::size_t column = u * l::cell_cols + static_cast<std::size_t>(4 * word);
      if (word == 0 || 4 * word % plan::segment == 0) {
        std::size_t run = column / Q::run;
        if (run >= runs) run = runs - 1;  // a completed part: its inputs are zero
        p = params_in<Q, 1>(w[stream::scale], w[stream::zero], full_slot((tile * runs + run) * lanes), 0);
        f = form(p);
        if constexpr (weighted) {
          const int s = (at + word) * 4 / plan::segment;
          store(out.scale[s][v], scale_of(p));
          if constexpr (offset) store(out.offset[s][v], offset_of(p));
        }
      }
      i32x16 sum = zero_int();
      // The windows that this word touches.
      constexpr int n = P::keep, m = P::of;
      for (int k = 4 * word / m * n; k < (4 * word + 3) / m * n + n; ++k) {
        i32x16 value = flip_bias(bytes(codes.bytes(k / 4), f));
        value = bits_of(value, k % 4 * 8, 8);
        // 8 * (place - first input of the word): out of 0..31 shifts everything away.
        const i32x16 shift = shift_left(add(places[k], broadcast(k / n * m - 4 * word)), 3);
        sum = either(sum, shift_left_each(value, shift));
      }
      store(out.word[at + word][v], flip_by(sum, bias));
    }
  }
  static inline i32x16 flip_bias(i32x16 v) {
    return dot_takes_bytes ? flip(v, static_cast<int>(0x80808080u)) : v;
  }
  static inline i32x16 flip_by(i32x16 v, i32x16 bias) { return add_bytes(v, bias); }

  /// Windows [from, end) of a tile whose rows have units of their own, among zeros.
  template <int V>
  inline void decode_masked(panel_type<V>& out, int v, std::size_t tile, std::size_t from, std::size_t end,
                            std::size_t& first) {
    constexpr int words = P::unit_cols / 4;
    for (int k = 0; k < panel_inputs / 4; ++k)
      store(out.word[k][v], broadcast(dot_takes_bytes ? static_cast<int>(0x80808080u) : 0));
    if constexpr (weighted)
      for (int s = 0; s < segments; ++s) {
        store(out.scale[s][v], zero());
        if constexpr (offset) store(out.offset[s][v], zero());
      }
    static constexpr int row_number[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const std::byte* const plane[3] = {w[stream::codes], w[stream::codes1], w[stream::codes2]};
    constexpr int row_step = V * lanes;
    for_each_slot(
        w, tile, from, end, first, [](std::size_t) {},
        [&](const auto& cells, std::size_t window, i32x16 unit) {
          const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
          unit = add(unit, broadcast(static_cast<int>(window - from) * 16));
          // Word (unit * words + k), register v, row.
          const i32x16 at = add(multiply(unit, broadcast(words * row_step)), load(row_number));
          constexpr int run_words = words / l::runs_per_cell;
#pragma GCC unroll 8
          for (int j = 0; j < l::runs_per_cell; ++j) {
            const slot_params p = params_in<Q, l::runs_per_cell>(w[stream::scale], w[stream::zero], cells, j);
            const byte_form f = form(p);
#pragma GCC unroll 16
            for (int k = j * run_words; k < (j + 1) * run_words; ++k)
              scatter(out.word[k][v], at, bytes(codes.bytes(k), f), cells.rows());
            if constexpr (weighted) {
              constexpr int per_unit = P::unit_cols / plan::segment, per_run = per_unit / l::runs_per_cell;
              const i32x16 s = add(multiply(unit, broadcast(per_unit * row_step)), load(row_number));
              for (int i = j * per_run; i < (j + 1) * per_run; ++i) {
                scatter(reinterpret_cast<int*>(out.scale[i][v]), s, as_int(scale_of(p)), cells.rows());
                if constexpr (offset)
                  scatter(reinterpret_cast<int*>(out.offset[i][v]), s, as_int(offset_of(p)), cells.rows());
              }
            }
          }
        });
  }

  /// Asks for the codes and scales of the next `cells` cells while the batch multiplies with the last ones.
  inline void prefetch_cells(std::size_t first, std::size_t cells) const {
    const auto range = [](const std::byte* from, std::size_t bytes) {
      for (std::size_t i = 0; i < bytes; i += 64) prefetch(from + i);
    };
    for (int i = 0; i < plane_count(Q::bits); ++i) {
      const std::size_t cell_bytes = static_cast<std::size_t>(l::cell_codes * plane_width(Q::bits, i) / 8);
      range(w[static_cast<stream>(static_cast<int>(stream::codes) + i)] + first * cell_bytes,
            cells * cell_bytes);
    }
    if constexpr (l::params_in_cells) {
      constexpr std::size_t bits = static_cast<std::size_t>(Q::scale_bits * l::runs_per_cell);
      range(w[stream::scale] + first * bits / 8, cells * bits / 8);
    }
  }

  /// All tokens times the panel; `more`: y holds the sums of earlier panels.
  template <int V>
  inline void multiply_tokens(const panel_type<V>& p, std::size_t tile, bool more) {
    for (std::size_t t = 0; t < a.tokens();) {
      const std::size_t mr = tile_tokens(a.tokens(), t);
      const std::size_t from = next_cells * t / a.tokens(), to = next_cells * (t + mr) / a.tokens();
      for (int i = 0; i < next_count; ++i)
        prefetch_cells(next_first[i] + from, (to < next_cells ? to : next_cells) - from);
      for (std::size_t m = 0; m < mr && t + m < a.tokens();) {
        if (batch_tokens >= 12 && mr - m >= 12)
          part<12>(p, tile, t, m, mr, more), m += 12;
        else if (batch_tokens >= 8 && mr - m >= 8)
          part<8>(p, tile, t, m, mr, more), m += 8;
        else
          part<4>(p, tile, t, m, mr, more), m += 4;
      }
      t += mr;
    }
  }
  template <int MR, int V>
  inline void part(const panel_type<V>& p, std::size_t tile, std::size_t first, std::size_t m0,
                   std::size_t mr, bool more) {
    if constexpr (MR <= batch_tokens) {
      f32x16 out[MR][V];
      multiply_panel<MR, V, weighted, grouped, offset>(
          p, plan::batch_segment / 4, a.tile(first) + 4 * m0, mr, a.tile_sums(plan::batch_level, first) + m0,
          a.tile_scales(first) + m0, static_cast<std::size_t>(plan::group), out);
      for (int v = 0; v < V; ++v) {
        const std::size_t row = (tile + static_cast<std::size_t>(v)) * lanes;
        if (row >= w.rows()) break;
        f32x16 row_scale = broadcast(1.0f);
        if constexpr (Q::row_scaled) row_scale = load_half(w[stream::row_scale] + row * 2);
        for (int m = 0; m < MR; ++m) {
          const std::size_t t = first + m0 + static_cast<std::size_t>(m);
          if (t >= a.tokens()) break;
          f32x16 value = out[m][v];
          if constexpr (Q::row_scaled) value = multiply(value, row_scale);
          if constexpr (A::group == 0) value = multiply(value, broadcast(a.scales(t)[0]));
          if (more) value = add(value, load_rows(&y(t, row), w.rows() - row));
          store_rows(&y(t, row), value, w.rows() - row);
        }
      }
    }
  }

  /// V tiles that share their columns.
  template <int V>
  inline void tiles(std::size_t tile) {
    panel_type<V> p;
    const auto multiply_now = [&](bool more) { multiply_tokens(p, tile, more); };
    if constexpr (P::kind == survivors::listed) {
      constexpr std::size_t parts = static_cast<std::size_t>(P::unit_rows) / lanes;
      const std::size_t begin = w.begin(tile / parts), end = w.begin(tile / parts + 1);
      constexpr int per_cell = l::cell_cols / plan::batch_segment;
      std::size_t j = begin;
      do {
        const std::size_t stop = end - j < slots ? end : j + slots;
        p.segments = static_cast<int>(stop - j) * per_cell;
        for (std::size_t i = j; i < stop; ++i) {
          const int n = static_cast<int>(i - j);
          for (int v = 0; v < V; ++v)
            decode_shared(p, v, (i * parts + tile % parts + static_cast<std::size_t>(v)) * lanes,
                          n * l::cell_codes / 4);
          for (int s = 0; s < per_cell; ++s)
            p.start[n * per_cell + s] = static_cast<std::uint32_t>(
                w.block_column(i) * l::cell_cols + static_cast<std::size_t>(s * plan::batch_segment));
        }
        const std::size_t next = (end - stop < slots ? end - stop : slots) * P::unit_rows;
        next_first[0] = stop * P::unit_rows;
        next_cells = V * lanes == P::unit_rows ? next : 0;
        next_count = 1;
        multiply_now(j != begin);
        j = stop;
      } while (j < end);
    } else {
      const std::size_t units = l::cells_per_row(w.cols());
      std::size_t first[V];
      for (int v = 0; v < V; ++v) {
        const std::size_t t = tile + static_cast<std::size_t>(v);
        if constexpr (P::kind == survivors::masked)
          first[v] = l::uniform ? t * lanes * l::uniform_cells(w.cols()) : w.begin(t);
        else
          first[v] = t * units * lanes;
      }
      for (std::size_t u = 0; u < units; u += slots) {
        const std::size_t stop = units - u < slots ? units : u + slots;
        const std::size_t inputs = (stop - u) * l::cell_cols;
        p.segments = static_cast<int>((inputs + plan::batch_segment - 1) / plan::batch_segment);
        for (int s = 0; s < p.segments; ++s)
          p.start[s] = static_cast<std::uint32_t>(u * l::cell_cols) +
                       static_cast<std::uint32_t>(s * plan::batch_segment);
        for (int v = 0; v < V; ++v) {
          const std::size_t t = tile + static_cast<std::size_t>(v);
          if constexpr (P::kind == survivors::masked) {
            decode_masked(p, v, t, u / 16, (stop + 15) / 16, first[v]);
          } else {
            for (std::size_t i = u; i < stop; ++i) {
              const int at = static_cast<int>(i - u) * l::cell_cols / 4;
              if constexpr (P::kind == survivors::positions)
                decode_positions(p, v, t, i, at);
              else
                decode_shared(p, v, first[v] + i * lanes, at);
            }
          }
        }
        if constexpr (P::kind != survivors::masked) {
          const std::size_t next = (units - stop < slots ? units - stop : slots) * lanes;
          for (int v = 0; v < V; ++v) next_first[v] = first[v] + stop * lanes;
          next_cells = next;
          next_count = V;
        }
        multiply_now(u != 0);
      }
    }
  }
};

/// Tiles [begin, end) for any number of tokens.
template <class P, class Q, class A>
inline void multiply_int8(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                          const activation_view<A>& a, const span2<float>& y) {
  if constexpr (int8_plan<P, Q, A::group>::batches) {
    if (a.shape.tiled()) {
      using batch = int8_batch<P, Q, A>;
      batch b{w, a, y};
      for (std::size_t tile = begin; tile < end;) {
        if (batch::vectors == 2 && tile + 2 <= end && (P::kind != survivors::listed || tile % 2 == 0)) {
          b.template tiles<batch::vectors>(tile);
          tile += 2;
        } else {
          b.template tiles<1>(tile);
          ++tile;
        }
      }
      return;
    }
  }
  multiply_vectors(w, begin, end, a, y);
}
