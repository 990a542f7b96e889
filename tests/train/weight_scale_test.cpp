// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/train/weight_scale.hpp>
#include <vector>

using namespace quern;

TEST_CASE("parts of a row have their own factor, the last part may be short") {
  const std::vector<double> w{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, a{2, 3, 4, 5};
  std::vector<double> out(10);
  scale_weights<double>({a.data(), 2, 2}, {w.data(), 2, 5}, {out.data(), 2, 5});
  CHECK(out == std::vector<double>{2, 4, 6, 12, 15, 24, 28, 32, 45, 50});
}

TEST_CASE("gradients by hand: a product's two factors") {
  const std::vector<double> w{1, 2, 3}, a{2, 3};
  std::vector<double> d{10, 20, 30}, da{1, 1};  // adds to da
  scale_backward<double>({a.data(), 1, 2}, {w.data(), 1, 3}, {d.data(), 1, 3}, {da.data(), 1, 2});
  CHECK(da == std::vector<double>{1 + 10 + 40, 1 + 90});
  CHECK(d == std::vector<double>{20, 40, 90});
  CHECK_THROWS_AS(scale_weights<double>({a.data(), 2, 1}, {w.data(), 1, 3}, {d.data(), 1, 3}), shape_error);
  CHECK_THROWS_AS(scale_weights<double>({a.data(), 1, 2}, {w.data(), 1, 3}, {d.data(), 3, 1}), shape_error);
  CHECK_THROWS_AS(
      scale_backward<double>({a.data(), 1, 2}, {w.data(), 1, 3}, {d.data(), 1, 3}, {da.data(), 1, 1}),
      shape_error);
}
