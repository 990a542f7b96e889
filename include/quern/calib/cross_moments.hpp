// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cross_moments c(cols);
// c.add(dense_inputs, inputs, position_weights, pool);   // the same positions before and after compression
// auto targets = quern::dense_targets(w, c, inverse);    // quern/compress/dense_targets.hpp

#include <quern/calib/hessian.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// C = 2/T sum_t a_t x_t x^_t^T [cols x cols]: how the inputs x of a linear in the dense model hang together with those
/// it sees behind compressed layers, x^. With quern::hessian of x^ it says which weights give, on x^, what the dense
/// ones give on x.
class cross_moments {
 public:
  explicit cross_moments(std::size_t cols)
      : sum_(eigen_matrix<float>::Zero(static_cast<Eigen::Index>(cols), static_cast<Eigen::Index>(cols))) {}
  std::size_t cols() const { return static_cast<std::size_t>(sum_.cols()); }

  /// Adds T positions of both inputs [n x cols] with weights [n] (empty: all 1). 2 n cols^2 flops.
  /// @returns an error where a dense input is NaN or infinite (quern::hessian has looked at the others)
  /// @throws shape_error if the shapes do not fit
  template <class Exec = serial>
  result<void> add(span2<const float> dense, span2<const float> seen, std::span<const float> weights = {},
                   Exec&& exec = Exec{}) {
    require(dense.cols() == cols() && seen.cols() == cols() && dense.rows() == seen.rows() &&
                (weights.empty() || weights.size() == seen.rows()),
            "quern::cross_moments: both inputs must be [n x ", cols(), "] and weights empty or [n]");
    eigen_matrix<float> scaled = eigen_map(dense);
    if (!scaled.allFinite())
      return error("quern::cross_moments: an input of the dense model is NaN or infinite");
    if (!weights.empty()) scaled = eigen_array(weights).matrix().asDiagonal() * scaled;
    const auto inputs = eigen_map(seen);
    constexpr std::size_t tile = 192;  // as quern::hessian: independent of the number of threads
    exec.parallel_for((cols() + tile - 1) / tile, 1, [&](std::size_t first, std::size_t end) {
      for (std::size_t i = first; i < end; ++i) {
        const auto top = static_cast<Eigen::Index>(i * tile),
                   height = static_cast<Eigen::Index>(std::min(tile, cols() - i * tile));
        sum_.middleRows(top, height).noalias() += scaled.middleCols(top, height).transpose() * inputs;
      }
    });
    count_ += seen.rows();
    return {};
  }
  /// C; zero before anything was added.
  eigen_matrix<float> matrix() const {
    return count_ == 0 ? sum_ : eigen_matrix<float>(sum_ * (2.0f / static_cast<float>(count_)));
  }

 private:
  eigen_matrix<float> sum_;
  std::size_t count_ = 0;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
