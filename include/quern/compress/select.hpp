// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::eigen_matrix<float> scores = quern::unit_scores<quern::group<16>>(w, inverse, quern::saliency::obs);
// quern::bit_mask keep = quern::select<quern::group<16>>(scores, rows, cols, 0.5).value();

#include <quern/dense/matrix.hpp>
#include <quern/pattern/select.hpp>

namespace quern::inline v0 {

/// Scores as quern::select and quern::select_units take them.
inline span2<const float> view_of(const eigen_matrix<float>& scores) {
  return {scores.data(), static_cast<std::size_t>(scores.rows()), static_cast<std::size_t>(scores.cols())};
}

inline namespace QUERN_BUILD {

/// quern::select (pattern/select.hpp) of scores in an Eigen matrix.
inline result<bit_mask> select(const eigen_matrix<float>& scores, const unit_shape& p, std::size_t rows,
                               std::size_t cols, double density = 0.5, scope s = scope::row) {
  return select(view_of(scores), p, rows, cols, density, s);
}
template <sparsity_pattern P>
result<bit_mask> select(const eigen_matrix<float>& scores, std::size_t rows, std::size_t cols,
                        double density = 0.5, scope s = scope::row) {
  return select(view_of(scores), shape_of<P>(), rows, cols, density, s);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
