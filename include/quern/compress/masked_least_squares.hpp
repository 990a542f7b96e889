// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::bit_mask keep = quern::sparse_gpt<quern::group<16>>(w, inverse, 0.5).value();   // survivors as OBS left them
// quern::masked_least_squares(w, dense, inverse, keep, 20, pool).value();                // solved jointly

#include <algorithm>
#include <cmath>
#include <quern/compress/obs.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Moves the survivors of every row of W' [rows x cols] towards the minimum of |(W - W') X|^2 + damping |W - W'|^2
/// under the mask: the best answer to what was pruned with all survivors free, where an OBS sweep cannot change the
/// columns that it has passed. Preconditioned conjugate gradients with the diagonal of H as preconditioner, on the
/// systems H_SS w'_S = (H w)_S of all rows at once: rows differ in their survivors S, so factoring them would take
/// rows * cols^3 flops; this takes 2 * rows * cols^2 per iteration, one matrix product. No row ends with a larger error
/// than it had under the mask, but for the rounding of a sum in double: a row that float would make worse stays as it
/// was. That is so near the optimum, where inputs share a direction: the weights hardly move along it, and what float
/// rounds in their products with it is more than what is left to gain.
///
/// SmolLM2-135M in a prototype, bsr<16,16>, half of the blocks: relative layer errors of .059 to .197 after OBS fell
/// to .045 to .149 in the exact solution; 20 iterations from the OBS start come close.
/// @param w           starts as any weights (those of a sweep); pruned ones become 0
/// @param target      [rows x cols] W, the dense weights
/// @param iterations  0 only applies the mask
/// @returns an error: the row and column of a weight that is not finite, or shapes that differ
template <class Exec = serial>
result<void> masked_least_squares(span2<float> w, span2<const float> target, const inverse_hessian& h,
                                  const bit_mask& mask, int iterations = 20, Exec&& exec = Exec{}) {
  if (auto ok = check_weights("quern::masked_least_squares", w, h); !ok) return ok;
  if (auto ok = check_weights("quern::masked_least_squares", target, h); !ok) return ok;
  if (target.rows() != w.rows() || mask.rows() != w.rows() || mask.cols() != w.cols())
    return error("quern::masked_least_squares: W', W and the mask must have one shape, got ", w.rows(), " x ",
                 w.cols(), ", ", target.rows(), " x ", target.cols(), " and ", mask.rows(), " x ",
                 mask.cols());
  using rows_of = eigen_matrix<float>;
  const auto image_of = [&h](const eigen_matrix<double>& d) {
    eigen_matrix<double> out(d.rows(), d.cols());
    constexpr Eigen::Index panel = 256;  // of H in double: all of it would take twice its memory
    for (Eigen::Index c = 0; c < out.cols(); c += panel) {
      const Eigen::Index n = std::min(panel, out.cols() - c);
      out.middleCols(c, n).noalias() = d * h.damped.middleCols(c, n).cast<double>();
    }
    return out;
  };
  const Eigen::ArrayXf inverse_diagonal =
      (h.damped.diagonal().array() > 0).select(h.damped.diagonal().array().inverse(), 0.0f);
  constexpr std::size_t band = 64;
  exec.parallel_for((w.rows() + band - 1) / band, 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t b = first; b < end; ++b) {
      const std::size_t count = std::min(band, w.rows() - b * band);
      auto x = eigen_map(w.rows_of(b * band, count));
      rows_of keep(x.rows(), x.cols());
      for (std::size_t r = 0; r < count; ++r)
        for (std::size_t c = 0; c < w.cols(); ++c)
          keep(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) =
              mask(b * band + r, c) ? 1.0f : 0.0f;
      x = x.cwiseProduct(keep);
      const rows_of start = x;
      const auto missing = [&]() -> eigen_matrix<double> {
        return eigen_map(target.rows_of(b * band, count)).cast<double>() - x.cast<double>();
      };
      const auto errors = [](const eigen_matrix<double>& d, const eigen_matrix<double>& image) {
        return Eigen::ArrayXd(d.cwiseProduct(image).rowwise().sum());
      };
      rows_of residual;
      Eigen::ArrayXd before;
      {
        const eigen_matrix<double> d = missing(), in_double = image_of(d);
        before = errors(d, in_double);
        residual = in_double.cast<float>().cwiseProduct(keep);
      }
      const auto precondition = [&](const rows_of& from) -> rows_of {
        return (from.array().rowwise() * inverse_diagonal.transpose()).matrix();
      };
      rows_of z = precondition(residual), direction = z, image;
      Eigen::ArrayXf along = residual.cwiseProduct(z).rowwise().sum().array();
      // Six digits of the gradient, or of what it could be for this error: what float can tell.
      const Eigen::ArrayXf least = 1e-12f * along.max(before.cast<float>());
      for (int i = 0; i < iterations && (along > least).any(); ++i) {
        image.noalias() = direction * h.damped;
        const Eigen::ArrayXf curvature = direction.cwiseProduct(image).rowwise().sum().array();
        // A row that is done, or whose direction float can no longer tell from zero, stands still.
        const Eigen::ArrayXf step = (along > least && curvature > 0).select(along / curvature, 0.0f);
        x.array() += direction.array().colwise() * step;
        residual.array() -= image.cwiseProduct(keep).array().colwise() * step;
        z = precondition(residual);
        const Eigen::ArrayXf next = residual.cwiseProduct(z).rowwise().sum().array();
        const Eigen::ArrayXf turn = (along > least).select(next / along, 0.0f);
        direction = z + (direction.array().colwise() * turn).matrix();
        along = next;
      }
      const eigen_matrix<double> d = missing();
      const Eigen::ArrayXd after = errors(d, image_of(d));
      for (Eigen::Index r = 0; r < x.rows(); ++r)
        if (!(after[r] <= before[r])) x.row(r) = start.row(r);
    }
  });
  return {};
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
