// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply<quern::isa_list<quern::isa::avx2>>(w, x, y);       // exact floats; needs no -m flag
// quern::multiply<quern::isa_list<quern::isa::avx2>>(w, a, y);       // int8 activations
// quern::multiply<quern::isa_list<quern::isa::avx_vnni>>(w, a, y);   // the same, faster dot products

#include <quern/kernel/cpu/isa/scalar.hpp>

#if defined(__x86_64__)
#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <cstring>

QUERN_TARGET_BEGIN("avx2,fma,f16c,popcnt")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_avx2 {
#include <quern/kernel/cpu/isa/x86_256.inl>
inline __m256i sum_pairs(__m256i d, __m256i words) {
  return _mm256_add_epi32(d, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}
/// d + the sum of four products of an unsigned byte of u, below 128, and a signed byte of s, in every lane. Two
/// products are added in 16 bits: at most 2 * 127 * 127, which does not saturate.
inline i32x16 dot(i32x16 d, i32x16 u, i32x16 s) {
  return {sum_pairs(d.low, _mm256_maddubs_epi16(u.low, s.low)),
          sum_pairs(d.high, _mm256_maddubs_epi16(u.high, s.high))};
}
inline constexpr bool dot_takes_bytes = false;
/// The same with signed bytes on both sides, s above -128: |w| * (s with the sign of w), at most 2 * 128 * 127.
inline i32x16 dot_signed(i32x16 d, i32x16 w, i32x16 s) {
  return {sum_pairs(d.low, _mm256_maddubs_epi16(_mm256_abs_epi8(w.low), _mm256_sign_epi8(s.low, w.low))),
          sum_pairs(d.high, _mm256_maddubs_epi16(_mm256_abs_epi8(w.high), _mm256_sign_epi8(s.high, w.high)))};
}
/// dot_signed, as panels hold signed bytes here, with the same four bytes of s in every lane.
inline i32x16 dot_broadcast(i32x16 d, i32x16 w, const std::int8_t* s) {
  return dot_signed(d, w, broadcast_bytes(s));
}
// The order matters: what a loop calls comes first.
// clang-format off
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv.inl>
#include <quern/kernel/cpu/gemv_int8.inl>
#include <quern/kernel/cpu/panel.inl>
#include <quern/kernel/cpu/gemm.inl>
#include <quern/kernel/cpu/prepare.inl>
#include <quern/kernel/cpu/gemv_int24.inl>
// clang-format on
}  // namespace cpu_avx2
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

QUERN_TARGET_BEGIN("avx2,avxvnni,fma,f16c,popcnt")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_avx_vnni {
#include <quern/kernel/cpu/isa/x86_256.inl>
/// d + the sum of four products of an unsigned byte of u and a signed byte of s, in every lane.
inline i32x16 dot(i32x16 d, i32x16 u, i32x16 s) {
  return {_mm256_dpbusd_avx_epi32(d.low, u.low, s.low), _mm256_dpbusd_avx_epi32(d.high, u.high, s.high)};
}
inline constexpr bool dot_takes_bytes = true;
/// The same with signed bytes on both sides.
inline i32x16 dot_signed(i32x16 d, i32x16 w, i32x16 s) {
  const int half = static_cast<int>(0x80808080u);
  return add(dot(d, flip(w, half), s), negate(dot(zero_int(), broadcast(half), s)));
}
/// dot with the same four bytes of s in every lane.
inline i32x16 dot_broadcast(i32x16 d, i32x16 u, const std::int8_t* s) {
  return dot(d, u, broadcast_bytes(s));
}
// The order matters: what a loop calls comes first.
// clang-format off
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv_int8.inl>
#include <quern/kernel/cpu/panel.inl>
#include <quern/kernel/cpu/gemm.inl>
#include <quern/kernel/cpu/prepare.inl>
#include <quern/kernel/cpu/gemv_int24.inl>
// clang-format on
}  // namespace cpu_avx_vnni
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END
#endif  // __x86_64__

namespace quern::inline v0 {
inline namespace QUERN_BUILD {
#if defined(__x86_64__)
/// 256-bit vectors: 16 rows in the lanes of two registers. Formats without an int8 kernel take the floats that
/// int8 activations were made from.
template <>
struct kernel<isa::avx2> {
  template <class P, class Q, class A>
  static constexpr bool supports = has_integer_kernel<P, Q, A>() || cpu_avx2::fits<P, Q>;
  template <class A>
  static constexpr bool prepares = is_integer<A>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_avx2::prepare_integers(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    if constexpr (has_integer_kernel<P, Q, A>())
      cpu_avx2::multiply_integers(w, begin, end, x, y);
    else
      cpu_avx2::multiply_exact(w, begin, end, x.source, y);
  }
};
/// 256-bit vectors with dot products of bytes, int8 activations.
template <>
struct kernel<isa::avx_vnni> {
  template <class P, class Q, class A>
  static constexpr bool supports = has_integer_kernel<P, Q, A>();
  template <class A>
  static constexpr bool prepares = is_integer<A>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_avx_vnni::prepare_integers(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    cpu_avx_vnni::multiply_integers(w, begin, end, x, y);
  }
};
#else
template <>
struct kernel<isa::avx2> : no_kernel {};
template <>
struct kernel<isa::avx_vnni> : no_kernel {};
#endif
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
