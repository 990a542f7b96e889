// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<float> logits{1, 2, 3}, p(3);
// float z = quern::log_sum_exp(std::span<const float>(logits));   // 3.4076
// quern::softmax(std::span<const float>(logits), std::span(p));   // p sums to 1

#include <cmath>
#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/dense/matrix.hpp>
#include <span>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// log(sum(exp(x))), the maximum taken out first, so that no finite input overflows. A NaN or +inf among the
/// inputs gives NaN; an empty input is an error. One pass for the maximum, one for the sum; allocates
/// nothing.
/// @throws shape_error if x is empty
template <class T>
T log_sum_exp(std::span<const T> x) {
  require(!x.empty(), "quern::log_sum_exp: x is empty; pass at least one value");
  const auto values = eigen_array(x);
  const T top = values.template maxCoeff<Eigen::PropagateNaN>();
  // Said here: Eigen's exp clamps its argument first, and what that makes of a NaN is up to the instruction
  // set.
  if (!std::isfinite(top)) return std::numeric_limits<T>::quiet_NaN();
  return top + std::log((values - top).exp().sum());
}

/// p = exp(x - log_sum_exp(x)): positive, sums to 1. p may be x. Returns log_sum_exp(x); where that is NaN, p
/// is NaN too. @throws shape_error if the lengths differ or x is empty
template <class T>
T softmax(std::span<const T> x, std::span<T> p) {
  require(x.size() == p.size(), "quern::softmax: x has ", x.size(), " values and p ", p.size(),
          "; they must be equal");
  const T log_sum = log_sum_exp(x);
  eigen_array(p) = (eigen_array(x) - log_sum).exp();
  if (std::isnan(log_sum)) eigen_array(p).setConstant(log_sum);
  return log_sum;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
