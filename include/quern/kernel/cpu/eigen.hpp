// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply_panels(w.view(), x, y, pool);   // a batch: decode 64 rows, multiply with Eigen, next 64
// rows

#include <Eigen/Core>
#include <quern/core/executor.hpp>
#include <quern/format/unpack.hpp>

namespace quern::inline v0 {

/// Rows that are decoded at a time: 64 rows of 4096 floats fill a 1 MB second-level cache, and Eigen's own
/// blocking wants a few dozen.
inline constexpr std::size_t panel_rows = 64;

inline namespace QUERN_BUILD {

/// y [n x rows] = x [n x cols] W^T for a batch: panels of W are decoded to float and multiplied by Eigen.
/// Works for every format; pays from about 8 vectors on, where the decoding is shared. Allocates one panel of
/// 64 x cols floats per range of rows. Results do not depend on the executor.
/// @throws shape_error on a length mismatch
template <class P, class Q, executor Exec = serial>
void multiply_panels(const matrix_view<P, Q>& w, span2<const float> x, span2<float> y, Exec&& exec = Exec{}) {
  require(x.cols() == w.cols() && y.cols() == w.rows() && x.rows() == y.rows(),
          "quern::multiply_panels: x must be [n x ", w.cols(), "] and y [n x ", w.rows(), "]");
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using stride = Eigen::OuterStride<>;
  const auto index = [](std::size_t n) { return static_cast<Eigen::Index>(n); };
  const Eigen::Map<const row_major, 0, stride> xs(x.data(), index(x.rows()), index(x.cols()),
                                                  stride(index(x.stride())));
  exec.parallel_for((w.rows() + panel_rows - 1) / panel_rows, 1, [&](std::size_t begin, std::size_t end) {
    row_major panel(index(panel_rows), index(w.cols()));
    for (std::size_t p = begin; p < end; ++p) {
      const std::size_t first = p * panel_rows;
      const std::size_t rows = w.rows() - first < panel_rows ? w.rows() - first : panel_rows;
      unpack_rows(w, first, {panel.data(), rows, w.cols()});
      Eigen::Map<row_major, 0, stride> out(y.data() + first, index(y.rows()), index(rows),
                                           stride(index(y.stride())));
      out.noalias() = xs * panel.topRows(index(rows)).transpose();
    }
  });
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
