// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::eigen_matrix<double> h = gram;                       // symmetric, positive (semi)definite
// auto lower = quern::cholesky<double>(h, 0.01);              // h + 0.01 mean(diag h) I = L L^T
// if (!lower) return lower.error();                           // says at which damping it broke down
// auto inverse = quern::cholesky_inverse<double>(*lower);     // (L L^T)^-1

#include <Eigen/Cholesky>
#include <cmath>
#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/dense/matrix.hpp>
#include <utility>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The lower factor L of A + damping * mean(diag A) * I = L L^T, zero above the diagonal. Reads the lower
/// triangle of a [n x n] and factors in place, in the caller's memory where it is moved in; a matrix of zeros is damped
/// on the scale of one. n^3 / 3 multiply-adds.
/// @throws shape_error if a is not square
/// @returns an error if damping is negative, if an element of the lower triangle is NaN or infinite (it names
/// row
///          and column), or if the damped matrix is not positive definite (it names the damping)
template <class T>
result<eigen_matrix<T>> cholesky(eigen_matrix<T> a, double damping = 0) {
  const Eigen::Index n = a.rows();
  require(a.cols() == n, "quern::cholesky: the matrix is ", n, " x ", a.cols(), "; it must be square");
  if (!(damping >= 0) || !std::isfinite(damping))
    return error("quern::cholesky: damping is ", damping, "; it must be finite and not negative");
  for (Eigen::Index r = 0; r < n; ++r)
    for (Eigen::Index c = 0; c <= r; ++c)
      if (!std::isfinite(a(r, c)))
        return error("quern::cholesky: row ", r, " column ", c,
                     " is infinite or not a number; check the samples");
  const double mean = n == 0 ? 0.0 : static_cast<double>(a.diagonal().mean());
  a.diagonal().array() += static_cast<T>(damping * (mean > 0 ? mean : 1.0));
  // In place: the factor replaces the lower triangle.
  const Eigen::LLT<Eigen::Ref<eigen_matrix<T>>, Eigen::Lower> factor(a);
  if (factor.info() != Eigen::Success || !a.diagonal().allFinite())
    return error("quern::cholesky: a matrix of ", n, " rows is not positive definite at damping ", damping,
                 "; give more samples or a larger damping");
  a.template triangularView<Eigen::StrictlyUpper>().setZero();
  return {std::move(a)};  // nvcc does not move what it converts
}

/// (L L^T)^-1 of a lower factor with a positive diagonal, both triangles filled. About 4 n^3 / 3
/// multiply-adds.
/// @throws shape_error if lower is not square
template <class T>
eigen_matrix<T> cholesky_inverse(const eigen_matrix<T>& lower) {
  const Eigen::Index n = lower.rows();
  require(lower.cols() == n, "quern::cholesky_inverse: the factor is ", n, " x ", lower.cols(),
          "; it must be square");
  eigen_matrix<T> half = eigen_matrix<T>::Identity(n, n);
  lower.template triangularView<Eigen::Lower>().solveInPlace(half);
  eigen_matrix<T> inverse(n, n);
  inverse.noalias() = half.transpose() * half;
  return inverse;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
