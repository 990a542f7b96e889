// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Cholesky>
#include <limits>
#include <quern/compress/dense_targets.hpp>
#include <quern/core/thread_pool.hpp>

#include "problem.hpp"

namespace {

using namespace quern;
using quern_test::dense_matrix;
using quern_test::problem;

/// Inputs that lie beside those of the problem: mixed with each other a little, and noisy.
dense_matrix beside(const problem& p) {
  quern::rng g(97);
  dense_matrix out = p.x;
  for (std::size_t t = 0; t < out.rows; ++t)
    for (std::size_t c = 0; c < out.cols; ++c)
      out.view()(t, c) =
          0.8f * p.x.view()(t, c) + 0.3f * p.x.view()(t, (c + 1) % out.cols) + 0.05f * g.normal();
  return out;
}

double distance(const problem& p, const dense_matrix& w, const dense_matrix& seen) {
  const eigen_matrix<float> d = eigen_map(p.x.view()) * eigen_map(p.w.view()).transpose() -
                                eigen_map(seen.view()) * eigen_map(w.view()).transpose();
  return static_cast<double>(d.squaredNorm());
}

}  // namespace

TEST_CASE("targets are the weights that give on the new inputs what the dense ones gave on theirs") {
  const problem p(70, 40, 96, 600);
  const dense_matrix seen = beside(p);
  std::vector<float> weights(600, 1.0f);
  weights[0] = 9;
  hessian sums(40);
  sums.add(std::as_const(seen).view(), weights).value();
  const inverse_hessian h = invert(sums).value();
  cross_moments crossed(40);
  crossed.add(p.x.view(), std::as_const(seen).view(), weights).value();
  thread_pool pool(3);
  const eigen_matrix<float> found = dense_targets(p.weights(), crossed, h, pool);
  CHECK(found == dense_targets(p.weights(), crossed, h));

  // The same by normal equations in double: W* (X^ A X^T + damping) = W (X A X^T + damping).
  const eigen_matrix<double> x = eigen_map(p.x.view()).cast<double>(),
                             y = eigen_map(seen.view()).cast<double>();
  const Eigen::VectorXd a = eigen_array(std::span<const float>(weights)).cast<double>().matrix();
  eigen_matrix<double> own = 2.0 / 600 * y.transpose() * a.asDiagonal() * y,
                       cross = 2.0 / 600 * x.transpose() * a.asDiagonal() * y;
  const double damping = 0.01 * own.diagonal().mean();
  own.diagonal().array() += damping;
  cross.diagonal().array() += damping;
  const eigen_matrix<double> right = eigen_map(p.w.view()).cast<double>() * cross;
  const eigen_matrix<double> exact = own.llt().solve(right.transpose()).transpose();
  // The damped condition number is below 1e4: 1e4 * 6e-8.
  CHECK((found.cast<double>() - exact).norm() < 6e-4 * exact.norm());

  dense_matrix target(70, 40);
  eigen_map(target.view()) = found;
  CHECK(distance(p, target, seen) < 0.1 * distance(p, p.w, seen));
}

TEST_CASE("equal inputs leave the weights alone") {
  const problem p(5, 32, 98, 200);
  cross_moments crossed(32);
  crossed.add(p.x.view(), p.x.view()).value();
  const eigen_matrix<float> found = dense_targets(p.weights(), crossed, p.inverse);
  // C and H are the same sums in another order: 200 * 6e-8 of them, through a condition number below 1e4.
  CHECK((found - eigen_map(p.weights())).norm() < 0.05f * eigen_map(p.weights()).norm());
}

TEST_CASE("bad input is refused") {
  problem p(5, 32, 99, 64);
  cross_moments crossed(32);
  CHECK_THROWS_AS(static_cast<void>(crossed.add(p.x.view().rows_of(0, 3), p.x.view())), shape_error);
  p.x.view()(3, 4) = std::numeric_limits<float>::infinity();
  CHECK_FALSE(crossed.add(p.x.view(), p.x.view()));
  CHECK_THROWS_AS(dense_targets(p.weights(), cross_moments(31), p.inverse), shape_error);
}
