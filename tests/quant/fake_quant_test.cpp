// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <quern/quant/affine.hpp>
#include <quern/quant/codebook.hpp>
#include <quern/quant/fake_quant.hpp>
#include <quern/quant/real.hpp>
#include <quern/quant/round.hpp>
#include <quern/quant/symmetric.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "../support.hpp"

namespace {

using namespace quern;

/// One row of weights, some of them far outside the grid, with the parameters that the others ask for.
template <class Q>
struct row {
  static constexpr std::size_t cols = 3 * 32 + 5;  // the last run is not whole
  static constexpr std::size_t runs = (cols + Q::run - 1) / Q::run;
  float w[cols], g[cols];
  run_params params[runs];
  bit_mask keep{1, cols};

  explicit row(std::uint64_t seed) {
    rng random(seed);
    typename Q::code_type codes[cols];
    coded_row<Q> fitted{codes, params};
    for (float& x : w) x = random.normal();
    REQUIRE(round_row<Q>(w, cols, fitted) == cols);
    for (std::size_t i = 0; i < cols; ++i) {
      if (i % 5 == 2) w[i] *= 5;  // clamped, if it is one of the larger ones
      g[i] = random.normal();
      keep.set(0, i, random.uniform() < 0.7f);
    }
  }
};

/// The forward pass with the rounding error d = round(w / s) - w / s of the first call held fixed: what the
/// straight-through gradient is the gradient of. In double.
template <class Q>
struct surrogate {
  double rounding = 0, bound = 0;
  bool inside = true;
  surrogate(double w, double s, double z) {
    if constexpr (requires { Q::top; }) {
      const double code = std::floor(w / s + z + 0.5);
      rounding = code - z - w / s;
      inside = code >= 0 && code <= Q::top;
      bound = code < 0 ? 0 : Q::top;
    } else {  // a codebook: `code` is the entry of the table
      const double target = w / s;
      double best = 0;
      for (const float v : Q::table::values)
        if (std::abs(double(v) - target) < std::abs(best - target)) best = double(v);
      inside = std::abs(target) <= double(Q::table::largest);
      rounding = best - target;
      bound = best;
    }
  }
  double operator()(double w, double s, double z) const {
    return inside ? s * (w / s + rounding) : s * (bound - z);
  }
};

template <class Q>
void compare_with_differences(std::uint64_t seed) {
  CAPTURE(std::string(Q::label().c_str()));
  row<Q> at(seed);
  std::vector<float> gradient(at.g, at.g + at.cols);
  std::vector<run_gradient> sums(at.runs);
  fake_quantize_row_backward<Q>(at.w, at.cols, at.keep.row(0), at.params, gradient.data(), sums.data());
  std::vector<double> ds(at.runs), dz(at.runs), size(at.runs);
  int clamped = 0;
  for (std::size_t i = 0; i < at.cols; ++i) {
    const std::size_t run = i / Q::run;
    const double s = double(at.params[run].scale), z = -double(at.params[run].offset) / s,
                 w = double(at.w[i]);
    if (!at.keep(0, i)) {
      CHECK(gradient[i] == 0);
      continue;
    }
    const surrogate<Q> f(w, s, z);
    clamped += f.inside ? 0 : 1;
    // Central differences of a function that is linear in every argument: only rounding, eps * |f| / h.
    const double h = 1e-4;
    const double dw = (f(w + h, s, z) - f(w - h, s, z)) / (2 * h);
    CHECK(std::abs(double(at.g[i]) * dw - double(gradient[i])) <= 1e-10);
    const double hs = 1e-4 * std::abs(s);
    ds[run] += double(at.g[i]) * (f(w, s + hs, z) - f(w, s - hs, z)) / (2 * hs);
    dz[run] += double(at.g[i]) * (f(w, s, z + h) - f(w, s, z - h)) / (2 * h);
    size[run] += std::abs(double(at.g[i])) * (std::abs(w / s) + 1 + std::abs(f(w, s, z) / s));
  }
  CHECK(clamped > 2);
  for (std::size_t r = 0; r < at.runs; ++r) {
    // At most 32 products of numbers of this size are rounded and added in float, three operations each.
    const double bound = (32 + 3) * 6e-8 * size[r] * (1 + std::abs(double(at.params[r].scale)));
    CHECK(std::abs(ds[r] - double(sums[r].scale)) <= bound);
    CHECK(std::abs(dz[r] - double(sums[r].zero)) <= bound);
  }
}

}  // namespace

TEST_CASE("gradients of weights, scales and zeros against differences of the un-rounded surrogate") {
  const auto bits = [&]<int Bits>() {
    compare_with_differences<affine<Bits, 16>>(Bits);
    compare_with_differences<affine<Bits, 32, bf16>>(10 + Bits);
    compare_with_differences<affine<Bits, 8, two_level>>(20 + Bits);
    compare_with_differences<symmetric<Bits, 32>>(30 + Bits);
    compare_with_differences<symmetric<Bits, 16, bf16>>(40 + Bits);
    compare_with_differences<symmetric<Bits, 16, two_level>>(50 + Bits);
  };
  [&]<int... B>(std::integer_sequence<int, B...>) { (bits.template operator()<B + 2>(), ...); }
  (std::make_integer_sequence<int, 7>{});
  compare_with_differences<affine<4, 32, f16_offset>>(60);
  compare_with_differences<codebook<nf4, 32>>(61);
}

TEST_CASE("the straight-through rule on numbers worked by hand") {
  // 2 bits, s = 1/2, z = 1: the grid is -1/2, 0, 1/2, 1.
  using q = affine<2, 8>;
  const run_params p[1] = {{0.5f, -0.5f}};
  // round(1.2) + 1 = 2; round(-1.8) + 1 = -1, clamped to 0; round(4) + 1 = 5, clamped to 3; 0; and one pruned.
  const float w[5] = {0.6f, -0.9f, 2, 0, 0.9f};
  const std::uint64_t keep = 0b01111;
  float out[5];
  fake_quantize_row<q>(w, 5, &keep, p, out);
  CHECK(std::vector<float>(out, out + 5) == std::vector<float>{0.5f, -0.5f, 1, 0, 0});
  float g[5] = {2, 3, 5, 7, 11};
  run_gradient sums[1] = {{100, 1000}};
  fake_quantize_row_backward<q>(w, 5, &keep, p, g, sums);
  CHECK(std::vector<float>(g, g + 5) == std::vector<float>{2, 0, 0, 7, 0});
  // ds = 2 (1 - 1.2) + 3 (0 - 1) + 5 (3 - 1) + 7 (0 - 0) = 6.6, dz = -s (3 + 5) = -4; both are added.
  CHECK(sums[0].scale == doctest::Approx(106.6).epsilon(1e-6));  // 0.6 and 106.6 rounded to float
  CHECK(sums[0].zero == 996);

  const q::code_type codes[5] = {2, 0, 3, 1, 2};
  decode_row<q>(codes, 5, &keep, p, out);
  CHECK(std::vector<float>(out, out + 5) == std::vector<float>{0.5f, -0.5f, 1, 0, 0});
  float frozen[5] = {2, 3, 5, 7, 11};
  run_gradient exact[1] = {};
  decode_row_backward<q>(out, 5, &keep, p, frozen, exact);
  CHECK(exact[0].scale == 2 * 1 + 3 * -1 + 5 * 2 + 7 * 0);  // g (code - z)
  CHECK(exact[0].zero == -0.5f * (2 + 3 + 5 + 7));          // -s g
  CHECK(frozen[4] == 0);
}

TEST_CASE("0 decodes to 0, pruned weights to 0, a run of scale 0 to 0 without a gradient") {
  const auto one = [&]<class Q>() {
    CAPTURE(std::string(Q::label().c_str()));
    row<Q> at(7);
    float out[row<Q>::cols];
    for (std::size_t i = 0; i < at.cols; i += 3) at.w[i] = 0;
    fake_quantize_row<Q>(at.w, at.cols, at.keep.row(0), at.params, out);
    for (std::size_t i = 0; i < at.cols; ++i) {
      const run_params p = at.params[i / Q::run];
      const float kept = Q::decode(Q::encode(at.w[i], p), p);
      CHECK(out[i] == (i % 3 == 0 || !at.keep(0, i) ? 0.0f : kept));
    }
    for (run_params& p : at.params) p = {0, 0};
    std::vector<run_gradient> sums(at.runs);
    fake_quantize_row<Q>(at.w, at.cols, nullptr, at.params, out);
    fake_quantize_row_backward<Q>(at.w, at.cols, nullptr, at.params, at.g, sums.data());
    for (const float x : out) CHECK(x == 0);
    for (const float x : at.g) CHECK(x == 0);
    for (const run_gradient& s : sums) CHECK((s.scale == 0 && s.zero == 0));
  };
  one.operator()<affine<4, 16>>();
  one.operator()<affine<3, 16, two_level>>();
  one.operator()<symmetric<8, 32>>();
  one.operator()<codebook<fp4, 32>>();
}

TEST_CASE("without quantization only the mask is left") {
  const float w[3] = {1, 2, 3};
  float out[3], g[3] = {4, 5, 6};
  const std::uint64_t keep = 0b101;
  fake_quantize_row<real<float>>(w, 3, &keep, nullptr, out);
  fake_quantize_row_backward<real<float>>(w, 3, &keep, nullptr, g, nullptr);
  CHECK(std::vector<float>(out, out + 3) == std::vector<float>{1, 0, 3});
  CHECK(std::vector<float>(g, g + 3) == std::vector<float>{4, 0, 6});
}
