// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::distillation how{.weight = 0.67f, .temperature = 2};
// auto sums = quern::distill_gradient<float>(how, teacher_logits, logits, targets, 1.f / n, dlogits);
// auto sums = quern::distill_gradient<float>(how, top, first_row, logits, targets, 1.f / n, dlogits);

#include <cmath>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/span2.hpp>
#include <quern/dense/matrix.hpp>
#include <quern/metric/cross_entropy.hpp>
#include <quern/metric/kl.hpp>
#include <quern/metric/top_logits.hpp>
#include <span>

namespace quern::inline v0 {

/// The loss of a student beside a teacher (AST eq. 4): weight * T^2 * KL + (1 - weight) * cross-entropy, where the
/// divergence is between distributions at temperature T. T^2 keeps the size of its gradient as T grows (Hinton et
/// al., arXiv 1503.02531). Values of AST for GPT-2; smaller models want a larger weight.
struct distillation {
  float weight = 0.67f;  ///< of the divergence, 0..1
  float temperature = 2;
  bool reverse = false;  ///< KL(student || teacher) instead of KL(teacher || student)
  friend bool operator==(const distillation&, const distillation&) = default;
};

/// Sums over rows, in nats; the divergence without its factor T^2.
struct distill_sums {
  double cross_entropy = 0, divergence = 0;
  /// The loss of the rows together.
  double loss(const distillation& how) const {
    const double w = static_cast<double>(how.weight), t = static_cast<double>(how.temperature);
    return w * t * t * divergence + (1 - w) * cross_entropy;
  }
};

/// Distances between hidden states that other methods distill by, as baselines.
enum class hidden_loss {
  squarehead,  ///< |s - t|^2 / |t|^2 of a layer (Kurtic et al., arXiv 2310.06927)
  tinybert,  ///< the mean of (s - t)^2 (Jiao et al., arXiv 1909.10351, eq. 8, with equal widths: no projection)
};

inline namespace QUERN_BUILD {
namespace detail {

/// dlogits += factor * (softmax - one_hot), beside the divergence that is there; returns the sum.
template <class T>
double add_cross_entropy(span2<const T> logits, std::span<const std::int32_t> targets, T factor,
                         span2<T> dlogits) {
  require(targets.size() == logits.rows(), "quern::distill_gradient: ", targets.size(), " targets for ",
          logits.rows(), " rows of logits; they must be equal");
  scratch_row<T> row(static_cast<Eigen::Index>(logits.cols()));
  double sum = 0;
  for (std::size_t r = 0; r < logits.rows(); ++r) {
    sum += cross_entropy_gradient<T>(logits.rows_of(r, 1), targets.subspan(r, 1), factor,
                                     {row.data(), 1, logits.cols()});
    eigen_array(dlogits.row(r), logits.cols()) += row;
  }
  return sum;
}

template <class T>
T divergence_factor(const distillation& how, T scale) {
  require(how.weight >= 0 && how.weight <= 1, "quern::distill_gradient: the weight is ", how.weight,
          "; it must be 0..1");
  return scale * static_cast<T>(how.weight) * static_cast<T>(how.temperature) *
         static_cast<T>(how.temperature);
}

}  // namespace detail

/// The sums of the loss over the rows of @p logits [n x classes] against @p teacher [n x classes] and @p targets
/// [n], and dlogits = scale * the gradient of loss(). dlogits must not be logits. NaN logits give NaN sums.
/// Allocates two rows. @throws shape_error on a length mismatch, a weight outside 0..1, or a temperature that is
/// not positive
template <class T>
distill_sums distill_gradient(const distillation& how, span2<const T> teacher, span2<const T> logits,
                              std::span<const std::int32_t> targets, T scale, span2<T> dlogits) {
  const T factor = detail::divergence_factor<T>(how, scale), t = static_cast<T>(how.temperature);
  distill_sums sums;
  sums.divergence = how.reverse ? reverse_kl_gradient<T>(teacher, logits, factor, t, dlogits)
                                : kl_gradient<T>(teacher, logits, factor, t, dlogits);
  sums.cross_entropy =
      detail::add_cross_entropy<T>(logits, targets, scale * (T{1} - static_cast<T>(how.weight)), dlogits);
  return sums;
}

/// The same for a teacher of whose logits the top k were kept: rows first .. first + n - 1 of it. The temperature
/// must be the one they were kept at, and the divergence forward: there is no reverse one on a class that stands for
/// many. @throws shape_error where it is not, and as above
template <class T>
distill_sums distill_gradient(const distillation& how, const top_logits& teacher, std::size_t first,
                              span2<const T> logits, std::span<const std::int32_t> targets, T scale,
                              span2<T> dlogits) {
  require(!how.reverse && teacher.temperature == how.temperature,
          "quern::distill_gradient: top logits were kept at temperature ", teacher.temperature,
          " for the forward divergence; keep them again for what is asked");
  distill_sums sums;
  sums.divergence = kl_gradient<T>(teacher, first, logits, detail::divergence_factor<T>(how, scale), dlogits);
  sums.cross_entropy =
      detail::add_cross_entropy<T>(logits, targets, scale * (T{1} - static_cast<T>(how.weight)), dlogits);
  return sums;
}

/// The distance of the hidden states of one layer, both [n x width], and dstudent += scale * its gradient.
/// @throws shape_error on a shape mismatch
template <class T>
double hidden_gradient(hidden_loss kind, span2<const T> teacher, span2<const T> student, T scale,
                       span2<T> dstudent) {
  require(teacher.rows() == student.rows() && teacher.cols() == student.cols() &&
              dstudent.rows() == student.rows() && dstudent.cols() == student.cols(),
          "quern::hidden_gradient: teacher is [", teacher.rows(), " x ", teacher.cols(), "] and student [",
          student.rows(), " x ", student.cols(), "]; they must be equal");
  const T size = kind == hidden_loss::squarehead ? eigen_map(teacher).squaredNorm()
                                                 : static_cast<T>(teacher.rows() * teacher.cols());
  const double distance = static_cast<double>((eigen_map(student) - eigen_map(teacher)).squaredNorm()) /
                          static_cast<double>(size);
  eigen_map(dstudent) += (T{2} * scale / size) * (eigen_map(student) - eigen_map(teacher));
  return distance;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
