// SPDX-License-Identifier: Apache-2.0
// Up to four bf16 vectors times a packed matrix whose rows share their columns. Included after fields.inl by
// instruction sets with `dot_pairs`. A shift brings the codes of two inputs to the low ends of the two halves of a
// lane, where a table turns them into bf16.

/// bf16 of code - middle for the lowest bits of an index, whatever is in the others.
template <class Q>
inline constexpr auto pair_table = [] {
  struct {
    std::uint16_t value[32];
  } t{};
  for (int i = 0; i < 32; ++i)
    t.value[i] = to_bf16(static_cast<float>((i & ((1 << Q::bits % 8) - 1)) - (1 << (Q::bits % 8 - 1)))).bits;
  return t;
}();

template <class P, class Q, int Tokens>
struct bf16_loop {
  using l = layout<P, Q>;
  static constexpr int level = Q::run == 16 ? 0 : Q::run == 32 ? 1 : Q::run == 64 ? 2 : 3;
  static constexpr bool own_zero = Q::zero_bits > 0;
  const matrix_view<P, Q> w;
  const std::byte *const scale_stream, *const zero_stream;
  const std::byte* plane[3];
  const std::uint16_t* code[Tokens];
  const float* input_sum[Tokens];
  f32x16 sum[Tokens];

  inline bf16_loop(const matrix_view<P, Q>& m, const activation_view<bf16>& a, std::size_t token)
      : w(m),
        scale_stream(m[stream::scale]),
        zero_stream(m[stream::zero]),
        plane{m[stream::codes], m[stream::codes1], m[stream::codes2]} {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      code[t] = a.codes(token + static_cast<std::size_t>(t));
      input_sum[t] = a.sums(level, token + static_cast<std::size_t>(t));
      sum[t] = zero();
    }
  }

  inline void shared(std::size_t first, std::size_t unit) {
    const full_slot cells(first);
    const std::size_t col = unit * l::cell_cols;
    constexpr int chunk_codes = 32 / Q::bits, chunks = Q::run / chunk_codes;
    const std::byte* codes = plane[0] + first * (l::cell_codes * Q::bits / 8);
#pragma GCC unroll 4
    for (int j = 0; j < l::runs_per_cell; ++j) {
      f32x16 part[Tokens][2];
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) part[t][0] = part[t][1] = zero();
#pragma GCC unroll 32
      for (int c = 0; c < chunks; ++c) {
        const std::byte* const at = codes + (j * chunks + c) * 64;
        prefetch(at + 4096);
        const i32x16 v = load_elements<4>(at);
#pragma GCC unroll 8
        for (int pair = 0; pair < chunk_codes / 2; ++pair) {
          // Codes 4i + b and 4i + b + 2 lie at bit i * bits of bytes b and b + 2.
          const i32x16 numbers = lookup_pairs(pair_table<Q>.value, v, pair / 2 * Q::bits + pair % 2 * 8);
#pragma GCC unroll 4
          for (int t = 0; t < Tokens; ++t) {
            const std::uint16_t* const x = code[t] + col + (j * chunks + c) * chunk_codes + 2 * pair;
            part[t][pair % 2] = dot_pairs(part[t][pair % 2], numbers, x);
          }
        }
      }
      const slot_params p = params_in<Q, l::runs_per_cell>(scale_stream, zero_stream, cells, j);
      f32x16 scale = p.scale, offset = p.offset;
      if constexpr (Q::row_scaled) scale = to_float(p.multiplier);
      constexpr float middle = 1 << (Q::bits - 1);
      if constexpr (Q::zero_bits == 16)
        offset = multiply_add(scale, broadcast(middle), offset);
      else if constexpr (own_zero)
        offset = multiply(scale, add(broadcast(middle), negate(to_float(p.zero_code))));
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        sum[t] = multiply_add(add(part[t][0], part[t][1]), scale, sum[t]);
        if constexpr (own_zero)
          sum[t] = multiply_add(offset, broadcast(input_sum[t][col / Q::run + static_cast<std::size_t>(j)]),
                                sum[t]);
      }
    }
  }
};

template <int Tokens, class P, class Q>
inline void multiply_bf16_tokens(const matrix_view<P, Q>& w, std::size_t tile, const activation_view<bf16>& a,
                                 const span2<float>& y, std::size_t token) {
  bf16_loop<P, Q, Tokens> loop(w, a, token);
  for_each_shared(w, tile, [&](std::size_t cell, std::size_t unit) { loop.shared(cell, unit); });
#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
    f32x16 v = loop.sum[t];
    if constexpr (Q::row_scaled) v = multiply(v, load_half(w[stream::row_scale] + tile * lanes * 2));
    store_rows(&y(token + static_cast<std::size_t>(t), tile * lanes), v, w.rows() - tile * lanes);
  }
}
template <class P, class Q>
inline void multiply_bf16(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                          const activation_view<bf16>& a, const span2<float>& y) {
  for (std::size_t tile = begin; tile < end; ++tile) {
    std::size_t t = 0;
    for (; t + 4 <= a.tokens(); t += 4) multiply_bf16_tokens<4>(w, tile, a, y, t);
    for (; t < a.tokens(); ++t) multiply_bf16_tokens<1>(w, tile, a, y, t);
  }
}

/// Rounds to nearest, ties to even; NaN stays NaN.
inline void prepare_bf16(const activation_view<bf16>& a, std::size_t begin, std::size_t end) {
  for (std::size_t t = a.shape.part_token(begin); t < a.shape.part_token(end); ++t) {
    const float* x = a.source.row(t);
    for (std::size_t i = 0; i < a.shape.stride(); i += 16) {
      float edge[16] = {};
      const float* from = x + i;
      if (i + 16 > a.cols()) {
        if (i < a.cols()) std::memcpy(edge, x + i, (a.cols() - i) * sizeof(float));
        from = edge;
      }
      a.sums(0, t)[i / 16] = store_pairs(a.codes(t) + i, load(from));
    }
    for (int level = 1; level < activation_layout::sum_levels; ++level)
      for (std::size_t i = 0; i < a.shape.sums(level); ++i)
        a.sums(level, t)[i] = a.sums(level - 1, t)[2 * i] + a.sums(level - 1, t)[2 * i + 1];
  }
}
