// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <quern/compress/obq.hpp>
#include <quern/core/thread_pool.hpp>
#include <string>

#include "../formats.hpp"
#include "problem.hpp"

using namespace quern;
using namespace quern_test;

namespace {

template <class Q>
dense_matrix decoded(const coded_matrix<Q>& codes) {
  dense_matrix out(codes.rows(), codes.cols());
  for (std::size_t r = 0; r < codes.rows(); ++r)
    for (std::size_t c = 0; c < codes.cols(); ++c) out.view()(r, c) = codes.value(r, c);
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("GPTQ <= RTN in layer error, with and without a mask", Q, affine<4, 16>, affine<3, 32>,
                   affine<2, 16, two_level>, affine<3, 16, two_level>, affine<4, 64, f16_offset>,
                   symmetric<4, 32>, symmetric<3, 16, bf16>, symmetric<4, 16, two_level>, codebook<nf4, 64>,
                   codebook<fp4, 32>) {
  const problem p(96, 200, 71);
  rng g(72);
  const bit_mask half = random_mask<bitmap>(96, 200, 0.5f, g);
  for (const bit_mask* mask : {static_cast<const bit_mask*>(nullptr), &half}) {
    dense_matrix target = p.w;
    if (mask != nullptr) apply(*mask, target);
    const auto rtn = round_to_nearest<Q>(p.weights(), p.inverse, mask);
    const auto gpt = gptq<Q>(p.weights(), p.inverse, mask);
    REQUIRE(rtn);
    REQUIRE(gpt);
    const dense_matrix a = decoded(*rtn), b = decoded(*gpt);
    // Against the pruned weights: what was pruned is not an error of rounding.
    const double plain = layer_error(target.view(), a.view(), p.h),
                 better = layer_error(target.view(), b.view(), p.h);
    MESSAGE(std::string(Q::label().c_str()), mask ? " masked" : "", ": RTN ", plain, ", GPTQ ", better);
    CHECK(better < plain);
    for (std::size_t r = 0; r < 96; ++r)
      for (std::size_t c = 0; c < 200; ++c) {
        if (mask != nullptr && !(*mask)(r, c)) {
          REQUIRE(a.view()(r, c) == 0);
          REQUIRE(b.view()(r, c) == 0);
        }
        if constexpr (Q::bits < 8) REQUIRE(gpt->code(r, c) < 1u << Q::bits);
      }
  }
}

TEST_CASE("weights that a format holds exactly come back unchanged") {
  const problem p(20, 64, 73, 256);
  const auto floats = gptq<real<float>>(p.weights(), p.inverse, nullptr).value();
  CHECK(decoded(floats).data == p.w.data);
  // Codes of an 8-bit run: multiples of 1 / 128 within the range [-1, 127 / 128].
  dense_matrix w(20, 64);
  rng g(74);
  for (float& v : w.data) v = (static_cast<float>(g.below(256)) - 128) / 128;
  for (std::size_t r = 0; r < 20; ++r)
    for (std::size_t c = 0; c < 64; c += 32) w.view()(r, c) = -1;
  const auto codes = gptq<symmetric<8, 32>>(std::as_const(w).view(), p.inverse, nullptr).value();
  CHECK(decoded(codes).data == w.data);
}

TEST_CASE("with independent inputs GPTQ is rounding to nearest") {
  const problem p(20, 100, 75, 16);
  const inverse_hessian flat = identity_hessian(100);
  const auto a = round_to_nearest<affine<3, 16, two_level>>(p.weights(), flat, nullptr).value();
  const auto b = gptq<affine<3, 16, two_level>>(p.weights(), flat, nullptr).value();
  CHECK(decoded(a).data == decoded(b).data);
}

TEST_CASE("the result does not depend on the number of threads") {
  const problem p(150, 300, 76, 128);
  thread_pool three(3);
  using q = affine<3, 16, two_level>;
  const auto same = [](const coded_matrix<q>& a, const coded_matrix<q>& b) {
    for (std::size_t r = 0; r < a.rows(); ++r) {
      REQUIRE(a.row_scale(r) == b.row_scale(r));
      for (std::size_t c = 0; c < a.cols(); ++c) {
        REQUIRE(a.code(r, c) == b.code(r, c));
        REQUIRE(a.params(r, c / 16).scale == b.params(r, c / 16).scale);
      }
    }
  };
  same(gptq<q>(p.weights(), p.inverse, nullptr).value(),
       gptq<q>(p.weights(), p.inverse, nullptr, {}, three).value());
  same(round_to_nearest<q>(p.weights(), p.inverse, nullptr).value(),
       round_to_nearest<q>(p.weights(), p.inverse, nullptr, {}, three).value());
}

TEST_CASE("bad weights are errors that say where") {
  problem p(5, 32, 77, 64);
  const auto message = [](const auto& r) { return std::string(r.error().what()); };
  p.w.view()(3, 20) = std::numeric_limits<float>::infinity();
  CHECK(message(gptq<affine<4, 16>>(p.weights(), p.inverse, nullptr))
            .find("row 3 column 20 is NaN or infinite") != std::string::npos);
  CHECK(message(round_to_nearest<affine<4, 16>>(p.weights(), p.inverse, nullptr)).find("row 3 column 20") !=
        std::string::npos);
  p.w.view()(3, 20) = 1e9f;  // a scale beyond fp16
  const std::string gpt = message(gptq<affine<4, 16>>(p.weights(), p.inverse, nullptr));
  CHECK(gpt.find("row 3 column 16") != std::string::npos);
  CHECK(gpt.find("too large") != std::string::npos);
  CHECK_FALSE(round_to_nearest<affine<4, 16>>(p.weights(), p.inverse, nullptr));
  CHECK_FALSE(gptq<affine<4, 16, two_level>>(p.weights(), p.inverse, nullptr));
  CHECK(gptq<affine<4, 16, bf16>>(p.weights(), p.inverse, nullptr));
  // Finite weights whose compensation overflows.
  for (float& v : p.w.data) v = 3e38f;
  CHECK_FALSE(gptq<real<f16>>(p.weights(), p.inverse, nullptr));
  const bit_mask wrong(5, 31);
  CHECK_FALSE(gptq<affine<4, 16>>(p.weights(), p.inverse, &wrong));
  CHECK_FALSE(round_to_nearest<affine<4, 16>>(p.weights(), p.inverse, &wrong));
}
