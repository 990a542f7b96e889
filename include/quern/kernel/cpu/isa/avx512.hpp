// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply<quern::isa_list<quern::isa::avx512>>(w, x, y);   // needs no -m flag

#include <quern/kernel/cpu/isa/scalar.hpp>

#if defined(__x86_64__)
#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <cstring>

// g++ 12 warns of its own intrinsics' deliberately undefined operands (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
QUERN_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,fma")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_avx512 {

/// 16 rows side by side.
using f32x16 = __m512;
using i32x16 = __m512i;
using lane_mask = __mmask16;

inline f32x16 zero() { return _mm512_setzero_ps(); }
inline f32x16 broadcast(float x) { return _mm512_set1_ps(x); }
inline i32x16 broadcast(int x) { return _mm512_set1_epi32(x); }
inline f32x16 load(const float* p) { return _mm512_loadu_ps(p); }
inline i32x16 load(const int* p) { return _mm512_loadu_si512(p); }
inline void store(float* p, f32x16 v) { _mm512_storeu_ps(p, v); }
inline f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) { return _mm512_fmadd_ps(a, b, c); }
inline f32x16 multiply(f32x16 a, f32x16 b) { return _mm512_mul_ps(a, b); }
inline f32x16 negate(f32x16 a) { return _mm512_sub_ps(_mm512_setzero_ps(), a); }
inline f32x16 to_float(i32x16 v) { return _mm512_cvtepi32_ps(v); }
inline f32x16 as_float(i32x16 v) { return _mm512_castsi512_ps(v); }
inline i32x16 shift_left(i32x16 v, int n) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n)); }
inline i32x16 bits_of(i32x16 v, int shift, int width) {
  const i32x16 s = _mm512_srl_epi32(v, _mm_cvtsi32_si128(shift));
  return width == 32 || shift + width == 32 ? s : _mm512_and_si512(s, _mm512_set1_epi32((1 << width) - 1));
}
inline i32x16 either(i32x16 a, i32x16 b) { return _mm512_or_si512(a, b); }
inline f32x16 half_to_float(i32x16 v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
/// table[index & 15] of every lane.
inline f32x16 lookup(f32x16 table, i32x16 index) { return _mm512_permutexvar_ps(index, table); }
inline lane_mask nonzero(i32x16 v) { return _mm512_test_epi32_mask(v, v); }
/// v in the lanes of m, 0 in the others.
inline f32x16 keep(f32x16 v, lane_mask m) { return _mm512_maskz_mov_ps(m, v); }
inline i32x16 clear_lowest_bit(i32x16 v) {
  return _mm512_and_si512(v, _mm512_sub_epi32(v, _mm512_set1_epi32(1)));
}
/// Number of the lowest set bit of every lane, through the exponent of its value; lanes of zero give
/// anything.
inline i32x16 lowest_bit(i32x16 v) {
  const i32x16 one = _mm512_and_si512(v, _mm512_sub_epi32(_mm512_setzero_si512(), v));
  return _mm512_sub_epi32(_mm512_srli_epi32(_mm512_castps_si512(_mm512_cvtepi32_ps(one)), 23),
                          _mm512_set1_epi32(127));
}
/// The next elements of Bytes bytes, one for every lane of @p m, the rest zero. Reads no byte past the last
/// of them when all lanes are asked for, and at most 64 bytes from @p p otherwise.
template <int Bytes>
inline i32x16 expand(const std::byte* p, lane_mask m) {
  i32x16 v;
  if constexpr (Bytes == 4)
    return m == 0xffff ? _mm512_loadu_si512(p) : _mm512_maskz_expandloadu_epi32(m, p);
  else if constexpr (Bytes == 2)
    v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  else
    v = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return m == 0xffff ? v : _mm512_maskz_expand_epi32(m, v);
}
/// Fields first, first + 1, .. of a sequence of Width-bit fields, one for every lane of @p m.
template <int Width>
inline i32x16 expand_fields(const std::byte* p, std::size_t first, lane_mask m) {
  if constexpr (Width >= 8) {
    return expand<Width / 8>(p + first * (Width / 8), m);
  } else {
    // At most 64 bits, starting anywhere within a byte.
    const std::size_t bit = first * Width;
    const int shift = static_cast<int>(bit % 8);
    std::uint64_t v;
    std::memcpy(&v, p + bit / 8, sizeof v);
    if (shift != 0) {
      v >>= shift;
      if constexpr (Width == 4) v |= std::to_integer<std::uint64_t>(p[bit / 8 + 8]) << (64 - shift);
    }
    const i32x16 both = _mm512_set1_epi64(static_cast<long long>(v));
    i32x16 out;
    if constexpr (Width == 4) {
      const i32x16 half =
          _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1), both);
      out = _mm512_srlv_epi32(half,
                              _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28));
    } else if constexpr (Width == 2) {
      const i32x16 low = _mm512_set1_epi32(static_cast<int>(static_cast<std::uint32_t>(v)));
      out = _mm512_srlv_epi32(low,
                              _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
    } else {
      const i32x16 low = _mm512_set1_epi32(static_cast<int>(static_cast<std::uint32_t>(v)));
      out = _mm512_srlv_epi32(low, _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    }
    out = _mm512_and_si512(out, _mm512_set1_epi32((1 << Width) - 1));
    return m == 0xffff ? out : _mm512_maskz_expand_epi32(m, out);
  }
}

#include <quern/kernel/cpu/gemv.inl>

}  // namespace cpu_avx512

/// 512-bit vectors, exact float activations: 16 rows in the lanes of one register.
template <>
struct kernel<isa::avx512> {
  template <class P, class Q>
  static constexpr bool supports = cpu_avx512::fits<P, Q>;

  template <class P, class Q>
  static void multiply_tile(const matrix_view<P, Q>& w, std::size_t tile, span2<const float> x,
                            span2<float> y) noexcept {
    cpu_avx512::multiply_tile(w, tile, x, y);
  }
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#else
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
template <>
struct kernel<isa::avx512> {
  template <class P, class Q>
  static constexpr bool supports = false;
};
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
#endif
