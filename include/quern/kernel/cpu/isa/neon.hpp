// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply<quern::isa_list<quern::isa::neon_dot>>(w, x, y);   // exact floats or int8; needs no -m flag
// quern::multiply<quern::isa_list<quern::isa::i8mm>>(w, a, y);       // int8 activations

#include <quern/kernel/cpu/isa/scalar.hpp>

#if defined(__aarch64__)
#include <arm_neon.h>

#include <bit>
#include <cstdint>
#include <cstring>

// clang takes names of extensions. g++ takes them with a + where the flags of the file have the architecture
// already, and replaces it otherwise; the longer form works there too, but would keep it from inlining.
#if defined(__clang__)
#define QUERN_NEON_DOT "dotprod"
#define QUERN_I8MM "dotprod,i8mm"
#elif defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_QRDMX)
#define QUERN_NEON_DOT "+dotprod"
#define QUERN_I8MM "+dotprod+i8mm"
#else
#define QUERN_NEON_DOT "arch=armv8.2-a+dotprod"
#define QUERN_I8MM "arch=armv8.2-a+dotprod+i8mm"
#endif

QUERN_TARGET_BEGIN(QUERN_NEON_DOT)
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_neon {
#include <quern/kernel/cpu/isa/arm.inl>
/// d + the sum of four products of a byte of u, below 128, and a signed byte of s, in every lane.
[[gnu::always_inline]] inline i32x16 dot(i32x16 d, i32x16 u, i32x16 s) { return dot_signed(d, u, s); }
inline constexpr bool dot_takes_bytes = false;
/// The same as the batch loop wants it: signed bytes of w times four that are the same in every lane.
[[gnu::always_inline]] inline i32x16 dot_broadcast(i32x16 d, i32x16 w, const std::int8_t* s) {
  return dot_signed(d, w, broadcast_bytes(s));
}
// The order matters: operations first.
// clang-format off
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv.inl>
#include <quern/kernel/cpu/gemv_int8.inl>
#include <quern/kernel/cpu/panel.inl>
#include <quern/kernel/cpu/gemm.inl>
#include <quern/kernel/cpu/prepare.inl>
#include <quern/kernel/cpu/gemv_int24.inl>
// clang-format on
}  // namespace cpu_neon
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

QUERN_TARGET_BEGIN(QUERN_I8MM)
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_i8mm {
#include <quern/kernel/cpu/isa/arm.inl>
/// d + the sum of four products of an unsigned byte of u and a signed byte of s, in every lane. The matrix
/// instructions of this extension multiply 2 x 8 with 8 x 2 bytes; the shared batch loop keeps one token in a
/// register and has no place for them.
[[gnu::always_inline]] inline int32x4_t dot(int32x4_t d, int32x4_t u, int32x4_t s) {
  const uint8x16_t a = vreinterpretq_u8_s32(u);
  const int8x16_t b = vreinterpretq_s8_s32(s);
#if defined(__clang__) && __clang_major__ < 16
  return (int32x4_t)__builtin_neon_vusdotq_v((int8x16_t)d, (int8x16_t)a, b, 34);
#else
  return vusdotq_s32(d, a, b);
#endif
}
[[gnu::always_inline]] inline i32x16 dot(i32x16 d, i32x16 u, i32x16 s) {
  return {{dot(d.q[0], u.q[0], s.q[0]), dot(d.q[1], u.q[1], s.q[1]), dot(d.q[2], u.q[2], s.q[2]),
           dot(d.q[3], u.q[3], s.q[3])}};
}
inline constexpr bool dot_takes_bytes = true;
/// The same with the four bytes at s in every lane.
[[gnu::always_inline]] inline i32x16 dot_broadcast(i32x16 d, i32x16 u, const std::int8_t* s) {
  return dot(d, u, broadcast_bytes(s));
}
// The order matters: operations first.
// clang-format off
#include <quern/kernel/cpu/fields.inl>
#include <quern/kernel/cpu/gemv_int8.inl>
#include <quern/kernel/cpu/panel.inl>
#include <quern/kernel/cpu/gemm.inl>
#include <quern/kernel/cpu/prepare.inl>
#include <quern/kernel/cpu/gemv_int24.inl>
// clang-format on
}  // namespace cpu_i8mm
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

#undef QUERN_NEON_DOT
#undef QUERN_I8MM
#endif  // __aarch64__

namespace quern::inline v0 {
inline namespace QUERN_BUILD {
#if defined(__aarch64__)
/// 128-bit vectors, four for 16 rows. int8 activations where the format has an int8 kernel, else the floats that
/// they were made from.
template <>
struct kernel<isa::neon_dot> {
  template <class P, class Q, class A>
  static constexpr bool supports = cpu_neon::fits<P, Q> || has_integer_kernel<P, Q, A>();
  template <class A>
  static constexpr bool prepares = is_integer<A>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_neon::prepare_integers(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    if constexpr (has_integer_kernel<P, Q, A>())
      cpu_neon::multiply_integers(w, begin, end, x, y);
    else
      cpu_neon::multiply_exact(w, begin, end, x.source, y);
  }
};
/// The same with products of unsigned and signed bytes.
template <>
struct kernel<isa::i8mm> {
  template <class P, class Q, class A>
  static constexpr bool supports = has_integer_kernel<P, Q, A>();
  template <class A>
  static constexpr bool prepares = is_integer<A>;

  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_i8mm::prepare_integers(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    cpu_i8mm::multiply_integers(w, begin, end, x, y);
  }
};
#else
template <>
struct kernel<isa::neon_dot> : no_kernel {};
template <>
struct kernel<isa::i8mm> : no_kernel {};
#endif
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
