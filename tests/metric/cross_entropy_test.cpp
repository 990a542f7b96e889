// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/core/rng.hpp>
#include <quern/metric/cross_entropy.hpp>
#include <vector>

TEST_CASE("cross_entropy of hand numbers") {
  const std::vector<double> even(8, 3.0);
  CHECK(quern::cross_entropy(std::span<const double>(even), 5) ==
        doctest::Approx(std::log(8.0)).epsilon(1e-15));
  const std::vector<double> two{0.0, std::log(3.0)};
  CHECK(quern::cross_entropy(std::span<const double>(two), 1) ==
        doctest::Approx(std::log(4.0 / 3)).epsilon(1e-14));
  const volatile std::size_t outside =
      2;  // unknown to the compiler, which would warn of what must be refused
  CHECK_THROWS_AS(quern::cross_entropy(std::span<const double>(two), outside), quern::shape_error);
}

TEST_CASE("cross_entropy_gradient against central differences") {
  constexpr std::size_t rows = 3, classes = 21;
  quern::rng random(5);
  std::vector<double> logits(rows * classes), gradient(logits.size());
  for (double& v : logits) v = 3 * static_cast<double>(random.normal());
  const std::vector<std::int32_t> targets{20, 0, 7};
  const quern::span2<double> view(logits.data(), rows, classes), out(gradient.data(), rows, classes);
  const auto loss = [&] {
    double sum = 0;
    for (std::size_t r = 0; r < rows; ++r)
      sum += quern::cross_entropy(std::span<const double>(view.row(r), classes),
                                  static_cast<std::size_t>(targets[r]));
    return sum;
  };
  const double scale = 0.25;
  // The sums are of the same numbers in the same order.
  CHECK(quern::cross_entropy_gradient<double>(view, targets, scale, out) == loss());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    // Step h: truncation h^2 / 6 |f'''| <= 1e-10 / 6 (third derivatives of log-sum-exp are below 1), rounding
    // eps |loss| / h <= 2.2e-16 * 40 / 1e-5 = 9e-10.
    const double h = 1e-5, at = logits[i];
    logits[i] = at + h;
    const double above = loss();
    logits[i] = at - h;
    const double below = loss();
    logits[i] = at;
    CHECK(std::abs(gradient[i] - scale * (above - below) / (2 * h)) <= 1e-9);
  }
  SUBCASE("in place") {
    quern::cross_entropy_gradient<double>(view, targets, scale, view);
    CHECK(logits == gradient);
  }
  SUBCASE("bad input") {
    CHECK_THROWS_AS(quern::cross_entropy_gradient<double>(view, std::vector<std::int32_t>{1, 2}, scale, out),
                    quern::shape_error);
    CHECK_THROWS_AS(
        quern::cross_entropy_gradient<double>(view, std::vector<std::int32_t>{1, 2, -1}, scale, out),
        quern::shape_error);
    CHECK_THROWS_AS(
        quern::cross_entropy_gradient<double>(view, std::vector<std::int32_t>{1, 2, 21}, scale, out),
        quern::shape_error);
    logits[30] = std::numeric_limits<double>::quiet_NaN();
    CHECK(std::isnan(quern::cross_entropy_gradient<double>(view, targets, scale, out)));
  }
}
