// SPDX-License-Identifier: Apache-2.0
#pragma once
// Weight scaling (CAST, arXiv 2509.25996, eq. 11 and 12): every row of W is cut into n parts, each with a trained
// factor that gives back the magnitude that decay takes, and that is folded into W at the end.
// std::vector<float> a(rows * n, 1.0f);
// quern::scale_weights<float>(a_view, w, effective);              // effective = W (.) A
// quern::scale_backward<float>(a_view, w, dw_view, da_view);      // dA, and deffective becomes dW

#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/span2.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {
namespace detail {

/// Columns that share a factor: parts lie side by side (the paper's reshape leaves that open: reconstructed), the last
/// may be shorter.
template <class A, class W>
std::size_t scale_width(const char* name, span2<A> a, span2<W> w) {
  require(a.rows() == w.rows() && a.cols() > 0, name, ": A is ", a.rows(), " x ", a.cols(),
          "; it must have the ", w.rows(), " rows of W and a column or more");
  return w.cols() == 0 ? 1 : (w.cols() + a.cols() - 1) / a.cols();
}

}  // namespace detail

/// out(r, c) = W(r, c) A(r, part of c); out [rows x cols] may be W. @throws shape_error on a shape mismatch
template <class T>
void scale_weights(span2<const T> a, span2<const T> w, span2<T> out) {
  const std::size_t width = detail::scale_width("quern::scale_weights", a, w);
  require(out.rows() == w.rows() && out.cols() == w.cols(),
          "quern::scale_weights: out must have the shape of W");
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c) out(r, c) = w(r, c) * a(r, c / width);
}

/// da += the gradient of A, and d, the gradient of W (.) A, becomes that of W. @throws shape_error as above
template <class T>
void scale_backward(span2<const T> a, span2<const T> w, span2<T> d, span2<T> da) {
  const std::size_t width = detail::scale_width("quern::scale_backward", a, w);
  require(d.rows() == w.rows() && d.cols() == w.cols() && da.rows() == a.rows() && da.cols() == a.cols(),
          "quern::scale_backward: the gradients must have the shapes of W and A");
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c) {
      da(r, c / width) += d(r, c) * w(r, c);
      d(r, c) *= a(r, c / width);
    }
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
