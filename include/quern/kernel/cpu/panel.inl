// SPDX-License-Identifier: Apache-2.0
// Decodes 16 or 32 rows of packed weights to bytes. Included after fields.inl; used by gemm.inl.

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

/// Decodes slots of a format to panels.
template <class P, class Q, class A>
struct panel_decoder {
  using l = layout<P, Q>;
  using plan = int8_plan<P, Q, A::group>;
  static_assert(plan::batch_segment >= 16,
                "quern::panel: has room for segments of 16 inputs or more; ask int8_plan::batches");
  static constexpr bool weighted = !plan::premultiplied, grouped = A::group > 0, offset = plan::batch_offset;
  static constexpr int segments = weighted || offset ? panel_inputs / plan::batch_segment : 1;
  template <int Vectors>
  using panel_type = panel<Vectors, segments>;

  const matrix_view<P, Q>& w;

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
    const full_slot cells(first);
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
    const full_slot cells((tile * l::cells_per_row(w.cols()) + u) * lanes);
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
    const std::byte* const plane[3] = {w[stream::codes], w[stream::codes1], w[stream::codes2]};
    for_each_slot<ranked_slot>(
        w, tile, from, end, first, [](std::size_t) {},
        [&](const auto& cells, std::size_t window, i32x16 place) {
          const i32x16 unit = flip(both(place, 15), 15);
          const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
          constexpr int run_words = words / l::runs_per_cell, per_unit = P::unit_cols / plan::segment;
          i32x16 word[words];
          f32x16 scale[l::runs_per_cell], rest[l::runs_per_cell];
#pragma GCC unroll 8
          for (int j = 0; j < l::runs_per_cell; ++j) {
            const slot_params p = params_in<Q, l::runs_per_cell>(w[stream::scale], w[stream::zero], cells, j);
            const byte_form f = form(p);
#pragma GCC unroll 16
            for (int k = j * run_words; k < (j + 1) * run_words; ++k) word[k] = bytes(codes.bytes(k), f);
            scale[j] = scale_of(p);
            rest[j] = offset_of(p);
          }
          // Rows that chose the same unit take their places together; -1: a row without a cell.
          const i32x16 chosen = add(keep(add(unit, broadcast(1)), cells.rows()), broadcast(-1));
          const int in_front = static_cast<int>(window - from) * 16;
          for (auto left = static_cast<unsigned>(reduce_or(shift_left_each(broadcast(1), chosen))); left != 0;
               left &= left - 1) {
            const int u = in_front + std::countr_zero(left);
            const i32x16 others = flip(chosen, u - in_front);  // 0 in the rows that chose u
#pragma GCC unroll 16
            for (int k = 0; k < words; ++k) {
              int(&at)[lanes] = out.word[u * words + k][v];
              store(at, choose(others, load(at), word[k]));
            }
            const auto put = [&](float(&at)[lanes], f32x16 value) {
              store(at, as_float(choose(others, as_int(load(at)), as_int(value))));
            };
            if constexpr (weighted)
              for (int i = 0; i < per_unit; ++i) {
                const int j = i * l::runs_per_cell / per_unit;
                put(out.scale[u * per_unit + i][v], scale[j]);
                if constexpr (offset) put(out.offset[u * per_unit + i][v], rest[j]);
              }
          }
        });
  }
};
