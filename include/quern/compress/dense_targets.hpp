// SPDX-License-Identifier: Apache-2.0
#pragma once
// const auto target = quern::dense_targets(w, crossed, inverse, pool);   // [rows x cols], compress this instead of W
// auto layer = quern::compress_layer<p, q>({target.data(), rows, cols}, inverse, options, pool).value();

#include <quern/calib/cross_moments.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The weights W* [rows x cols] that give on the inputs x^ of the compressed model what W gives on those of the dense
/// one: argmin |W X - W* X^|^2 + damping |W* - W|^2 = W + W (C - H)(H + damping)^-1, with C of cross_moments and H
/// of x^. Compressing W* under H makes a layer correct the error of those before it (a sequential prefix with dense
/// targets). It can overfit: 10 positions per input are few. 4 rows cols^2 flops.
/// @param h  of x^, with the same positions and weights as @p crossed
/// @throws shape_error if the shapes differ
template <class Exec = serial>
eigen_matrix<float> dense_targets(span2<const float> w, const cross_moments& crossed,
                                  const inverse_hessian& h, Exec&& exec = Exec{}) {
  require(w.cols() == h.cols() && crossed.cols() == h.cols(), "quern::dense_targets: W has ", w.cols(),
          " columns, the Hessian ", h.cols(), " and the cross moments ", crossed.cols(), "; they must agree");
  eigen_matrix<float> difference = crossed.matrix();
  const Eigen::VectorXf own = difference.diagonal();
  difference -= h.damped;
  for (Eigen::Index c = 0; c < difference.cols(); ++c)  // H without its damping
    difference(c, c) = own[c] - h.diagonal[static_cast<std::size_t>(c)];
  eigen_matrix<float> out(static_cast<Eigen::Index>(w.rows()), difference.cols());
  constexpr std::size_t band = 64;
  exec.parallel_for((w.rows() + band - 1) / band, 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t b = first; b < end; ++b) {
      const std::size_t count = std::min(band, w.rows() - b * band);
      const auto rows = eigen_map(w.rows_of(b * band, count));
      eigen_matrix<float> moved = rows * difference;
      moved = moved * h.upper.transpose().triangularView<Eigen::Lower>();
      moved = moved * h.upper.triangularView<Eigen::Upper>();
      out.middleRows(static_cast<Eigen::Index>(b * band), rows.rows()) = rows + moved;
    }
  });
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
