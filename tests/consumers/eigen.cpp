// SPDX-License-Identifier: Apache-2.0
// The same for quern::eigen.
#include <Eigen/Core>
#include <cstdio>
#include <quern/eigen.hpp>

int main() {
  // Ones and pruned zeros: exact in any format, so W x is the number of survivors of each row.
  Eigen::MatrixXf dense = Eigen::MatrixXf::Ones(32, 64);
  dense.leftCols(16).setZero();
  const auto w = quern::pack<quern::group<16>, quern::real<quern::f16>>(dense);
  const Eigen::MatrixXf y = quern::multiply(w, Eigen::MatrixXf::Ones(64, 3));
  if (y.rows() == 32 && y.cols() == 3 && (y.array() == 48.f).all()) return 0;
  std::puts("consumer_eigen: every element must be 48");
  return 1;
}
