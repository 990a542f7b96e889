// SPDX-License-Identifier: Apache-2.0
#pragma once
// SLoRB (AST section 3.4): a side matrix S beside a sparse W, y = (mask (.) W) x + S (X x), where X sums the inputs
// in groups of k.
// std::vector<float> s(rows * quern::slorb_groups(cols, 16));
// quern::slorb_start<float>(dense, sparse, 16, s_view);     // group sums of every row are what they were
// quern::slorb_add<float>(s_view, 16, effective);           // effective = mask (.) W + S X, for the forward pass
// quern::slorb_backward<float>(deffective, 16, ds_view);    // dS += deffective X^T

#include <algorithm>
#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/span2.hpp>
#include <quern/dense/matrix.hpp>

namespace quern::inline v0 {

/// Groups of k consecutive inputs, the last of which may be shorter: columns of S, rows of X.
constexpr std::size_t slorb_groups(std::size_t cols, std::size_t k) {
  return k == 0 ? 0 : cols / k + (cols % k != 0 ? 1 : 0);  // no sum that a k near 2^64 would wrap
}

inline namespace QUERN_BUILD {
namespace detail {

template <class T>
void check_slorb(const char* name, span2<const T> w, std::size_t k, span2<const T> s) {
  require(k > 0, name, ": k is 0; a group needs at least one input");
  require(s.rows() == w.rows() && s.cols() == slorb_groups(w.cols(), k), name, ": S is ", s.rows(), " x ",
          s.cols(), "; for W [", w.rows(), " x ", w.cols(), "] and k ", k, " it must be ", w.rows(), " x ",
          slorb_groups(w.cols(), k));
}

/// Calls f(r, g, first, end) for every row and group of columns.
template <class F>
void for_groups(std::size_t rows, std::size_t cols, std::size_t k, F&& f) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t g = 0; g < slorb_groups(cols, k); ++g) f(r, g, g * k, std::min(cols, (g + 1) * k));
}

}  // namespace detail

/// S [rows x groups] such that sparse + S X has the group sums of dense, both [rows x cols]: the mean over all k
/// places of what is missing (AST eq. 6, where sparse is mask (.) dense and the missing are the pruned weights; a
/// sparse start that made up for pruned weights elsewhere is corrected by what it made up).
/// @throws shape_error on a shape mismatch
template <class T>
void slorb_start(span2<const T> dense, span2<const T> sparse, std::size_t k, span2<T> s) {
  detail::check_slorb<T>("quern::slorb_start", dense, k, s);
  require(sparse.rows() == dense.rows() && sparse.cols() == dense.cols(),
          "quern::slorb_start: the dense and the sparse matrix must have one shape");
  detail::for_groups(s.rows(), dense.cols(), k,
                     [&](std::size_t r, std::size_t g, std::size_t first, std::size_t end) {
                       double missing = 0;
                       for (std::size_t c = first; c < end; ++c)
                         missing += static_cast<double>(dense(r, c)) - static_cast<double>(sparse(r, c));
                       s(r, g) = static_cast<T>(missing / static_cast<double>(end - first));
                     });
}

/// X [groups x cols], the indicator of the groups (AST eq. 5): where a trained projection starts.
template <class T>
void slorb_indicator(std::size_t k, span2<T> x) {
  require(k > 0 && x.rows() == slorb_groups(x.cols(), k), "quern::slorb_indicator: X has ", x.rows(),
          " rows; for ", x.cols(), " columns and k ", k, " it must have ", slorb_groups(x.cols(), k));
  for (std::size_t g = 0; g < x.rows(); ++g)
    for (std::size_t c = 0; c < x.cols(); ++c) x(g, c) = c / k == g ? T{1} : T{};
}

/// w += S X with the indicator X. @throws shape_error on a shape mismatch
template <class T>
void slorb_add(span2<const T> s, std::size_t k, span2<T> w) {
  detail::check_slorb<T>("quern::slorb_add", w, k, s);
  detail::for_groups(w.rows(), w.cols(), k,
                     [&](std::size_t r, std::size_t g, std::size_t first, std::size_t end) {
                       for (std::size_t c = first; c < end; ++c) w(r, c) += s(r, g);
                     });
}
/// w += S X with a trained X [groups x cols]; Eigen checks nothing, so the shapes are the caller's to know.
template <class T>
void slorb_add(span2<const T> s, span2<const T> x, span2<T> w) {
  eigen_map(w).noalias() += eigen_map(s) * eigen_map(x);
}

/// ds += dw X^T, the sums of dw [rows x cols] over the groups: since W and S enter the layer only through
/// mask (.) W + S X, the gradient of that matrix is all that is needed. @throws shape_error on a shape mismatch
template <class T>
void slorb_backward(span2<const T> dw, std::size_t k, span2<T> ds) {
  detail::check_slorb<T>("quern::slorb_backward", dw, k, ds);
  detail::for_groups(dw.rows(), dw.cols(), k,
                     [&](std::size_t r, std::size_t g, std::size_t first, std::size_t end) {
                       T sum{};
                       for (std::size_t c = first; c < end; ++c) sum += dw(r, c);
                       ds(r, g) += sum;
                     });
}
/// The same for a trained X: ds += dw X^T, dx += S^T dw.
template <class T>
void slorb_backward(span2<const T> dw, span2<const T> s, span2<const T> x, span2<T> ds, span2<T> dx) {
  eigen_map(ds).noalias() += eigen_map(dw) * eigen_map(x).transpose();
  eigen_map(dx).noalias() += eigen_map(s).transpose() * eigen_map(dw);
}

/// pooled = x X^T with the indicator X: the sums of the inputs x [n x cols] over the groups, [n x groups]. What a
/// forward pass multiplies S with. @throws shape_error on a shape mismatch
template <class T>
void slorb_pool(span2<const T> x, std::size_t k, span2<T> pooled) {
  detail::check_slorb<T>("quern::slorb_pool", x, k, pooled);
  detail::for_groups(x.rows(), x.cols(), k,
                     [&](std::size_t r, std::size_t g, std::size_t first, std::size_t end) {
                       T sum{};
                       for (std::size_t c = first; c < end; ++c) sum += x(r, c);
                       pooled(r, g) = sum;
                     });
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
