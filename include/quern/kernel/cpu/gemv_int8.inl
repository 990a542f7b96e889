// SPDX-License-Identifier: Apache-2.0
// Up to four int8 vectors times a packed matrix with dot products of four bytes. Included like gemv.inl, by
// instruction sets that have `dot`. Integers are summed as long as weights and inputs keep their scales; for
// affine codes the sum starts at -zero * (sum of the inputs).

inline i32x16 broadcast_word(const std::int8_t* p) {
  int v;
  std::memcpy(&v, p, sizeof v);
  return broadcast(v);
}
/// `dot` of codes of at most 7 bits, or of bytes where it takes them, with the same four inputs in every lane.
inline i32x16 dot_word(i32x16 d, i32x16 codes, const std::int8_t* x) {
  if constexpr (dot_takes_bytes)
    return dot_broadcast(d, codes, x);
  else
    return dot(d, codes, broadcast_word(x));
}

/// Inputs of a cell whose rows share their columns.
template <int Tokens>
struct shared_inputs {
  const std::int8_t* code[Tokens];
  const int* sum[Tokens];
  const float* scale[Tokens];
  inline const std::int8_t* word_at(int t, int k) const { return code[t] + 4 * k; }
  inline i32x16 word(int t, int k) const { return broadcast_word(word_at(t, k)); }
  inline i32x16 negated_sum(int t, int segment) const { return broadcast(sum[t][segment]); }
  inline f32x16 scale_of(int t, int group) const { return broadcast(scale[t][group]); }
};
/// Inputs of units that every row chooses for itself, out of a window, the last unit first.
template <int Tokens, int UnitWords, int Sums, int SumStep>
struct window_inputs {
  const int* code[Tokens];
  const int* sum[Tokens];
  const float* scale[Tokens];
  i32x16 place;
  inline i32x16 word(int t, int k) const { return lookup(load(code[t] + 16 * k), place); }
  inline i32x16 negated_sum(int t, int segment) const {
    i32x16 v = lookup(load(sum[t] + 16 * segment * SumStep), place);
    for (int i = 1; i < SumStep; ++i) v = add(v, lookup(load(sum[t] + 16 * (segment * SumStep + i)), place));
    return v;
  }
  inline f32x16 scale_of(int t, int group) const { return lookup(load(scale[t] + 16 * group), place); }
};
/// Inputs of a cell of N:M codes.
template <class P, class Places, int Tokens>
struct position_inputs {
  const std::int8_t* code[Tokens];
  const float* scale[Tokens];
  const Places& places;
  /// Byte i: the place of code 4k + i within the 16 inputs from `start(k)` on.
  inline i32x16 control(int k) const {
    int window = 0;
    for (int i = 0; i < 4; ++i) window |= ((4 * k + i) / P::keep - 4 * k / P::keep) * P::of << 8 * i;
    return add(places.bytes(k), broadcast(window));
  }
  static constexpr int start(int k) { return 4 * k / P::keep * P::of; }
  inline f32x16 scale_of(int t, int group) const { return broadcast(scale[t][group]); }
};

template <class P, class Q, class A, int Tokens>
struct int8_loop {
  using l = layout<P, Q>;
  using plan = int8_plan<P, Q, A::group>;
  static constexpr bool positions_kind = P::kind == survivors::positions;
  /// Codes of 8 bits where `dot` takes 7: they are taken as signed, and zero moves by 128 with them.
  static constexpr bool recentred = Q::bits == 8 && !dot_takes_bytes;
  /// Codes in the high halves of bytes are multiplied where they are, as 16 times themselves, after the sum of the others
  /// was multiplied by 16: one shift per segment and token instead of one for every second word. Sums stay below
  /// 128 * 15 * 127 * 16 < 2^24, which float holds exactly; store_tokens() divides by 16.
  static constexpr bool high_in_place = Q::bits == 4 && Q::zero_bits != 16 && !plan::merged &&
                                        !positions_kind && dot_takes_bytes &&
                                        2 * Tokens < plan::segment_codes / 4;
  /// Streams and prepared inputs, found once per call: a kernel that asks the views again for every cell spends
  /// half of its time on addresses.
  const matrix_view<P, Q> w;
  const std::byte* const scale_stream;
  const std::byte* const zero_stream;
  const std::byte* plane[3];
  const std::int8_t* code[Tokens];
  const int* code_sum[Tokens];
  const float* input_scale[Tokens];
  const int* table[Tokens];
  f32x16 sum[Tokens];

  [[gnu::always_inline]] inline int8_loop(const matrix_view<P, Q>& m, const activation_view<A>& a,
                                          std::size_t token)
      : w(m),
        scale_stream(m[stream::scale]),
        zero_stream(m[stream::zero]),
        plane{m[stream::codes], m[stream::codes1], m[stream::codes2]} {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      const std::size_t n = token + static_cast<std::size_t>(t);
      code[t] = a.codes(n);
      code_sum[t] = a.sums(plan::level, n);
      input_scale[t] = a.scales(n);
      table[t] = nullptr;
      if constexpr (P::kind == survivors::masked)
        table[t] = a.template at<const int>(a.shape.table(table_number, n));
    }
  }
  /// Elements of a cell, every one of which a ranked slot brings to its row. A packed slot brings the sums there instead,
  /// which takes about three times as much for each token.
  static constexpr int cell_elements = [] {
    int n = l::runs_per_cell * (Q::zero_bits > 0 ? 2 : 1);
    for (int i = 0; i < plane_count(Q::bits); ++i) n += (l::cell_codes * plane_width(Q::bits, i) + 31) / 32;
    return n;
  }();
  using partial_slot = std::conditional_t<3 * Tokens <= cell_elements, packed_slot, ranked_slot>;
  static constexpr int table_number = P::unit_cols == 16 ? 0 : P::unit_cols == 32 ? 1 : 2;
  inline void clear() {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) sum[t] = zero();
  }

  static inline i32x16 dot_codes(i32x16 d, i32x16 codes, i32x16 x) {
    if constexpr (recentred)
      return dot_signed(d, flip(codes, static_cast<int>(0x80808080u)), x);
    else
      return dot(d, codes, x);
  }
  /// zero * -sum: what a sum of code * input starts from.
  static inline i32x16 zero_times(const slot_params& p, i32x16 negated_sum) {
    if constexpr (Q::zero_bits == 16) {
      return zero_int();
    } else if constexpr (Q::zero_bits > 0) {
      // With both factors negative, instruction sets that multiply words would add the product of the high ones.
      if constexpr (recentred) return multiply(add(p.zero_code, broadcast(-128)), negated_sum);
      return multiply_add_short(p.zero_code, negated_sum, zero_int());
    } else if constexpr (recentred) {
      return zero_int();
    } else {
      return shift_left(negated_sum, Q::bits - 1);
    }
  }

  /// sum += cell times inputs. `first_run` and RunsHere tell where the cell's parameters are: at the cell, or,
  /// for N:M, in a sequence of their own.
  template <int RunsHere, class Slot, class Params, class Inputs>
  [[gnu::always_inline]] inline void cell(const Slot& cells, const Params& params, const Inputs& in) {
    constexpr int spans = l::cell_cols / plan::span, segments = plan::span / plan::segment;
    constexpr int words = plan::segment_codes / 4;
    constexpr int segments_per_run = Q::run < l::cell_cols ? Q::run / plan::segment : spans * segments;
    const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
    codes.prefetch_ahead();
    slot_params p{};
    constexpr bool in_rows = Slot::full || Slot::ranked;
    f32x16 part[Tokens];  // of this slot, where its cells are not in the lanes of their rows
#pragma GCC unroll 8
    for (int s = 0; s < spans; ++s) {
      i32x16 total[Tokens];
      f32x16 offset_sum[Tokens];
#pragma GCC unroll 8
      for (int j = 0; j < segments; ++j) {
        const int segment = s * segments + j;
        if (segment % segments_per_run == 0) p = params(segment / segments_per_run);
        i32x16 d[Tokens], e[Tokens];
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          e[t] = zero_int();
          if constexpr (positions_kind)
            d[t] = zero_int();
          else
            d[t] = zero_times(p, in.negated_sum(t, segment));
        }
        const auto add_products = [&](int k, i32x16 c) __attribute__((always_inline)) {
          if constexpr (requires { in.word_at(0, k); } && !recentred) {
#pragma GCC unroll 4
            for (int t = 0; t < Tokens; ++t) d[t] = dot_word(d[t], c, in.word_at(t, k));
          } else if constexpr (positions_kind) {
            const i32x16 control = in.control(k);
#pragma GCC unroll 4
            for (int t = 0; t < Tokens; ++t) {
              const i32x16 x = shuffle_bytes(broadcast_quarter(in.code[t] + Inputs::start(k)), control);
              d[t] = dot_codes(d[t], c, x);
              e[t] = dot(e[t], broadcast(0x01010101), x);
            }
          } else {
#pragma GCC unroll 4
            for (int t = 0; t < Tokens; ++t) d[t] = dot_codes(d[t], c, in.word(t, k));
          }
        };
        constexpr int step = high_in_place ? 2 : 1;
#pragma GCC unroll 32
        for (int k = segment * words; k < (segment + 1) * words; k += step) add_products(k, codes.bytes(k));
        if constexpr (high_in_place) {
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t) d[t] = shift_left(d[t], 4);
#pragma GCC unroll 32
          for (int k = segment * words + 1; k < (segment + 1) * words; k += 2)
            add_products(k, codes.high_halves(k));
        }
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          if constexpr (positions_kind) d[t] = add(d[t], zero_times(p, negate(e[t])));
          if constexpr (Q::zero_bits == 16) {
            const i32x16 x = positions_kind ? e[t] : negate(in_sum(in, t, segment));
            offset_sum[t] = multiply(keep_rows(p.offset, cells), to_float(x));
          }
          if constexpr (!plan::merged)
            total[t] = d[t];
          else if constexpr (plan::short_sums)
            total[t] = multiply_add_short(d[t], p.multiplier, j == 0 ? zero_int() : total[t]);
          else
            total[t] = add(multiply(d[t], p.multiplier), j == 0 ? zero_int() : total[t]);
        }
      }
      f32x16 scale = p.scale;
      if constexpr (Q::row_scaled) scale = plan::merged ? broadcast(1.0f) : to_float(p.multiplier);
      if constexpr (A::group == 0) scale = keep_rows(scale, cells);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        f32x16 v = scale, x_scale = broadcast(1.0f);
        if constexpr (A::group > 0) {
          // Of the two scales the one that may be infinite: rows without a cell do not read these inputs.
          x_scale = keep_rows(in.scale_of(t, s * plan::span / plan::group), cells);
          v = plan::merged ? x_scale : multiply(scale, x_scale);
        }
        if constexpr (in_rows) {
          sum[t] = multiply_add(to_float(total[t]), v, sum[t]);
          if constexpr (Q::zero_bits == 16) sum[t] = multiply_add(offset_sum[t], x_scale, sum[t]);
        } else {
          part[t] = s == 0 ? multiply(to_float(total[t]), v) : multiply_add(to_float(total[t]), v, part[t]);
          if constexpr (Q::zero_bits == 16) part[t] = multiply_add(offset_sum[t], x_scale, part[t]);
        }
      }
    }
    if constexpr (!in_rows) {
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) sum[t] = add(sum[t], spread_lanes(part[t], cells.rows()));
    }
  }
  template <class Inputs>
  static inline i32x16 in_sum(const Inputs& in, int t, int segment) {
    if constexpr (positions_kind)
      return zero_int();
    else
      return in.negated_sum(t, segment);
  }
  template <class Slot>
  static inline f32x16 keep_rows(f32x16 v, const Slot& cells) {
    if constexpr (Slot::ranked)
      return keep(v, cells.rows());
    else
      return v;
  }
  /// Parameters that follow the cells.
  template <class Slot>
  inline auto cell_params(const Slot& cells) const {
    return [this, &cells](int run) {
      return params_in<Q, l::runs_per_cell>(scale_stream, zero_stream, cells, run);
    };
  }

  [[gnu::always_inline]] inline void shared(std::size_t first, std::size_t unit) {
    const full_slot cells(first);
    const std::size_t col = unit * l::cell_cols;
    shared_inputs<Tokens> in;
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      in.code[t] = code[t] + col;
      in.sum[t] = code_sum[t] + col / plan::segment;
      in.scale[t] = input_scale[t] + (A::group == 0 ? 0 : col / plan::group);
    }
    cell<l::runs_per_cell>(cells, cell_params(cells), in);
  }
  [[gnu::always_inline]] inline void positions(std::size_t tile) {
    const std::size_t units = l::cells_per_row(w.cols()), runs = l::runs(w.cols());
    const std::byte* position_plane[3];
    for (int i = 0; i < plane_count(l::position_bits); ++i)
      position_plane[i] = w[stream::index] + matrix_view<P, Q>::position_plane(w.cells(), i);
    constexpr int runs_here = Q::run < l::cell_cols ? l::cell_cols / Q::run : 1;
    for (std::size_t u = 0; u < units; ++u) {
      const full_slot cells((tile * units + u) * lanes);
      const auto places = codes_at<l::position_bits, l::cell_codes>(position_plane, cells);
      position_inputs<P, decltype(places), Tokens> in{{}, {}, places};
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        in.code[t] = code[t] + u * l::cell_cols;
        in.scale[t] = input_scale[t] + (A::group == 0 ? 0 : u * l::cell_cols / plan::group);
      }
      cell<1>(
          cells,
          [&](int j) {
            std::size_t run = u * l::cell_cols / Q::run + static_cast<std::size_t>(runs_here == 1 ? 0 : j);
            if (run >= runs) run = runs - 1;  // a completed part: its inputs are zero
            return params_in<Q, 1>(scale_stream, zero_stream, full_slot((tile * runs + run) * lanes), 0);
          },
          in);
    }
  }
  [[gnu::always_inline]] inline void masked(std::size_t tile) {
    constexpr int unit = P::unit_cols, words = unit / 4, sums16 = unit / 16;
    constexpr bool whole = plan::segment == unit;  // sums of whole units
    constexpr int unit_scales = activation_layout{1, 1, A::group}.unit_scales(unit);
    constexpr int per_window = 16 * (words + sums16 + 1 + unit_scales);  // in ints
    window_inputs<Tokens, words, sums16, whole ? 1 : plan::segment / 16> in{};
    for_each_slot<partial_slot>(
        w, tile,
        [&](std::size_t window) {
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t) {
            const int* const at = table[t] + window * per_window;
            in.code[t] = at;
            in.sum[t] = at + 16 * (words + (whole ? sums16 : 0));
            in.scale[t] = reinterpret_cast<const float*>(at + 16 * (words + sums16 + 1));
          }
        },
        [&](const auto& cells, std::size_t, i32x16 place) {
          in.place = place;
          cell<l::runs_per_cell>(cells, cell_params(cells), in);
        });
  }
};

/// The sums of a tile to y.
template <class P, class Q, class A, int Tokens>
inline void store_tokens(const int8_loop<P, Q, A, Tokens>& loop, const matrix_view<P, Q>& w, std::size_t tile,
                         const activation_view<A>& a, const span2<float>& y, std::size_t token) {
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
    const std::size_t n = token + static_cast<std::size_t>(t);
    f32x16 v = loop.sum[t];
    if constexpr (int8_loop<P, Q, A, Tokens>::high_in_place) v = multiply(v, broadcast(0x1p-4f));
    if constexpr (Q::row_scaled) v = multiply(v, load_half(w[stream::row_scale] + tile * lanes * 2));
    if constexpr (A::group == 0) v = multiply(v, broadcast(a.scales(n)[0]));
    store_rows(&y(n, tile * lanes), v, w.rows() - tile * lanes);
  }
}

template <int Tokens, class P, class Q, class A>
inline void multiply_tokens(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                            const activation_view<A>& a, const span2<float>& y, std::size_t token) {
  int8_loop<P, Q, A, Tokens> loop(w, a, token);
  for (std::size_t tile = begin; tile < end; ++tile) {
    loop.clear();
    if constexpr (P::kind == survivors::all || P::kind == survivors::listed)
      for_each_shared(w, tile, [&](std::size_t cell, std::size_t unit) { loop.shared(cell, unit); });
    else if constexpr (P::kind == survivors::positions)
      loop.positions(tile);
    else
      loop.masked(tile);
    store_tokens(loop, w, tile, a, y, token);
  }
}

/// Both tiles of a row of blocks of 32 rows at once: one after the other would read every other half kilobyte of
/// the codes, twice.
template <int Tokens, class P, class Q, class A>
inline void multiply_pair(const matrix_view<P, Q>& w, std::size_t tile, const activation_view<A>& a,
                          const span2<float>& y, std::size_t token) {
  int8_loop<P, Q, A, Tokens> upper(w, a, token), lower(w, a, token);
  upper.clear();
  lower.clear();
  const std::size_t end = w.begin(tile / 2 + 1);
  for (std::size_t j = w.begin(tile / 2); j < end; ++j) {
    const std::size_t column = w.block_column(j);
    upper.shared(2 * j * lanes, column);
    lower.shared((2 * j + 1) * lanes, column);
  }
  store_tokens(upper, w, tile, a, y, token);
  store_tokens(lower, w, tile + 1, a, y, token);
}

/// Tiles [begin, end) with the weights decoded for four tokens at a time.
template <class P, class Q, class A>
inline void multiply_vectors(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& a, const span2<float>& y) {
  constexpr bool pairs = P::kind == survivors::listed && P::unit_rows == 2 * lanes;
  // Where one pass does, all tiles share the addresses that it begins with; else tiles stay in the cache.
  const bool one_pass = !pairs && (a.tokens() == 1 || a.tokens() == 2 || a.tokens() == 4);
  for (std::size_t tile = begin; tile < end;) {
    const bool pair = pairs && tile % 2 == 0 && tile + 1 < end;
    const std::size_t next = one_pass ? end : tile + (pair ? 2 : 1);
    const auto some = [&]<int Tokens>(std::size_t t) {
      if constexpr (pairs)
        if (pair) return multiply_pair<Tokens>(w, tile, a, y, t);
      multiply_tokens<Tokens>(w, tile, next, a, y, t);
    };
    std::size_t t = 0;
    for (; t + 4 <= a.tokens(); t += 4) some.template operator()<4>(t);
    if (t + 2 <= a.tokens()) some.template operator()<2>(t), t += 2;
    if (t < a.tokens()) some.template operator()<1>(t);
    tile = next;
  }
}
