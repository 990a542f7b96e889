// SPDX-License-Identifier: Apache-2.0
// Quantizes activations to whole numbers and lays them out as activation_layout says. Included like gemv.inl. The
// same operations in the same order on every instruction set, so the codes do not depend on it.

// Magnitudes are compared as the integers that have their bits: these order the same way, NaN is above all, and no
// compiler takes it that there is none (-ffast-math).
inline float float_of(int bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}
/// Bits of the largest magnitude of `count` inputs at p (multiple of 16). A NaN is the largest.
inline int largest_magnitude(const float* p, std::size_t count) {
  i32x16 top = zero_int();
  for (std::size_t i = 0; i < count; i += 16) top = largest(top, both(as_int(load(p + i)), 0x7fffffff));
  return reduce_max(top);
}
/// `steps` steps per unit of inputs of at most the magnitude with bits `top`. 0 for inputs that have no codes: below
/// 2^least, where steps / top leaves the range of floats, and infinity and NaN, which the scale passes on.
inline float inverse_scale(int top, float steps = 127, int least = -120) {
  return top >= (least + 127) << 23 && top < 0x7f800000 ? steps / float_of(top) : 0.0f;
}
inline void encode_inputs(const float* p, std::size_t count, float inverse, std::int8_t* codes, int* sums) {
  if (inverse == 0) {
    std::memset(codes, 0, count);
    std::memset(sums, 0, count / 16 * sizeof(int));
    return;
  }
  const f32x16 factor = broadcast(inverse);
  for (std::size_t i = 0; i < count; i += 16) {
    const i32x16 q = to_int(multiply(load(p + i), factor));
    store_bytes(codes + i, q);
    sums[i / 16] = -reduce_add(q);
  }
}

template <class A>
inline void prepare_token(const activation_view<A>& a, std::size_t t) {
  const std::size_t cols = a.cols(), stride = a.shape.stride();
  const float* x = a.source.row(t);
  std::int8_t* const codes = a.codes(t);
  float* const scales = a.scales(t);
  int* const sums = a.sums(0, t);
  const std::size_t whole = cols / 128 * 128;
  float edge[128] = {};
  if (whole < cols) std::memcpy(edge, x + whole, (cols - whole) * sizeof(float));
  const auto part = [&](std::size_t i) { return i < whole ? x + i : edge + (i - whole); };
  if constexpr (A::group == 0) {
    int top = largest_magnitude(edge, 128);
    if (const int rest = largest_magnitude(x, whole); rest > top) top = rest;
    scales[0] = float_of(top) / 127.0f;
    for (std::size_t i = 0; i < stride; i += 128)
      encode_inputs(part(i), 128, inverse_scale(top), codes + i, sums + i / 16);
  } else {
    for (std::size_t i = 0; i < stride; i += A::group) {
      const float* const p = part(i);
      const int top = largest_magnitude(p, A::group);
      scales[i / A::group] = float_of(top) / 127.0f;
      encode_inputs(p, A::group, inverse_scale(top), codes + i, sums + i / 16);
    }
  }
  for (int level = 1; level < activation_layout::sum_levels; ++level) {
    const int* const half = a.sums(level - 1, t);
    int* const out = a.sums(level, t);
    for (std::size_t i = 0; i < a.shape.sums(level); ++i) out[i] = half[2 * i] + half[2 * i + 1];
  }
}

/// The table of units of 16, 32 or 64 inputs (U = 0, 1, 2) of one token.
template <int U, class A>
inline void fill_tables(const activation_view<A>& a, std::size_t t) {
  constexpr std::size_t unit = activation_layout::units[U], words = unit / 4, sums = unit / 16;
  constexpr std::size_t scales = activation_layout{1, 1, A::group}.unit_scales(unit);
  constexpr std::size_t units_per_register = 16 / words;
  const std::size_t units = a.shape.stride() / unit;
  const std::int8_t* const codes = a.codes(t);
  const int *const sums_of_16 = a.sums(0, t), *const sums_of_unit = a.sums(U, t);
  const float* const scale = a.scales(t);
  static constexpr int unit_of_lane[] = {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  // Unit u of a window begins at word (u mod units_per_register) * words of its register.
  const i32x16 place = multiply(both(load(unit_of_lane), static_cast<int>(units_per_register) - 1),
                                broadcast(static_cast<int>(words)));
  int* out = a.template at<int>(a.shape.table(U, t));
  for (std::size_t window = 0; window < a.shape.windows(unit); ++window) {
    const int* in = reinterpret_cast<const int*>(codes + window * 16 * unit);
    // Behind the codes of this token lie those of the next, which another thread may be writing.
    int edge[16 * words];
    if (const std::size_t left = a.shape.stride() - window * 16 * unit; left < 16 * unit) {
      std::memset(edge, 0, sizeof edge);
      std::memcpy(edge, in, left);
      in = edge;
    }
    for (std::size_t k = 0; k < words; ++k) {
      const i32x16 at = add(place, broadcast(static_cast<int>(k)));
      i32x16 column = zero_int();
      for (std::size_t i = 0; i < words;
           ++i)  // the codes of 16 units fill as many registers as a unit has words
        column = either(column, keep(lookup(load(in + 16 * i), at),
                                     static_cast<lane_mask>(((1u << units_per_register) - 1)
                                                            << (words - 1 - i) * units_per_register)));
      store(out + 16 * k, column);
    }
    int* const unit_sums = out + 16 * words;
    float* const unit_scales = reinterpret_cast<float*>(unit_sums + 16 * (sums + 1));
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t n = window * 16 + 15 - i;
      const bool there = n < units;
      for (std::size_t k = 0; k < sums; ++k) unit_sums[16 * k + i] = there ? sums_of_16[n * sums + k] : 0;
      unit_sums[16 * sums + i] = there ? sums_of_unit[n] : 0;
      for (std::size_t k = 0; k < scales; ++k)
        unit_scales[16 * k + i] =
            there ? scale[A::group == 0 ? 0
                                        : (n * unit + k * unit / scales) / static_cast<std::size_t>(A::group)]
                  : 0;
    }
    out = unit_sums + 16 * (sums + 1 + scales);
  }
}

/// Parts [begin, end) of activation_layout::parts().
template <class A>
inline void prepare_int8(const activation_view<A>& a, std::size_t begin, std::size_t end) {
  const std::size_t from = a.shape.part_token(begin), to = a.shape.part_token(end);
  for (std::size_t t = from; t < to; ++t) prepare_token(a, t);
  if (!a.shape.tiled()) {
    for (std::size_t t = from; t < to; ++t) {
      if (a.shape.filled & 1) fill_tables<0>(a, t);
      if (a.shape.filled & 2) fill_tables<1>(a, t);
      if (a.shape.filled & 4) fill_tables<2>(a, t);
    }
    return;
  }
  for (std::size_t t = to; to == a.tokens() && t < a.shape.stored_tokens(); ++t) {
    std::memset(a.codes(t), 0, a.shape.stride());
    for (std::size_t i = 0; i < a.shape.groups(); ++i) a.scales(t)[i] = 0;
    for (int level = 0; level < activation_layout::sum_levels; ++level)
      std::memset(a.sums(level, t), 0, a.shape.sums(level) * sizeof(int));
  }
  const std::size_t stride = a.shape.stride();
  for (std::size_t first = from; first < to;) {
    const std::size_t mr = tile_tokens(a.tokens(), first);
    std::int8_t* const out = a.tile(first);
    for (std::size_t m = 0; m < mr; ++m) {
      const std::int8_t* const codes = a.codes(first + m);
      for (std::size_t k = 0; k < stride / 4; ++k) std::memcpy(out + (k * mr + m) * 4, codes + 4 * k, 4);
      for (std::size_t g = 0; g < a.shape.groups(); ++g)
        a.tile_scales(first)[g * mr + m] = a.scales(first + m)[g];
      for (int level = 0; level < activation_layout::sum_levels; ++level)
        for (std::size_t i = 0; i < a.shape.sums(level); ++i)
          a.tile_sums(level, first)[i * mr + m] = 128 * a.sums(level, first + m)[i];
    }
    first += mr;
  }
}

/// Codes of 24 bits. Adding 128 to every digit makes them the bytes of a number that is not negative.
inline void prepare_int24(const activation_view<int24>& a, std::size_t begin, std::size_t end) {
  constexpr std::size_t group = int24::inputs_per_scale;
  for (std::size_t t = a.shape.part_token(begin); t < a.shape.part_token(end); ++t)
    for (std::size_t i = 0; i < a.shape.stride(); i += group) {
      float edge[group] = {};
      const float* p = edge;
      if (i + group <= a.cols())
        p = a.source.row(t) + i;
      else if (i < a.cols())
        std::memcpy(edge, a.source.row(t) + i, (a.cols() - i) * sizeof(float));
      const int top = largest_magnitude(p, group);
      const float inverse = inverse_scale(top, int24::largest, -100);
      a.scales(t)[i / group] = float_of(top) / int24::largest;
      int sum = 0;
      for (std::size_t k = 0; k < group; k += 16) {
        const i32x16 code = inverse == 0 ? zero_int() : to_int(multiply(load(p + k), broadcast(inverse)));
        const int part = reduce_add(code);
        a.sums(0, t)[(i + k) / 16] = -static_cast<float>(part);
        sum += part;
        const i32x16 bytes = add(code, broadcast(0x808080));
        for (int digit = 0; digit < int24::digits; ++digit)
          store_bytes(a.codes(t, digit) + i + k,
                      add(both(shift_right(bytes, 8 * digit), 255), broadcast(-128)));
      }
      a.sums(1, t)[i / group] = -static_cast<float>(sum);
    }
}

template <class A>
inline void prepare_integers(const activation_view<A>& a, std::size_t begin, std::size_t end) {
  if constexpr (is_int8<A>)
    prepare_int8(a, begin, end);
  else
    prepare_int24(a, begin, end);
}
