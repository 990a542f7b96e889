// SPDX-License-Identifier: Apache-2.0
// Few vectors of 24 bits times a packed matrix whose rows share their columns: three dot products of bytes in place of
// a conversion and a product in float. Included like gemv.inl, after gemm.inl and prepare.inl, by instruction sets that
// have `dot`.

template <class P, class Q, int Tokens>
struct int24_loop {
  using l = layout<P, Q>;
  static constexpr int digits = int24::digits, group = int24::inputs_per_scale;
  /// Inputs of a sum of integers. A digit's sum is below 2^7 * 2^7 * 32, so that it may be shifted by a digit.
  static constexpr int segment = Q::run < group ? Q::run : group;
  static constexpr int segments = Q::run / segment;
  static constexpr int level = segment == 16 ? 0 : 1;
  /// With an offset in floats what is left of it beside the middle of the codes.
  static constexpr bool has_offset = Q::zero_bits == 16;
  const matrix_view<P, Q> w;
  const std::byte *const scale_stream, *const zero_stream;
  const std::byte* plane[3];
  const std::int8_t* digit[Tokens][digits];
  const float* input_scale[Tokens];
  const float* input_sum[Tokens];
  f32x16 sum[Tokens];
  f32x16 row_scale;

  [[gnu::always_inline]] inline int24_loop(const matrix_view<P, Q>& m, const activation_view<int24>& a,
                                           std::size_t token)
      : w(m),
        scale_stream(m[stream::scale]),
        zero_stream(m[stream::zero]),
        plane{m[stream::codes], m[stream::codes1], m[stream::codes2]},
        row_scale(broadcast(1.0f)) {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      const std::size_t n = token + static_cast<std::size_t>(t);
      for (int i = 0; i < digits; ++i) digit[t][i] = a.codes(n, i);
      input_scale[t] = a.scales(n);
      input_sum[t] = a.sums(level, n);
    }
  }

  [[gnu::always_inline]] inline void shared(std::size_t first, std::size_t unit) {
    const full_slot cells(first);
    const std::size_t col = unit * l::cell_cols;
    const auto codes = codes_at<Q::bits, l::cell_codes>(plane, cells);
    codes.prefetch_ahead();
#pragma GCC unroll 8
    for (int run = 0; run < l::runs_per_cell; ++run) {
      const slot_params p = params_in<Q, l::runs_per_cell>(scale_stream, zero_stream, cells, run);
      const f32x16 zero_code = zero_of(p);
      f32x16 part[Tokens], total[Tokens];  // of code - zero times inputs, and of inputs
#pragma GCC unroll 8
      for (int s = run * segments; s < (run + 1) * segments; ++s) {
        i32x16 d[Tokens][digits];
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
          for (int i = 0; i < digits; ++i) d[t][i] = zero_int();
#pragma GCC unroll 8
        for (int k = s * segment / 4; k < (s + 1) * segment / 4; ++k) {
          const i32x16 c = codes.bytes(k);
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 4
            for (int i = 0; i < digits; ++i) d[t][i] = dot_word(d[t][i], c, digit[t][i] + col + 4 * k);
        }
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          const std::size_t at = col + static_cast<std::size_t>(s * segment);
          const f32x16 negated_sum = broadcast(input_sum[t][at / segment]);
          const f32x16 x_scale = broadcast(input_scale[t][at / group]);
          f32x16 v = to_float(add(shift_left(d[t][1], 8), d[t][0]));
          v = multiply_add(zero_code, negated_sum, v);
          v = multiply_add(to_float(d[t][2]), broadcast(65536.0f), v);
          const bool first_of_run = s == run * segments;
          part[t] = first_of_run ? multiply(v, x_scale) : multiply_add(v, x_scale, part[t]);
          if constexpr (has_offset)
            total[t] =
                first_of_run ? multiply(negated_sum, x_scale) : multiply_add(negated_sum, x_scale, total[t]);
        }
      }
      const f32x16 scale = floats<Q>(p, row_scale).scale;
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        sum[t] = multiply_add(part[t], scale, sum[t]);
        if constexpr (has_offset)
          sum[t] = multiply_add(negate(multiply_add(scale, zero_code, p.offset)), total[t], sum[t]);
      }
    }
  }
  /// The code that stands for 0, or for the middle where offsets are floats.
  static inline f32x16 zero_of(const slot_params& p) {
    if constexpr (Q::zero_bits > 0 && Q::zero_bits < 16)
      return to_float(p.zero_code);
    else
      return broadcast(static_cast<float>(1 << (Q::bits - 1)));
  }
};

template <int Tokens, class P, class Q>
inline void multiply_int24_tokens(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                                  const activation_view<int24>& a, const span2<float>& y, std::size_t token) {
  int24_loop<P, Q, Tokens> loop(w, a, token);
  for (std::size_t tile = begin; tile < end; ++tile) {
    if constexpr (Q::row_scaled) loop.row_scale = load_half(w[stream::row_scale] + tile * lanes * 2);
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) loop.sum[t] = zero();
    for_each_shared(w, tile, [&](std::size_t cell, std::size_t unit) { loop.shared(cell, unit); });
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t)
      store_rows(&y(token + static_cast<std::size_t>(t), tile * lanes), loop.sum[t], w.rows() - tile * lanes);
  }
}
template <class P, class Q>
inline void multiply_int24(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                           const activation_view<int24>& a, const span2<float>& y) {
  // Where one pass does, all tiles share the addresses that it begins with; else tiles stay in the cache.
  const bool one_pass = a.tokens() <= 2;
  for (std::size_t tile = begin; tile < end;) {
    const std::size_t next = one_pass ? end : tile + 1;
    std::size_t t = 0;
    for (; t + 2 <= a.tokens(); t += 2) multiply_int24_tokens<2>(w, tile, next, a, y, t);
    if (t < a.tokens()) multiply_int24_tokens<1>(w, tile, next, a, y, t);
    tile = next;
  }
}

/// The same for all activations that are whole numbers.
template <class P, class Q, class A>
inline void multiply_integers(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                              const activation_view<A>& a, const span2<float>& y) {
  if constexpr (is_int8<A>)
    multiply_int8(w, begin, end, a, y);
  else
    multiply_int24(w, begin, end, a, y);
}
