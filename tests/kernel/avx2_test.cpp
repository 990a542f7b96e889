// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "sweep.hpp"

using namespace quern;
using namespace quern_test;

namespace {

using isas = isa_list<isa::avx2, isa::scalar>;

bool missing() {
  if (isa::avx2::available()) return false;
  MESSAGE("SKIP: this CPU has no AVX2");
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("AVX2 multiply agrees with a double loop", F, QUERN_TEST_FORMATS) {
  if (missing()) return;
  sweep<isas, typename F::pattern, typename F::quantizer>();
}

TEST_CASE("so it does with units wider than a table") {
  if (!missing()) sweep<isa_list<isa::avx2>, group<304>, affine<3, 8>>();
}

TEST_CASE("formats without an int8 kernel take the floats") {
  if (missing()) return;
  using P = dense;
  using Q = codebook<nf4, 64>;
  static_assert(!has_int8_kernel<P, Q, int8_groups<32>>());
  rng g(11);
  const dense_matrix w = random_matrix(20, 96, g), x = random_matrix(6, 96, g);
  const matrix<P, Q> m = pack<P, Q>(w.view());
  dense_matrix exact(6, 20), y(6, 20);
  const activations<int8_groups<32>, isas> a(x.view());
  multiply<isa_list<isa::avx2>>(m, x.view(), exact.view());
  multiply<isa_list<isa::avx2>>(m, a.view(), y.view());
  CHECK(y.data == exact.data);
}

TEST_CASE("so does scalar") {
  rng g(11);
  const dense_matrix w = random_matrix(20, 96, g), x = random_matrix(6, 96, g);
  const auto same = [&]<class A, class P, class Q>() {
    static_assert(!has_int8_kernel<P, Q, A>() && !has_bf16_kernel<P, Q, A>());
    const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(20, 96, 0.5f, g));
    dense_matrix exact(6, 20), y(6, 20);
    const activations<A> a(x.view());
    multiply<isa_list<isa::scalar>>(m, x.view(), exact.view());
    multiply<isa_list<isa::scalar>>(m, a.view(), y.view());
    CHECK(y.data == exact.data);
  };
  // Runs of 24 inputs have no vector kernel either.
  static_assert(!kernel<isa::avx2>::supports<nm<2, 4>, affine<4, 24>, int8_groups<32>>);
  same.operator()<int8_groups<32>, nm<2, 4>, affine<4, 24>>();
  same.operator()<int8_groups<32>, dense, codebook<nf4, 64>>();
  same.operator()<bf16, group<16>, affine<4, 16>>();
}

namespace {

/// The memory of activations that Isa prepared, gaps between the arrays included.
template <class A, class Isa>
std::vector<std::byte> prepared(const dense_matrix& x) {
  buffer memory(workspace_bytes<A>(x.rows, x.cols));
  std::memset(memory.data(), 0xa5, memory.size());
  prepare<A, isa_list<Isa>>(x.view(), memory.data());
  return {memory.data(), memory.data() + memory.size()};
}

/// Inputs of every size: zeros, subnormal and huge numbers, ties of the rounding (.5 of a step of 1/127), in turn
/// within even tokens, one kind to an odd one; some tokens have an infinity or a NaN.
dense_matrix varied(std::size_t tokens, std::size_t cols, rng& g) {
  dense_matrix x = random_matrix(tokens, cols, g);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t c = 0; c < cols; ++c) {
      float& v = x.view()(t, c);
      const std::size_t kind = t % 2 == 0 ? c / 37 % 5 : t % 5;
      if (kind == 1) v = c % 2 == 0 ? 0.0f : -0.0f;
      if (kind == 2) v *= 1e-38f;
      if (kind == 3) v *= 1e37f;
      if (kind == 4) v = c % 37 == 0 ? 127.0f : static_cast<float>(c % 19) - 9.5f;
      if (t % 3 == 2 && c == cols / 2) v = t % 2 == 0 ? std::nanf("") : -HUGE_VALF;
    }
  return x;
}

}  // namespace

TEST_CASE_TEMPLATE("prepared activations do not depend on the instruction set", A, int8_groups<32>,
                   int8_groups<64>, int8_groups<128>, int8_per_token, int24) {
  rng g(11);
  for (const std::size_t tokens : {0u, 1u, 3u, 4u, 5u, 8u, 9u, 13u, 17u, 25u})
    for (const std::size_t cols : {0u, 1u, 15u, 16u, 31u, 33u, 127u, 128u, 129u, 576u, 1050u}) {
      CAPTURE(tokens);
      CAPTURE(cols);
      const dense_matrix x = varied(tokens, cols, g);
      const std::vector<std::byte> expected = prepared<A, isa::scalar>(x);
      if (isa::avx2::available()) CHECK(prepared<A, isa::avx2>(x) == expected);
      if (isa::avx_vnni::available()) CHECK(prepared<A, isa::avx_vnni>(x) == expected);
      if (isa::avx512_vnni::available()) CHECK(prepared<A, isa::avx512_vnni>(x) == expected);
    }
}

TEST_CASE_TEMPLATE("a NaN or infinity among the inputs reaches the outputs", A, int8_groups<32>,
                   int8_per_token, int24) {
  if (missing()) return;
  rng g(11);
  const dense_matrix w = random_matrix(20, 200, g);
  const auto m = pack<dense, symmetric<is_int8<A> ? 8 : 4, 32>>(w.view());
  for (const float bad : {std::nanf(""), HUGE_VALF, -HUGE_VALF})
    for (const std::size_t at : {0u, 127u, 128u, 199u})
      for (const std::size_t tokens : {1u, 5u}) {
        dense_matrix x = random_matrix(tokens, 200, g), y(tokens, 20);
        for (std::size_t t = 0; t < tokens; ++t) x.view()(t, at) = bad;
        const activations<A, isas> a(std::as_const(x).view());
        multiply<isas>(m, a.view(), y.view());
        for (const float v : y.data) CHECK(!std::isfinite(v));
      }
}
