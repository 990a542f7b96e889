// SPDX-License-Identifier: Apache-2.0
#pragma once
// Eigen::MatrixXf w, x;                                             // W [rows x cols], x [cols x batch]
// auto m = quern::pack<quern::group<16>, quern::affine<4, 16>>(w);   // zeros mark what is pruned
// Eigen::MatrixXf y = quern::multiply(m, x);                         // [rows x batch]

#include <quern/kernel/cpu/eigen.hpp>
#include <quern/quern.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Packs an Eigen matrix; exact zeros are pruned. @throws shape_error as pack(span2) does
template <sparsity_pattern P, quantizer Q>
matrix<P, Q> pack(
    const Eigen::Ref<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
                     Eigen::OuterStride<>>& w) {
  return pack<P, Q>(span2<const float>(w.data(), static_cast<std::size_t>(w.rows()),
                                       static_cast<std::size_t>(w.cols()),
                                       static_cast<std::size_t>(w.outerStride())));
}

/// W x for x [cols x batch], column-major as Eigen's default is: each column is one vector. Batches of 8 and
/// more go through Eigen panels, smaller ones through the kernels. @throws shape_error on a length mismatch
template <class P, class Q, executor Exec = serial>
Eigen::MatrixXf multiply(const matrix<P, Q>& w, const Eigen::Ref<const Eigen::MatrixXf>& x,
                         Exec&& exec = Exec{}) {
  Eigen::MatrixXf y(static_cast<Eigen::Index>(w.rows()), x.cols());
  const span2<const float> in(x.data(), static_cast<std::size_t>(x.cols()),
                              static_cast<std::size_t>(x.rows()), static_cast<std::size_t>(x.outerStride()));
  const span2<float> out(y.data(), static_cast<std::size_t>(y.cols()), w.rows());
  if (x.cols() >= 8)
    multiply_panels(w.view(), in, out, exec);
  else
    multiply(w.view(), in, out, exec);
  return y;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
