// SPDX-License-Identifier: Apache-2.0
#pragma once
// double nll = quern::cross_entropy(logits_row, target);                     // -log p(target), nats
// double sum = quern::cross_entropy_gradient(logits, targets, 1.f / n, dlogits);   // (p - 1_target) / n

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/span2.hpp>
#include <quern/dense/softmax.hpp>
#include <span>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The negative log likelihood, in nats, of class @p target under softmax(logits). NaN or infinite logits
/// give NaN, which the caller must refuse. @throws shape_error if target is not an index of logits
template <class T>
double cross_entropy(std::span<const T> logits, std::size_t target) {
  require(target < logits.size(), "quern::cross_entropy: target ", target, " must be below the ",
          logits.size(), " classes");
  return static_cast<double>(log_sum_exp(logits)) - static_cast<double>(logits[target]);
}

/// The sum over rows of the negative log likelihoods of `targets` [rows], and the gradient
/// dlogits = scale * (softmax(logits) - one_hot(target)) [rows x classes]. dlogits may be logits.
/// NaN logits give a NaN sum. @throws shape_error on a length mismatch or a target out of range
template <class T>
double cross_entropy_gradient(span2<const T> logits, std::span<const std::int32_t> targets, T scale,
                              span2<T> dlogits) {
  require(targets.size() == logits.rows(), "quern::cross_entropy_gradient: ", targets.size(), " targets for ",
          logits.rows(), " rows of logits; they must be equal");
  require(dlogits.rows() == logits.rows() && dlogits.cols() == logits.cols(),
          "quern::cross_entropy_gradient: dlogits must have the shape of logits");
  double sum = 0;
  for (std::size_t r = 0; r < logits.rows(); ++r) {
    const auto target = static_cast<std::size_t>(targets[r]);
    require(targets[r] >= 0 && target < logits.cols(), "quern::cross_entropy_gradient: target ", targets[r],
            " of row ", r, " must be 0..", logits.cols() - 1);
    const T target_logit = logits(r, target);
    const std::span<T> gradient(dlogits.row(r), dlogits.cols());
    sum += static_cast<double>(softmax(std::span<const T>(logits.row(r), logits.cols()), gradient)) -
           static_cast<double>(target_logit);
    gradient[target] -= T{1};
    eigen_array(gradient) *= scale;
  }
  return sum;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
