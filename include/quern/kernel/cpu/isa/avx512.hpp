// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply<quern::isa_list<quern::isa::avx512>>(w, x, y);        // exact floats; needs no -m flag
// quern::multiply<quern::isa_list<quern::isa::avx512_vnni>>(w, a, y);   // int8 activations

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

QUERN_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,fma")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_avx512 {
// The order matters: operations first.
// clang-format off
#include <quern/kernel/cpu/isa/x86_512.inl>
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv.inl>
// clang-format on
}  // namespace cpu_avx512
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

QUERN_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512vnni,fma")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_avx512_vnni {
#include <quern/kernel/cpu/isa/x86_512.inl>
/// d + the sum of four products of an unsigned byte of u and a signed byte of s, in every lane.
inline i32x16 dot(i32x16 d, i32x16 u, i32x16 s) { return _mm512_dpbusd_epi32(d, u, s); }
inline constexpr bool dot_takes_bytes = true;
/// dot with the same four signed bytes in every lane. Written out, because g++ 12 loads the bytes into registers
/// first and then spills sums (24 sums: 33 to 43 % of the peak instead of 80 to 90).
inline i32x16 dot_broadcast(i32x16 d, i32x16 u, const std::int8_t* s) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(d)
          : "v"(u), "m"(*reinterpret_cast<const std::int8_t(*)[4]>(s)));
  return d;
}
/// The same with signed bytes on both sides.
inline i32x16 dot_signed(i32x16 d, i32x16 w, i32x16 s) {
  const i32x16 half = _mm512_set1_epi8(static_cast<char>(-128));
  return _mm512_sub_epi32(dot(d, _mm512_xor_si512(w, half), s), dot(zero_int(), half, s));
}
// clang-format off
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv_int8.inl>
#include <quern/kernel/cpu/panel.inl>
#include <quern/kernel/cpu/gemm.inl>
#include <quern/kernel/cpu/prepare.inl>
#include <quern/kernel/cpu/gemv_int24.inl>
// clang-format on
}  // namespace cpu_avx512_vnni
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

QUERN_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512bf16,fma")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_avx512_bf16 {
#include <quern/kernel/cpu/isa/x86_512.inl>
/// Entry (word >> shift) & 31 of the table for both words of every lane.
inline i32x16 lookup_pairs(const std::uint16_t (&table)[32], i32x16 v, int shift) {
  return _mm512_permutexvar_epi16(_mm512_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm512_loadu_si512(table));
}
/// s + both products of the pairs of w with one pair of inputs.
inline f32x16 dot_pairs(f32x16 s, i32x16 w, const std::uint16_t* pair) {
  int x;
  std::memcpy(&x, pair, sizeof x);
  return _mm512_dpbf16_ps(s, reinterpret_cast<__m512bh>(w), reinterpret_cast<__m512bh>(_mm512_set1_epi32(x)));
}
/// 16 inputs as bf16, every four in the order 0, 2, 1, 3; returns their sum after rounding.
inline float store_pairs(std::uint16_t* p, f32x16 v) {
  const __m256i b = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_permute_ps(v, 0xd8)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), b);
  return _mm512_reduce_add_ps(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16)));
}
// clang-format off
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv_bf16.inl>
// clang-format on
}  // namespace cpu_avx512_bf16
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif  // __x86_64__

namespace quern::inline v0 {
inline namespace QUERN_BUILD {
#if defined(__x86_64__)
/// 512-bit vectors, exact float activations: 16 rows in the lanes of one register. Formats without an int8
/// kernel take the floats that int8 activations were made from.
template <>
struct kernel<isa::avx512> {
  template <class P, class Q, class A>
  static constexpr bool supports = cpu_avx512::fits<P, Q> &&
                                   (std::is_same_v<A, float> || !has_int8_kernel<P, Q, A>());
  template <class A>
  static constexpr bool prepares = false;

  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    cpu_avx512::multiply_exact(w, begin, end, x.source, y);
  }
};
/// 512-bit vectors, int8 activations.
template <>
struct kernel<isa::avx512_vnni> {
  template <class P, class Q, class A>
  static constexpr bool supports = has_integer_kernel<P, Q, A>();
  template <class A>
  static constexpr bool prepares = is_integer<A>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_avx512_vnni::prepare_integers(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    cpu_avx512_vnni::multiply_integers(w, begin, end, x, y);
  }
};
/// 512-bit vectors, bf16 activations.
template <>
struct kernel<isa::avx512_bf16> {
  template <class P, class Q, class A>
  static constexpr bool supports = has_bf16_kernel<P, Q, A>();
  template <class A>
  static constexpr bool prepares = std::is_same_v<A, bf16>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_avx512_bf16::prepare_bf16(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    cpu_avx512_bf16::multiply_bf16(w, begin, end, x, y);
  }
};
#else
template <>
struct kernel<isa::avx512> : no_kernel {};
template <>
struct kernel<isa::avx512_bf16> : no_kernel {};
template <>
struct kernel<isa::avx512_vnni> : no_kernel {};
#endif
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
