// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply<quern::isa_list<quern::isa::scalar>>(w, x, y);

#include <bit>
#include <cstring>
#include <quern/format/traverse.hpp>
#include <quern/kernel/cpu/kernel.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

namespace cpu_scalar {
/// The operations of prepare.inl on 16 lanes.
struct i32x16 {
  int lane[16];
};
struct f32x16 {
  float lane[16];
};
template <class Out, class F>
inline Out each(F&& f) {
  Out v;
  for (int i = 0; i < 16; ++i) v.lane[i] = f(i);
  return v;
}
using lane_mask = std::uint16_t;
inline i32x16 zero_int() { return {}; }
inline i32x16 broadcast(int x) {
  return each<i32x16>([&](int) { return x; });
}
inline i32x16 load(const int* p) {
  i32x16 v;
  std::memcpy(v.lane, p, sizeof v.lane);
  return v;
}
inline void store(int* p, i32x16 v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline i32x16 add(i32x16 a, i32x16 b) {
  return each<i32x16>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline i32x16 multiply(i32x16 a, i32x16 b) {
  return each<i32x16>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline i32x16 either(i32x16 a, i32x16 b) {
  return each<i32x16>([&](int i) { return a.lane[i] | b.lane[i]; });
}
inline i32x16 lookup(i32x16 table, i32x16 index) {
  return each<i32x16>([&](int i) { return table.lane[index.lane[i] & 15]; });
}
inline i32x16 keep(i32x16 v, lane_mask m) {
  return each<i32x16>([&](int i) { return (m >> i & 1) != 0 ? v.lane[i] : 0; });
}
inline f32x16 broadcast(float x) {
  return each<f32x16>([&](int) { return x; });
}
inline f32x16 load(const float* p) {
  return each<f32x16>([&](int i) { return p[i]; });
}
inline f32x16 multiply(f32x16 a, f32x16 b) {
  return each<f32x16>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline i32x16 as_int(f32x16 v) { return std::bit_cast<i32x16>(v); }
inline i32x16 both(i32x16 a, int bits) {
  return each<i32x16>([&](int i) { return a.lane[i] & bits; });
}
inline i32x16 shift_right(i32x16 v, int n) {
  return each<i32x16>([&](int i) { return static_cast<int>(static_cast<std::uint32_t>(v.lane[i]) >> n); });
}
inline i32x16 largest(i32x16 a, i32x16 b) {
  return each<i32x16>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
/// Magnitudes of at most 2^23; the rest and NaN give 0.
inline i32x16 to_int(f32x16 v) {
  return each<i32x16>([&](int i) {
    const float x = v.lane[i];
    return x >= -0x1p23f && x <= 0x1p23f ? static_cast<int>(__builtin_rintf(x)) : 0;
  });
}
inline int reduce_max(i32x16 v) {
  int top = v.lane[0];
  for (const int x : v.lane) top = x > top ? x : top;
  return top;
}
inline int reduce_add(i32x16 v) {
  int sum = 0;
  for (const int x : v.lane) sum += x;
  return sum;
}
inline void store_bytes(std::int8_t* p, i32x16 v) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<std::int8_t>(v.lane[i]);
}
#include <quern/kernel/cpu/prepare.inl>
/// Subnormal numbers become 0, as vcvtneps2bf16 does it.
inline bf16 input_to_bf16(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  return to_bf16((bits & 0x7f800000u) == 0 ? std::bit_cast<float>(bits & 0x80000000u) : x);
}
inline void prepare_bf16(const activation_view<bf16>& a, std::size_t begin, std::size_t end) {
  for (std::size_t t = a.shape.part_token(begin); t < a.shape.part_token(end); ++t) {
    for (std::size_t c = 0; c < a.shape.stride(); ++c) {
      constexpr std::size_t place[] = {0, 2, 1, 3};
      a.codes(t)[c / 4 * 4 + place[c % 4]] = input_to_bf16(c < a.cols() ? a.source(t, c) : 0.0f).bits;
    }
    for (int level = 0; level < activation_layout::sum_levels; ++level)
      for (std::size_t i = 0; i < a.shape.sums(level); ++i) {
        const std::size_t n = activation_layout::sum_width(level);
        float sum = 0;
        for (std::size_t c = i * n; c < (i + 1) * n; ++c) sum += a.value(t, c);
        a.sums(level, t)[i] = sum;
      }
  }
}
}  // namespace cpu_scalar

/// Portable C++: the oracle of all other instruction sets. Every cell is decoded once and multiplied with all
/// tokens. The products of a row are summed in float in the order in which its cells are stored, each cell on
/// its own first.
template <>
struct kernel<isa::scalar> {
  template <class P, class Q, class A>
  static constexpr bool supports = true;
  template <class A>
  static constexpr bool prepares = is_integer<A> || std::is_same_v<A, bf16>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    if constexpr (is_integer<A>)
      cpu_scalar::prepare_integers(a, begin, end);
    else
      cpu_scalar::prepare_bf16(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    for (std::size_t tile = begin; tile < end; ++tile) multiply_tile(w, tile, x, y);
  }

 private:
  template <class P, class Q, class A>
  static void multiply_tile(const matrix_view<P, Q>& w, std::size_t tile, const activation_view<A>& x,
                            span2<float> y) noexcept {
    using l = layout<P, Q>;
    float scales[lanes];
    for (std::size_t lane = 0; lane < lanes && tile * lanes + lane < w.rows(); ++lane) {
      scales[lane] = w.row_scale(tile * lanes + lane);
      for (std::size_t t = 0; t < x.tokens(); ++t) y(t, tile * lanes + lane) = 0;
    }
    for_each_cell(w, tile, [&](cell c, int lane, std::size_t unit) {
      const std::size_t r = tile * lanes + static_cast<std::size_t>(lane);
      if (r >= w.rows()) return;
      float values[l::cell_codes];
      std::size_t cols[l::cell_codes];
      decode_cell(w, tile, c, lane, unit, scales[lane], values);
      cell_columns(w, c, unit, cols);
      int n = 0;  // codes that belong to an input: cells at the right edge are completed with zeros
      for (int k = 0; k < l::cell_codes; ++k) {
        if (cols[k] >= w.cols()) continue;
        values[n] = values[k];
        cols[n++] = cols[k];
      }
      for (std::size_t t = 0; t < x.tokens(); ++t) {
        float sum = 0;
        for (int k = 0; k < n; ++k) {
          if constexpr (has_integer_kernel<P, Q, A>() || has_bf16_kernel<P, Q, A>())
            sum += values[k] * x.value(t, cols[k]);
          else
            sum += values[k] * x.source(t, cols[k]);
        }
        y(t, r) += sum;
      }
    });
  }
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
