// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <quern/core/rng.hpp>
#include <quern/dense/cholesky.hpp>
#include <string>

namespace {

using matrix = quern::eigen_matrix<double>;

matrix gram(Eigen::Index n, Eigen::Index samples) {
  quern::rng random(31);
  matrix x(samples, n);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>(random.normal());
  return x.transpose() * x / static_cast<double>(samples);
}

std::string message(const quern::result<matrix>& r) {
  return r ? std::string() : std::string(r.error().what());
}

}  // namespace

TEST_CASE("L L^T is the damped matrix, and the inverse inverts it") {
  for (const Eigen::Index n : {1, 2, 7, 33, 130}) {
    const matrix a = gram(n, 4 * n);
    const double damping = 0.25;
    const auto lower = quern::cholesky<double>(a, damping);
    REQUIRE(lower);
    matrix damped = a;
    damped.diagonal().array() += damping * a.diagonal().mean();
    // |L L^T - A| <= (n + 1) eps |L||L^T| <= (n + 1) eps trace (Higham, Accuracy and Stability,
    // theorem 10.3).
    const double eps = 2.3e-16, bound = static_cast<double>(n + 1) * eps * damped.trace();
    CHECK((*lower * lower->transpose() - damped).cwiseAbs().maxCoeff() <= bound);
    for (Eigen::Index r = 0; r < n; ++r)
      for (Eigen::Index c = r + 1; c < n; ++c) CHECK((*lower)(r, c) == 0);
    // The same error once more, multiplied by the inverse, whose norm the damping keeps below 1 / (0.25
    // mean).
    const matrix inverse = quern::cholesky_inverse<double>(*lower);
    CHECK((inverse * damped - matrix::Identity(n, n)).cwiseAbs().maxCoeff() <=
          4 * static_cast<double>(n) * bound / (damping * a.diagonal().mean()));
    CHECK((inverse - inverse.transpose()).cwiseAbs().maxCoeff() <= bound / (damping * a.diagonal().mean()));
  }
}

TEST_CASE("hand numbers, only the lower triangle read, empty and zero matrices") {
  matrix a(2, 2);
  a << 4, 99, 2, 10;
  const auto lower = quern::cholesky<double>(a);
  REQUIRE(lower);
  CHECK((*lower)(0, 0) == 2);
  CHECK((*lower)(1, 0) == 1);
  CHECK((*lower)(1, 1) == 3);
  CHECK(quern::cholesky<double>(matrix(0, 0)));
  const auto zero = quern::cholesky<double>(matrix::Zero(3, 3), 0.25);
  REQUIRE(zero);
  CHECK((*zero)(2, 2) == 0.5);
}

TEST_CASE("breakdown and bad numbers are reported") {
  CHECK(message(quern::cholesky<double>(-gram(5, 20))).find("not positive definite at damping 0") !=
        std::string::npos);
  CHECK(quern::cholesky<double>(gram(5, 2), 0.01));
  matrix a = gram(4, 20);
  a(2, 1) = std::numeric_limits<double>::quiet_NaN();
  CHECK(message(quern::cholesky<double>(a)).find("row 2 column 1") != std::string::npos);
  a = gram(4, 20);
  CHECK_FALSE(quern::cholesky<double>(a, -1));
  CHECK_FALSE(quern::cholesky<double>(a, std::numeric_limits<double>::quiet_NaN()));
  CHECK_THROWS_AS(static_cast<void>(quern::cholesky<double>(matrix(2, 3))), quern::shape_error);
}
