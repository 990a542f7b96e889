// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/core/rng.hpp>
#include <quern/dense/softmax.hpp>
#include <vector>

namespace {

template <class T>
double exact_log_sum(const std::vector<T>& x) {
  long double top = x[0], sum = 0;
  for (const T v : x) top = std::max<long double>(top, v);
  for (const T v : x) sum += std::exp(static_cast<long double>(v) - top);
  return static_cast<double>(top + std::log(sum));
}

}  // namespace

TEST_CASE_TEMPLATE("log_sum_exp and softmax against long double", T, float, double) {
  quern::rng random(11);
  for (const std::size_t n : {1u, 2u, 7u, 8u, 15u, 16u, 17u, 33u, 256u, 1000u}) {
    CAPTURE(n);
    std::vector<T> x(n), p(n);
    for (T& v : x) v = static_cast<T>(random.normal()) * T{8};
    const double exact = exact_log_sum(x);
    // exp is good to 2 ulp of its result, of which n positive values are summed: relative error (2 + n) eps
    // of the sum, which is an absolute error of its logarithm; the addition of the maximum rounds once more.
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    const double bound = (3.0 + static_cast<double>(n)) * eps + std::abs(exact) * eps;
    CHECK(std::abs(static_cast<double>(quern::log_sum_exp(std::span<const T>(x))) - exact) <= bound);
    CHECK(quern::softmax(std::span<const T>(x), std::span(p)) == quern::log_sum_exp(std::span<const T>(x)));
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      // The subtraction x - log_sum is rounded at the size of its operands; exp turns that into a relative
      // error.
      const double size = std::abs(static_cast<double>(x[i])) + std::abs(exact);
      const double here = std::exp(static_cast<double>(x[i]) - exact);
      CHECK(std::abs(static_cast<double>(p[i]) - here) <= here * (bound + (size + 3) * eps));
      sum += static_cast<double>(p[i]);
    }
    CHECK(std::abs(sum - 1) <= 2 * bound + 60 * eps);
  }
}

TEST_CASE("softmax in place, and where exp would overflow") {
  std::vector<float> x{1000, 1001, 999};
  quern::softmax(std::span<const float>(x), std::span(x));
  CHECK(x[1] ==
        doctest::Approx(1 / (1 + std::exp(-1.0) + std::exp(-2.0))).epsilon(1e-4));  // 1001 has ulp 6e-5
  const std::vector<float> low{-3e38f, -3e38f};
  CHECK(quern::log_sum_exp(std::span<const float>(low)) == -3e38f);  // + log 2 is below its ulp
}

TEST_CASE("a NaN or an infinity does not get by, whatever its place") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (std::size_t n : {1u, 3u, 16u, 40u})
      for (std::size_t i = 0; i < n; ++i) {
        std::vector<float> x(n, 0.5f), p(n);
        x[i] = bad;
        CHECK(std::isnan(quern::log_sum_exp(std::span<const float>(x))));
        CHECK(std::isnan(quern::softmax(std::span<const float>(x), std::span(p))));
        for (const float v : p) CHECK(std::isnan(v));
      }
  CHECK_THROWS_AS(quern::log_sum_exp(std::span<const float>()), quern::shape_error);
  std::vector<float> x(3), p(2);
  CHECK_THROWS_AS(quern::softmax(std::span<const float>(x), std::span(p)), quern::shape_error);
}
