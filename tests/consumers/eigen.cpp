// SPDX-License-Identifier: Apache-2.0
// The same for quern::eigen.
#include <Eigen/Core>
#include <quern/core/span2.hpp>

int main() {
  const Eigen::MatrixXf w = Eigen::MatrixXf::Constant(2, 2, 4.f);
  return quern::span2<const float>(w.data(), 2, 2)(1, 1) == 4.f ? 0 : 1;
}
