// SPDX-License-Identifier: Apache-2.0
#include "int8_sweep.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE_TEMPLATE("AVX-VNNI multiply agrees with a double loop", F, QUERN_INT8_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  using isas = isa_list<isa::avx_vnni, isa::scalar>;
  if (!isa::avx_vnni::available()) {
    MESSAGE("SKIP: this CPU has no AVX-VNNI");
    return;
  }
  sweep_integers<isas, int8_groups<32>, P, Q>();
  sweep_integers<isas, int8_per_token, P, Q>();
}

#if defined(__x86_64__)
// CPUs with AVX-VNNI are rarer than those with AVX-512 VNNI, which has the same dot product of 256 bits in another
// encoding. With that one the loops of AVX-VNNI run there as well: everything but the instruction itself.
QUERN_TARGET_BEGIN("avx2,fma,f16c,popcnt,avx512f,avx512vl,avx512vnni")
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace cpu_vnni_256 {
#include <quern/kernel/cpu/isa/x86_256.inl>
inline i32x16 dot(i32x16 d, i32x16 u, i32x16 s) {
  return {_mm256_dpbusd_epi32(d.low, u.low, s.low), _mm256_dpbusd_epi32(d.high, u.high, s.high)};
}
inline constexpr bool dot_takes_bytes = true;
inline i32x16 dot_broadcast(i32x16 d, i32x16 u, const std::int8_t* s) {
  return dot(d, u, broadcast_bytes(s));
}
inline i32x16 dot_signed(i32x16 d, i32x16 w, i32x16 s) {
  const int half = static_cast<int>(0x80808080u);
  return add(dot(d, flip(w, half), s), negate(dot(zero_int(), broadcast(half), s)));
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
}  // namespace cpu_vnni_256
}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
QUERN_TARGET_END

namespace {
/// 256-bit vectors with the dot product of AVX-512 VNNI.
struct vnni_256 {
  static bool available() { return isa::avx2::available() && isa::avx512_vnni::available(); }
};
}  // namespace

template <>
struct quern::kernel<vnni_256> {
  template <class P, class Q, class A>
  static constexpr bool supports = has_integer_kernel<P, Q, A>();
  template <class A>
  static constexpr bool prepares = is_integer<A>;
  template <class A>
  static void prepare(const activation_view<A>& a, std::size_t begin, std::size_t end) noexcept {
    cpu_vnni_256::prepare_integers(a, begin, end);
  }
  template <class P, class Q, class A>
  static void multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                             const activation_view<A>& x, span2<float> y) noexcept {
    cpu_vnni_256::multiply_integers(w, begin, end, x, y);
  }
};

TEST_CASE_TEMPLATE("the loops of AVX-VNNI agree with a double loop", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if (!vnni_256::available()) {
    MESSAGE("SKIP: this CPU has no AVX-512 VNNI");
    return;
  }
  if constexpr (has_int8_kernel<P, Q, int8_groups<32>>())
    sweep_integers<isa_list<vnni_256>, int8_groups<32>, P, Q>();
}

TEST_CASE_TEMPLATE("so they do with activations of 24 bits", F, QUERN_INT24_FORMATS) {
  if (vnni_256::available())
    sweep_integers<isa_list<vnni_256>, int24, typename F::pattern, typename F::quantizer>();
}
#endif
