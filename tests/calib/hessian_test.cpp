// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/calib/hessian.hpp>
#include <quern/core/thread_pool.hpp>
#include <string>

#include "../support.hpp"

using namespace quern;
using namespace quern_test;

namespace {

double entry(const eigen_matrix<float>& m, std::size_t i, std::size_t j) {
  return static_cast<double>(m(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)));
}

}  // namespace

TEST_CASE("a Hessian by hand") {
  const float x[] = {1, 2, 3, -1};  // two positions, two inputs
  const float a[] = {1, 4};
  hessian h(2);
  h.add(span2<const float>(x, 2, 2), a).value();
  const auto m = h.matrix();
  // 2 / 2 * (1 * [1 2]^T [1 2] + 4 * [3 -1]^T [3 -1]), exact in float.
  CHECK(m(0, 0) == 37.0f);
  CHECK(m(0, 1) == -10.0f);
  CHECK(m(1, 0) == -10.0f);
  CHECK(m(1, 1) == 8.0f);
  CHECK(h.count() == 2);
}

TEST_CASE("the Hessian is the double loop, at every tile edge, on any number of threads") {
  rng g(11);
  for (const std::size_t cols : {1u, 7u, 191u, 192u, 193u, 400u}) {
    CAPTURE(cols);
    const std::size_t n = 37;
    const dense_matrix x = random_matrix(n, cols, g);
    std::vector<float> weights(n);
    for (float& a : weights) a = g.uniform();
    hessian one(cols), many(cols), parts(cols), rest(cols);
    thread_pool pool(3);
    one.add(x.view(), weights).value();
    many.add(x.view(), weights, pool).value();
    const auto m = one.matrix();
    CHECK(m == many.matrix());
    parts.add(x.view().rows_of(0, 20), std::span(weights).first(20)).value();
    rest.add(x.view().rows_of(20, n - 20), std::span(weights).last(n - 20)).value();
    parts.merge(rest);
    CHECK(parts.count() == n);
    const auto merged = parts.matrix();
    for (std::size_t i = 0; i < cols; ++i)
      for (std::size_t j = 0; j < cols; ++j) {
        double sum = 0, size = 0;
        for (std::size_t t = 0; t < n; ++t) {
          const double p = static_cast<double>(weights[t]) * static_cast<double>(x.view()(t, i)) *
                           static_cast<double>(x.view()(t, j));
          sum += p;
          size += std::abs(p);
        }
        // n sums, two products, a root and the factor 2 / T: at most n + 5 roundings of 2^-24 of the terms.
        const double bound = (static_cast<double>(n) + 5) * 0x1p-24 * size * 2 / static_cast<double>(n);
        REQUIRE(std::abs(entry(m, i, j) - 2 * sum / static_cast<double>(n)) <= bound);
        REQUIRE(std::abs(entry(merged, i, j) - 2 * sum / static_cast<double>(n)) <= bound);
      }
  }
}

TEST_CASE("another order of the inputs is another order of rows and columns") {
  rng g(13);
  const dense_matrix x = random_matrix(20, 6, g);
  hessian h(6);
  h.add(x.view()).value();
  const std::size_t order[] = {3, 0, 5, 1, 2, 4};
  const hessian moved = h.in_order(order);
  const auto m = h.matrix(), o = moved.matrix();
  for (std::size_t i = 0; i < 6; ++i)
    for (std::size_t j = 0; j < 6; ++j) CHECK(entry(o, i, j) == entry(m, order[i], order[j]));
  CHECK(moved.count() == 20);
  const std::size_t outside[] = {3, 0, 6, 1, 2, 4};
  CHECK_THROWS_AS(h.in_order(outside), shape_error);
  CHECK_THROWS_AS(h.in_order(std::span(order).first(5)), shape_error);
}

TEST_CASE("the factor inverts the damped Hessian") {
  rng g(12);
  thread_pool three(3);
  for (const std::size_t cols : {1u, 2u, 65u, 192u, 405u}) {  // up to three panels of columns of the factor
    const dense_matrix x = random_matrix(3 * cols, cols, g);
    hessian h(cols);
    h.add(x.view()).value();
    const double damp = 0.01;
    const inverse_hessian inverse = invert(h, damp).value();
    const inverse_hessian shared = invert(h, damp, three).value();
    CHECK(shared.upper == inverse.upper);
    CHECK(shared.inverse_diagonal == inverse.inverse_diagonal);
    const Eigen::MatrixXd u = inverse.upper.cast<double>();
    CHECK(u.isUpperTriangular(0));
    Eigen::MatrixXd damped = h.matrix().cast<double>();
    damped.diagonal().array() += damp * damped.diagonal().mean();
    const Eigen::MatrixXd product = u.transpose() * u * damped;
    // U is rounded to float: each entry of U^T U is off by 2 * 2^-24 of the terms; times H the condition
    // number enters, which 3 * cols positions and the damping keep below 100 here, and |H| |H^-1| sums cols
    // terms.
    const double bound = 2 * 0x1p-24 * 100 * static_cast<double>(cols);
    CHECK((product - Eigen::MatrixXd::Identity(u.rows(), u.cols())).cwiseAbs().maxCoeff() < bound);
    for (std::size_t c = 0; c < cols; ++c) {
      CHECK(inverse.diagonal[c] == h.matrix()(static_cast<Eigen::Index>(c), static_cast<Eigen::Index>(c)));
      const double d = (u.transpose() * u)(static_cast<Eigen::Index>(c), static_cast<Eigen::Index>(c));
      // Both are sums of squares; the factor was rounded (2 * 2^-24) and the result once more.
      CHECK(std::abs(static_cast<double>(inverse.inverse_diagonal[c]) - d) <= 4 * 0x1p-24 * d);
    }
  }
}

TEST_CASE("inputs that were never seen") {
  const float x[] = {1, 0, 2, 2, 0, -1};  // input 1 is dead
  hessian h(3);
  h.add(span2<const float>(x, 2, 3)).value();
  const inverse_hessian inverse = invert(h).value();
  CHECK(inverse.diagonal[1] == 0);
  // They stand alone: nothing is carried to or from them.
  CHECK(inverse.upper(0, 1) == 0);
  CHECK(inverse.upper(1, 2) == 0);
  CHECK(inverse.upper(1, 1) > 0);
  CHECK_FALSE(invert(h, -1));
  CHECK_FALSE(invert(h, std::numeric_limits<double>::quiet_NaN()));
  // Nothing seen at all: all inputs are alike.
  const inverse_hessian blank = invert(hessian(3)).value();
  CHECK(blank.upper == identity_hessian(3).upper * blank.upper(0, 0));
  CHECK(invert(hessian(0)));
}

TEST_CASE("a singular Hessian without damping is an error") {
  const float x[] = {1, 1, 1};
  hessian h(3);
  h.add(span2<const float>(x, 1, 3)).value();
  const auto r = invert(h, 0);
  REQUIRE_FALSE(r);
  CHECK(std::string(r.error().what()).find("at damping 0") != std::string::npos);
  CHECK(invert(h, 0.01));
}

TEST_CASE("bad activations are named and change nothing") {
  rng g(13);
  dense_matrix x = random_matrix(5, 33, g);
  hessian h(33);
  h.add(std::as_const(x).view()).value();
  const auto before = h.matrix();
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    dense_matrix y = x;
    y.view()(3, 32) = bad;
    const auto r = h.add(std::as_const(y).view());
    REQUIRE_FALSE(r);
    CHECK(std::string(r.error().what()).find("input 32 of position 3 is NaN or infinite") !=
          std::string::npos);
  }
  std::vector<float> weights(5, 1.0f);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -1.0f}) {
    weights[2] = bad;
    const auto r = h.add(std::as_const(x).view(), weights);
    REQUIRE_FALSE(r);
    CHECK(std::string(r.error().what()).find("position 2") != std::string::npos);
  }
  CHECK(h.matrix() == before);
  CHECK(h.count() == 5);
  CHECK_THROWS_AS(static_cast<void>(h.add(span2<const float>(x.data.data(), 5, 32))), shape_error);
  CHECK_THROWS_AS(static_cast<void>(h.add(std::as_const(x).view(), std::span(weights).first(4))),
                  shape_error);
  CHECK_THROWS_AS(h.merge(hessian(32)), shape_error);

  // Finite inputs whose squares overflow.
  for (float& v : x.data) v = 1e30f;
  h.add(std::as_const(x).view()).value();
  const auto r = invert(h);
  REQUIRE_FALSE(r);
  CHECK(std::string(r.error().what()).find("overflows") != std::string::npos);
}
