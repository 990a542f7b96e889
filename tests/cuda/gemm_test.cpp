// SPDX-License-Identifier: Apache-2.0
// The tensor core kernel for every kind of pattern, number of bits and type of scale and input, in the emulator.
#include "gemm.hpp"

#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/codebook.hpp>
#include <quern/quant/symmetric.hpp>

using namespace quern;
using namespace quern_test;

TEST_CASE("dense W4 and W8") {
  check_gemm<dense, affine<4, 32>, f16>();
  check_gemm<dense, affine<4, 16, two_level>, bf16>();
  check_gemm<dense, symmetric<8, 32>, bf16>();
  check_gemm<dense, affine<8, 128>, f16>();
  check_gemm<dense, affine<4, 32>, std::int8_t>();
}

TEST_CASE("planes of 2 to 7 bits") {
  check_gemm<dense, affine<2, 16>, f16>();
  check_gemm<dense, affine<3, 96>, bf16>();
  check_gemm<dense, symmetric<5, 64>, f16>();
  check_gemm<dense, affine<6, 48>, f16>();
  check_gemm<bsr<16, 16>, affine<7, 16>, bf16>();
}

TEST_CASE("blocks of 16 and 32 rows") {
  check_gemm<bsr<16, 32>, affine<4, 32>, f16>();
  check_gemm<bsr<16, 64>, symmetric<4, 16, two_level>, bf16>();
  check_gemm<bsr<16, 16>, affine<3, 16>, f16>();
  check_gemm<bsr<32, 16>, symmetric<5, 16, bf16>, f16>();
  check_gemm<bsr<32, 64>, symmetric<8, 64>, std::int8_t>();
}

TEST_CASE("groups of every row's own") {
  check_gemm<group<16>, affine<4, 16>, f16>();
  check_gemm<group<16>, affine<3, 16, two_level>, bf16>();
  check_gemm<group<32>, symmetric<8, 16, bf16>, f16>();
  check_gemm<group<64>, affine<2, 32>, f16>();
  check_gemm<group<32>, affine<4, 32>, std::int8_t>();
  check_gemm<bsr<4, 16>, affine<4, 16>, f16>();
}

TEST_CASE("N of every M groups") {
  check_gemm<group_nm<2, 4, 16>, affine<4, 16>, f16>();
  check_gemm<group_nm<2, 3, 16>, affine<5, 16, bf16>, bf16>();
  check_gemm<group_nm<1, 4, 32>, symmetric<4, 16, two_level>, f16>();
}

TEST_CASE("blocks of 32 and 64 tokens") {
  rng g(5);
  const gemm_problem<bsr<16, 32>, affine<4, 32>, f16> p(
      random_packed<bsr<16, 32>, affine<4, 32>>(70, 300, 0.5f, g), 75, g);
  check_product<32>(p, 1);
  check_product<64>(p, 2);
  const gemm_problem<dense, affine<4, 32>, f16> q(random_packed<dense, affine<4, 32>>(70, 300, 1, g), 75, g);
  check_product<64>(q, 3);
}

TEST_CASE("no inputs: zeros") {
  rng g(1);
  const gemm_problem<dense, affine<4, 32>, f16> p(random_packed<dense, affine<4, 32>>(20, 0, 1, g), 3, g);
  check_product<8>(p, 1);
}

TEST_CASE("arguments that cannot be launched are refused with a sentence") {
  using kernel = cuda::gemm<matrix_view<dense, affine<4, 32>>, f16, 8>;
  rng g(1);
  const gemm_problem<dense, affine<4, 32>, f16> p(random_packed<dense, affine<4, 32>>(20, 40, 1, g), 3, g);
  float y[60];
  const kernel::arguments good = p.arguments<kernel>(y, 20);
  CHECK(kernel::refusal(good) == nullptr);
  const auto refused = [](const kernel::arguments& a, const char* part) {
    const char* sentence = kernel::refusal(a);
    REQUIRE(sentence != nullptr);
    CHECK(std::string(sentence).find(part) != std::string::npos);
  };
  kernel::arguments a = good;
  a.x += 1;
  refused(a, "x must start at a 16-byte boundary");
  a = good;
  a.x_stride += 1;
  refused(a, "multiple of 16 bytes");
  a = good;
  a.x_stride = 32;
  refused(a, "at least W.cols");
  a = good;
  a.y_stride = 19;
  refused(a, "stride of y");
  a = good;
  a.w.at[static_cast<int>(stream::codes)] += 8;
  refused(a, "streams of W");
  using of_bytes = cuda::gemm<matrix_view<dense, affine<4, 32>>, std::int8_t, 8>;
  of_bytes::arguments b{good.w, nullptr, 48, 3, y, 20, nullptr, 2};
  REQUIRE(of_bytes::refusal(b) != nullptr);
  CHECK(std::string(of_bytes::refusal(b)).find("scales of x") != std::string::npos);
}

TEST_CASE("formats that the kernel does not take are known beforehand, with the reason") {
  const auto says = [](const char* sentence, const char* part) {
    REQUIRE(sentence != nullptr);
    CHECK(std::string(sentence).find(part) != std::string::npos);
  };
  says(cuda::gemm_format<matrix_view<dense, codebook<nf4, 32>>, f16>::why_not(), "affine and symmetric");
  says(cuda::gemm_format<matrix_view<dense, affine<4, 32, f16_offset>>, f16>::why_not(),
       "affine and symmetric");
  says(cuda::gemm_format<matrix_view<dense, affine<4, 8>>, f16>::why_not(), "multiple of 16");
  says(cuda::gemm_format<matrix_view<dense, real<f16>>, bf16>::why_not(), "inputs' type");
  says(cuda::gemm_format<matrix_view<dense, affine<4, 32>>, float>::why_not(), "f16, bf16 or int8_t");
  says(cuda::gemm_format<matrix_view<dense, affine<8, 32>>, std::int8_t>::why_not(), "symmetric<8, Run>");
  says(cuda::gemm_format<matrix_view<bsr<16, 16>, affine<4, 16>>, std::int8_t>::why_not(), "multiple of 32");
}
