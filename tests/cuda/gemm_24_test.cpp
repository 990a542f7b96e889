// SPDX-License-Identifier: Apache-2.0
// 2:4 sparse weights on sparse tensor cores, elements and codes, in the emulator.
#include "gemm.hpp"

#include <quern/pattern/dense.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/symmetric.hpp>

using namespace quern;
using namespace quern_test;

TEST_CASE("2:4 of f16 and bf16 weights") {
  check_gemm<nm<2, 4>, real<f16>, f16>();
  check_gemm<nm<2, 4>, real<bf16>, bf16>();
}

TEST_CASE("2:4 of codes, decoded in registers") {
  check_gemm<nm<2, 4>, affine<4, 32>, f16>();
  check_gemm<nm<2, 4>, symmetric<4, 64, two_level>, bf16>();
  check_gemm<nm<2, 4>, affine<3, 128>, f16>();
  check_gemm<nm<2, 4>, symmetric<8, 64>, f16>();
  rng g(5);
  const gemm_problem<nm<2, 4>, affine<4, 32>, f16> p(random_packed<nm<2, 4>, affine<4, 32>>(70, 300, 0.5f, g),
                                                     75, g);
  check_product<64>(p, 1);
}

TEST_CASE("2:4 of bytes") {
  check_gemm<nm<2, 4>, symmetric<8, 64>, std::int8_t>();
  check_gemm<nm<2, 4>, affine<4, 64>, std::int8_t>();
}

TEST_CASE("unpruned elements") { check_gemm<dense, real<f16>, f16>(); }

TEST_CASE("other N:M and short runs are refused with the reason") {
  const auto says = [](const char* sentence, const char* part) {
    REQUIRE(sentence != nullptr);
    CHECK(std::string(sentence).find(part) != std::string::npos);
  };
  says(cuda::gemm_format<matrix_view<nm<1, 4>, affine<4, 32>>, f16>::why_not(), "2:4 only");
  says(cuda::gemm_format<matrix_view<nm<2, 4>, affine<4, 16>>, f16>::why_not(), "runs of 32");
  says(cuda::gemm_format<matrix_view<nm<2, 4>, affine<4, 32>>, std::int8_t>::why_not(), "2:4: 64");
}
