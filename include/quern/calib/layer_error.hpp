// SPDX-License-Identifier: Apache-2.0
#pragma once
// double e = quern::layer_error(w, compressed, h.matrix());   // 0: equal on the text; 1: as bad as zeros

#include <algorithm>
#include <quern/core/error.hpp>
#include <quern/core/executor.hpp>
#include <quern/dense/matrix.hpp>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// tr(W H W^T): the squared norm of W X, times 2/T, over the calibration inputs. 2 * rows * cols^2 flops;
/// does not depend on the executor.
template <class Exec = serial>
double output_energy(span2<const float> w, const eigen_matrix<float>& h, Exec&& exec = Exec{}) {
  require(w.cols() == static_cast<std::size_t>(h.cols()), "quern::output_energy: W has ", w.cols(),
          " columns but H ", static_cast<std::size_t>(h.cols()));
  constexpr std::size_t band = 64;
  std::vector<double> parts((w.rows() + band - 1) / band);
  exec.parallel_for(parts.size(), 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t b = first; b < end; ++b) {
      const std::size_t count = std::min(band, w.rows() - b * band);
      const auto rows = eigen_map(w.rows_of(b * band, count));
      const eigen_matrix<float> product = rows * h;
      parts[b] = product.cwiseProduct(rows).template cast<double>().sum();
    }
  });
  double sum = 0;
  for (const double p : parts) sum += p;
  return sum;
}

/// The relative squared error of a layer's outputs, ||(W - W') X||^2 / ||W X||^2, from H = 2/T X X^T. 0 if
/// both are zero.
/// @throws shape_error if the shapes differ
template <class Exec = serial>
double layer_error(span2<const float> w, span2<const float> changed, const eigen_matrix<float>& h,
                   Exec&& exec = Exec{}) {
  require(w.rows() == changed.rows() && w.cols() == changed.cols(), "quern::layer_error: W is ", w.rows(),
          " x ", w.cols(), " but W' ", changed.rows(), " x ", changed.cols(), "; they must agree");
  const eigen_matrix<float> difference = eigen_map(w) - eigen_map(changed);
  const double lost = output_energy(span2<const float>(difference.data(), w.rows(), w.cols()), h, exec);
  return lost == 0 ? 0 : lost / output_energy(w, h, exec);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
