// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::hessian h(cols);
// h.add(activations).value();                  // [n x cols] inputs of a linear; call while there is text
// h.add(window, position_weights).value();     // attention sinks: weigh position 0 more
// quern::inverse_hessian inverse = quern::invert(h).value();   // what every method of compress/ takes

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <quern/core/error.hpp>
#include <quern/core/executor.hpp>
#include <quern/dense/cholesky.hpp>
#include <quern/dense/matrix.hpp>
#include <span>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The second moments of a linear's inputs, H = 2/T sum_t a_t x_t x_t^T [cols x cols] over T positions: the
/// Hessian of the layer's squared output error, the same for every row (OBC, arXiv 2208.11580, section 3).
///
/// The weights a_t are 1 unless given. A model with attention sinks wants more at position 0, whose hidden
/// state an average over positions hardly sees: SmolLM2-135M at 2:4 lost 1.31 nats with equal weights and
/// 1.23 with 256 there (one-shot, 32 windows of 512, prototype).
class hessian {
 public:
  hessian() = default;
  explicit hessian(std::size_t cols)
      : sum_(eigen_matrix<float>::Zero(static_cast<Eigen::Index>(cols), static_cast<Eigen::Index>(cols))) {}
  std::size_t cols() const { return static_cast<std::size_t>(sum_.cols()); }
  /// Positions seen, whatever their weight.
  std::size_t count() const { return count_; }

  /// Adds the inputs x [n x cols], one position a row, with weights [n] (empty: all 1). n * cols^2 flops.
  /// @returns an error that names the position and input that is NaN or infinite, or the weight that is
  ///          negative or not finite; nothing is added then
  /// @throws shape_error if x has not cols() columns, or weights has neither 0 nor n elements
  template <class Exec = serial>
  result<void> add(span2<const float> x, std::span<const float> weights = {}, Exec&& exec = Exec{}) {
    require(x.cols() == cols(), "quern::hessian: x must have ", cols(), " columns, got ", x.cols());
    require(weights.empty() || weights.size() == x.rows(), "quern::hessian: weights must be empty or have ",
            x.rows(), " elements, got ", weights.size());
    for (std::size_t t = 0; t < weights.size(); ++t)
      if (!(weights[t] >= 0) || !all_finite(&weights[t], 1))
        return error("quern::hessian: the weight of position ", t, " is ", weights[t],
                     "; weights must be finite and not negative");
    for (std::size_t t = 0; t < x.rows(); ++t)
      if (!all_finite(x.row(t), x.cols()))
        for (std::size_t c = 0; c < x.cols(); ++c)
          if (!all_finite(x.row(t) + c, 1))
            return error("quern::hessian: input ", c, " of position ", t,
                         " is NaN or infinite; the model overflows before this layer");
    accumulate(x, weights, exec);
    count_ += x.rows();
    return {};
  }

  /// Adds what another accumulator has seen. @throws shape_error if the sizes differ
  void merge(const hessian& other) {
    require(other.cols() == cols(), "quern::hessian: cannot merge ", other.cols(), " inputs into ", cols());
    sum_ += other.sum_;
    count_ += other.count_;
  }

  /// The moments of the same inputs in another order. @param order  [cols] the old place of each new input
  /// @throws shape_error if it has another size, or names a place that there is not
  hessian in_order(std::span<const std::size_t> order) const {
    require(order.size() == cols(), "quern::hessian: the order has ", order.size(), " places for ", cols(),
            " inputs; they must be equally many");
    for (const std::size_t place : order)
      require(place < cols(), "quern::hessian: the order names place ", place, " of ", cols(), " inputs");
    hessian out(cols());
    out.count_ = count_;
    const auto at = [](std::size_t i) { return static_cast<Eigen::Index>(i); };
    for (std::size_t r = 0; r < cols(); ++r)
      for (std::size_t c = 0; c <= r; ++c)
        out.sum_(at(r), at(c)) = sum_(at(std::max(order[r], order[c])), at(std::min(order[r], order[c])));
    return out;
  }

  /// H [cols x cols], symmetric, undamped; zero before anything was added.
  eigen_matrix<float> matrix() const {
    eigen_matrix<float> h = sum_.selfadjointView<Eigen::Lower>();
    if (count_ != 0) h *= 2.0f / static_cast<float>(count_);
    return h;
  }

 private:
  // Tiles of the lower triangle are independent of each other and of the number of threads. 192 inputs keep
  // both panels of a tile in the second-level cache and divide the widths of small models.
  static constexpr Eigen::Index tile = 192;

  // By the bits, so that it holds under -ffast-math too.
  static bool all_finite(const float* x, std::size_t n) {
    std::uint32_t bad = 0;
    for (std::size_t i = 0; i < n; ++i)
      bad |= (std::bit_cast<std::uint32_t>(x[i]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
    return bad == 0;
  }

  template <class Exec>
  void accumulate(span2<const float> x, std::span<const float> weights, Exec& exec) {
    if (x.rows() == 0 || x.cols() == 0) return;
    eigen_matrix<float> scaled;
    if (!weights.empty()) scaled = eigen_array(weights).sqrt().matrix().asDiagonal() * eigen_map(x);
    const span2<const float> rows =
        weights.empty() ? x : span2<const float>(scaled.data(), x.rows(), x.cols());
    const auto inputs = eigen_map(rows);
    const Eigen::Index n = sum_.cols(), tiles = (n + tile - 1) / tile;
    std::vector<std::pair<Eigen::Index, Eigen::Index>> work;
    for (Eigen::Index i = 0; i < tiles; ++i)
      for (Eigen::Index j = 0; j <= i; ++j) work.emplace_back(i * tile, j * tile);
    exec.parallel_for(work.size(), 1, [&](std::size_t first, std::size_t end) {
      for (std::size_t k = first; k < end; ++k) {
        const auto [i, j] = work[k];
        const Eigen::Index height = std::min(tile, n - i), width = std::min(tile, n - j);
        sum_.block(i, j, height, width).noalias() +=
            inputs.middleCols(i, height).transpose() * inputs.middleCols(j, width);
      }
    });
  }

  eigen_matrix<float> sum_;  // lower triangle of sum_t a_t x_t x_t^T
  std::size_t count_ = 0;
};

/// What the one-shot methods need to know of H: the factor that turns removing a column into an update of the
/// columns right of it, and the diagonals that scores divide by.
struct inverse_hessian {
  eigen_matrix<float> upper;            ///< [cols x cols] U, upper triangular, (H + damping)^-1 = U^T U
  std::vector<float> diagonal;          ///< [cols] H_cc, undamped: twice the mean square of an input
  std::vector<float> inverse_diagonal;  ///< [cols] [(H + damping)^-1]_cc
  eigen_matrix<float> damped;           ///< [cols x cols] H + damping, for methods that iterate
  std::size_t cols() const { return diagonal.size(); }
};

/// The inverse Hessian of independent inputs of equal size: with it OBS is magnitude pruning and GPTQ is
/// rounding to nearest.
inline inverse_hessian identity_hessian(std::size_t cols) {
  const Eigen::Index n = static_cast<Eigen::Index>(cols);
  return {eigen_matrix<float>::Identity(n, n), std::vector<float>(cols, 1.0f), std::vector<float>(cols, 1.0f),
          eigen_matrix<float>::Identity(n, n)};
}

/// Factors (H + damping)^-1 = U^T U, where damping is @p damp times the mean of H's diagonal (SparseGPT,
/// arXiv 2301.00774, takes 0.01). Inputs that were always zero get the damping alone, so that their weights
/// are pruned first and pull on nothing; SparseGPT gives them H_cc = 1 and zeroes their weights, which would
/// also break layers that are only quantized. About 2/3 cols^3 flops in double, half of them shared by @p exec, on
/// whose number of threads the result does not depend; 8 bytes per cols^2 beside H and what is returned (8 more).
/// @returns an error if damp is negative or not finite, if H overflowed, or if H is singular at this damping
template <class Exec = serial>
result<inverse_hessian> invert(const hessian& moments, double damp = 0.01, Exec&& exec = Exec{}) {
  const std::size_t cols = moments.cols();
  const Eigen::Index n = static_cast<Eigen::Index>(cols);
  inverse_hessian out;
  out.damped = moments.matrix();
  if (!out.damped.allFinite())
    return error("quern::invert: the sum of squared inputs overflows; scale the inputs or their weights");
  // Read backwards, H = L L^T becomes H = R R^T with R upper triangular, and U = R^-1: one factorization
  // where inverting H and factoring the inverse would take two.
  auto lower = cholesky<double>(out.damped.reverse().cast<double>(), damp);
  if (!lower) return error("quern::invert: ", lower.error().what());
  const double mean = n == 0 ? 0 : out.damped.diagonal().cast<double>().mean();
  out.diagonal.resize(cols);
  out.inverse_diagonal.resize(cols);
  eigen_array(out.diagonal.data(), cols) = out.damped.diagonal().array();
  out.damped.diagonal().array() += static_cast<float>(damp * (mean > 0 ? mean : 1.0));  // as cholesky damps
  // Columns of L^-1, some at a time: what is above their diagonal is zero, and no second matrix in double is needed.
  out.upper = eigen_matrix<float>::Zero(n, n);
  constexpr Eigen::Index panel = 192;
  exec.parallel_for(
      static_cast<std::size_t>((n + panel - 1) / panel), 1, [&](std::size_t first, std::size_t end) {
        for (std::size_t k = first; k < end; ++k) {
          const Eigen::Index left = static_cast<Eigen::Index>(k) * panel, tall = n - left,
                             wide = std::min(panel, tall);
          eigen_matrix<double> part = eigen_matrix<double>::Identity(tall, wide);
          lower->bottomRightCorner(tall, tall).template triangularView<Eigen::Lower>().solveInPlace(part);
          out.upper.block(0, n - left - wide, tall, wide) = part.reverse().template cast<float>();
          for (Eigen::Index c = 0; c < wide; ++c)
            out.inverse_diagonal[cols - 1 - static_cast<std::size_t>(left + c)] =
                static_cast<float>(part.col(c).squaredNorm());
        }
      });
  if (!out.upper.allFinite())
    return error("quern::invert: H [", cols, " x ", cols, "] is all but singular at damp ", damp,
                 "; give more positions or a larger damp");
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
