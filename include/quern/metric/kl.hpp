// SPDX-License-Identifier: Apache-2.0
#pragma once
// double sum = quern::kl_divergence<float>(teacher, student);                        // nats, over all rows
// double sum = quern::kl_gradient<float>(teacher, student, 1.f / n, 2.f, dstudent);  // temperature 2
// A teacher in little memory: see metric/top_logits.hpp.

#include <algorithm>
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
namespace detail {

template <class T>
using scratch_row = Eigen::Array<T, Eigen::Dynamic, 1>;

/// Makes log(softmax(logits / temperature)) of one row. NaN or infinite logits make all of it NaN.
template <class T>
void log_softmax(std::span<const T> logits, T temperature, std::span<T> out) {
  eigen_array(out) = eigen_array(logits) / temperature;
  eigen_array(out) -= log_sum_exp(std::span<const T>(out));
}

/// Calls each(p, q) for the log-probabilities of every row: p of the teacher in scratch, q of the student in the row of
/// @p out, which has the shape of student, or in scratch where out has no rows. Checks shapes, @p name says for whom.
template <class T, class Each>
void for_each_log_pair(const char* name, span2<const T> teacher, span2<const T> student, T temperature,
                       span2<T> out, Each&& each) {
  require(teacher.rows() == student.rows() && teacher.cols() == student.cols(), name, ": teacher is [",
          teacher.rows(), " x ", teacher.cols(), "] and student [", student.rows(), " x ", student.cols(),
          "]; they must be equal");
  require(temperature > 0, name, ": temperature must be positive, got ", temperature);
  // At a vector boundary, as Eigen's own memory is: elsewhere exp of the first elements would be rounded otherwise,
  // and the same call would not always give the same bits. So a row of out that starts elsewhere is copied to.
  constexpr std::uintptr_t widest = 64;  // bytes of a vector
  scratch_row<T> scratch(static_cast<Eigen::Index>(teacher.cols())), own(scratch.size());
  const std::span<T> p(scratch.data(), teacher.cols());
  for (std::size_t r = 0; r < teacher.rows(); ++r) {
    T* const to = out.rows() == 0 ? own.data() : out.row(r);
    const bool at_boundary = reinterpret_cast<std::uintptr_t>(to) % widest == 0;
    const std::span<T> q(at_boundary ? to : own.data(), teacher.cols());
    log_softmax({teacher.row(r), teacher.cols()}, temperature, p);
    log_softmax({student.row(r), student.cols()}, temperature, q);
    each(eigen_array(p), eigen_array(q));
    if (!at_boundary) std::copy(q.begin(), q.end(), to);
  }
}

}  // namespace detail

/// The sum over rows of KL(p || q), in nats, with p = softmax(teacher / temperature) and q = softmax(student /
/// temperature), both [rows x classes]: the fitness of EvoPress (section 3) and, with a temperature, the loss of
/// AST (eq. 4) without its factor temperature^2. Rounding may make a sum of nearly equal rows a little negative.
/// Logits that are NaN or infinite give NaN. Allocates two rows. @throws shape_error on a length mismatch
template <class T>
double kl_divergence(span2<const T> teacher, span2<const T> student, T temperature = T{1}) {
  double sum = 0;
  detail::for_each_log_pair(
      "quern::kl_divergence", teacher, student, temperature, span2<T>(),
      [&](const auto& p, const auto& q) { sum += static_cast<double>((p.exp() * (p - q)).sum()); });
  return sum;
}

/// kl_divergence, and its gradient dstudent = scale / temperature * (q - p) [rows x classes]. dstudent may be
/// student; allocates two rows. @throws shape_error on a length mismatch
template <class T>
double kl_gradient(span2<const T> teacher, span2<const T> student, T scale, T temperature,
                   span2<T> dstudent) {
  require(dstudent.rows() == student.rows() && dstudent.cols() == student.cols(),
          "quern::kl_gradient: dstudent must have the shape of student");
  double sum = 0;
  detail::for_each_log_pair("quern::kl_gradient", teacher, student, temperature, dstudent,
                            [&](const auto& p, auto q) {
                              sum += static_cast<double>((p.exp() * (p - q)).sum());
                              q = (q.exp() - p.exp()) * (scale / temperature);
                            });
  return sum;
}

/// The sum over rows of KL(q || p), the reverse divergence (MiniLLM, arXiv 2306.08543), and its gradient dstudent =
/// scale / temperature * q (log q - log p - KL(q || p)). dstudent may be student; allocates two rows.
/// @throws shape_error on a length mismatch
template <class T>
double reverse_kl_gradient(span2<const T> teacher, span2<const T> student, T scale, T temperature,
                           span2<T> dstudent) {
  require(dstudent.rows() == student.rows() && dstudent.cols() == student.cols(),
          "quern::reverse_kl_gradient: dstudent must have the shape of student");
  double sum = 0;
  detail::for_each_log_pair("quern::reverse_kl_gradient", teacher, student, temperature, dstudent,
                            [&](const auto& p, auto q) {
                              const T kl = (q.exp() * (q - p)).sum();
                              sum += static_cast<double>(kl);
                              q = q.exp() * (q - p - kl) * (scale / temperature);
                            });
  return sum;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
