// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto scores = quern::unit_scores<quern::group<16>>(w, inverse, quern::saliency::obs_block);
// bit_mask keep = quern::select<quern::group<16>>(scores, w.rows(), w.cols(), 0.5).value();

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <quern/calib/hessian.hpp>
#include <quern/compress/select.hpp>
#include <quern/core/executor.hpp>
#include <vector>

namespace quern::inline v0 {

/// What a weight is worth.
enum class saliency {
  magnitude,  ///< |w|
  wanda,      ///< |w| * norm of its input (Wanda, arXiv 2306.11695, eq. 1)
  obs,        ///< w^2 / [H^-1]_cc: the error of removing it alone (Optimal Brain Surgeon; SparseGPT eq. 3)
  obs_block,  ///< the unit together: w_g ([H^-1]_gg)^-1 w_g^T, summed over the rows of a block; obs for one
              ///< weight
};
/// How the scores of the weights of a unit become the score of the unit; obs_block has no use for it.
enum class aggregate { mean, sum, max, l2 };

inline namespace QUERN_BUILD {

/// The scores of units, for weights in column-major order: units of consecutive rows are scored together.
class scorer {
 public:
  /// @param frozen_left  the columns left of a unit can no longer change, so that removal is paid for by
  /// those
  ///                     right of it: [H^-1]_gg becomes U_gg^T U_gg (SparseGPT's w^2 / U_cc^2 for one weight)
  scorer(const inverse_hessian& h, const unit_shape& p, saliency kind, aggregate unit, bool frozen_left)
      : shape_(p),
        // One column of a block: the sum over its rows is what obs_block asks for.
        kind_(kind == saliency::obs_block && p.cols == 1 ? saliency::obs : kind),
        unit_(kind == saliency::obs_block ? aggregate::sum : unit),
        factor_(h.cols(), 1.0f) {
    for (std::size_t c = 0; c < h.cols(); ++c) {
      const float u = h.upper(static_cast<Eigen::Index>(c), static_cast<Eigen::Index>(c));
      if (kind_ == saliency::wanda) factor_[c] = std::sqrt(h.diagonal[c]);
      if (kind_ == saliency::obs) factor_[c] = 1 / (frozen_left ? u * u : h.inverse_diagonal[c]);
    }
    if (kind_ != saliency::obs_block) return;
    const Eigen::Index cols = h.upper.cols(), step = static_cast<Eigen::Index>(p.cols);
    for (Eigen::Index first = 0; first < cols; first += step) {
      const Eigen::Index width = std::min(step, cols - first);
      if (frozen_left) {
        blocks_.push_back(h.upper.block(first, first, width, width));
      } else {
        const auto panel = h.upper.block(0, first, first + width, width);
        const Eigen::MatrixXd block = (panel.transpose() * panel).cast<double>();
        blocks_.push_back(Eigen::MatrixXd(block.llt().matrixU()).cast<float>());
      }
    }
  }

  /// Scores of the units of @p w, whole block rows of columns [first_col, first_col + w.cols()), which start
  /// and end with a unit: out [blocks x units].
  void score(const Eigen::Ref<const Eigen::MatrixXf>& w, std::size_t first_col,
             Eigen::Ref<eigen_matrix<float>> out) const {
    const Eigen::Index step = static_cast<Eigen::Index>(shape_.cols),
                       tall = static_cast<Eigen::Index>(shape_.rows);
    Eigen::MatrixXf values;
    for (Eigen::Index left = 0, u = 0; left < w.cols(); left += step, ++u) {
      values = w.middleCols(left, std::min(step, w.cols() - left));
      weigh(values, first_col + static_cast<std::size_t>(left));
      for (Eigen::Index top = 0, b = 0; top < values.rows(); top += tall, ++b)
        out(b, u) = join(values.middleRows(top, std::min(tall, values.rows() - top)));
    }
  }

 private:
  /// Replaces the weights of one unit column by their scores.
  void weigh(Eigen::MatrixXf& v, std::size_t col) const {
    if (kind_ == saliency::obs_block) {
      // w ([H^-1]_gg)^-1 w^T = |w R^-1|^2 where [H^-1]_gg = R^T R.
      blocks_[col / shape_.cols].triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(v);
      v = v.cwiseAbs2().eval();
      return;
    }
    for (Eigen::Index c = 0; c < v.cols(); ++c) {
      const float f = factor_[col + static_cast<std::size_t>(c)];
      if (kind_ == saliency::obs)
        v.col(c) = f * v.col(c).cwiseAbs2();
      else
        v.col(c) = f * v.col(c).cwiseAbs();
    }
  }
  float join(const Eigen::Ref<const Eigen::MatrixXf>& v) const {
    switch (unit_) {
      case aggregate::mean:
        return v.mean();
      case aggregate::sum:
        return v.sum();
      case aggregate::max:
        return v.maxCoeff();
      default:
        return v.norm();
    }
  }

  unit_shape shape_;
  saliency kind_;
  aggregate unit_;
  std::vector<float> factor_;                // [cols] of one weight
  std::vector<eigen_matrix<float>> blocks_;  // [units per row] R of every unit
};

/// Rows that are handled together: whole blocks, at least 64, so that updates of a column fill vector
/// registers and updates of a panel are matrix products. Fixed, so that results do not depend on threads.
constexpr std::size_t band_rows_of(const unit_shape& p) { return (64 + p.rows - 1) / p.rows * p.rows; }

/// The score of every unit of W [rows x cols]: [block_rows x units_per_row].
/// @param unit  how weights are joined; @p kind obs_block ignores it
/// @throws shape_error if the Hessian has another number of columns
template <class Exec = serial>
eigen_matrix<float> unit_scores(span2<const float> w, const unit_shape& p, const inverse_hessian& h,
                                saliency kind, aggregate unit = aggregate::mean, Exec&& exec = Exec{}) {
  require(w.cols() == h.cols(), "quern::unit_scores: W has ", w.cols(), " columns but the Hessian ",
          h.cols());
  const scorer s(h, p, kind, unit, false);
  const auto blocks = [&](std::size_t rows) {
    return static_cast<Eigen::Index>((rows + p.rows - 1) / p.rows);
  };
  eigen_matrix<float> out(blocks(w.rows()), static_cast<Eigen::Index>((w.cols() + p.cols - 1) / p.cols));
  const std::size_t band = band_rows_of(p);
  exec.parallel_for((w.rows() + band - 1) / band, 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t b = first; b < end; ++b) {
      const std::size_t count = std::min(band, w.rows() - b * band);
      const Eigen::MatrixXf rows = eigen_map(w.rows_of(b * band, count));
      s.score(rows, 0, out.middleRows(static_cast<Eigen::Index>(b * band / p.rows), blocks(count)));
    }
  });
  return out;
}
template <sparsity_pattern P, class Exec = serial>
eigen_matrix<float> unit_scores(span2<const float> w, const inverse_hessian& h, saliency kind,
                                aggregate unit = aggregate::mean, Exec&& exec = Exec{}) {
  return unit_scores(w, shape_of<P>(), h, kind, unit, exec);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
