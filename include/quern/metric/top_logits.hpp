// SPDX-License-Identifier: Apache-2.0
#pragma once
// const auto teacher = quern::keep_top(logits, 512);       // 8 bytes a logit that is kept
// double sum = quern::kl_divergence(teacher, 0, student);         // rows 0 .. student.rows() - 1 of teacher

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <quern/metric/kl.hpp>
#include <vector>

namespace quern::inline v0 {

/// What is kept of a teacher's logits: the `k` likeliest classes of every row and their log-probabilities at one
/// temperature; the others are one class together. A vocabulary of 49,152 takes 196 KB a row, its best 512 take 4.
struct top_logits {
  std::size_t rows = 0, classes = 0, k = 0;
  float temperature = 1;
  std::vector<std::int32_t> ids;  ///< [rows x k] ascending within a row, each below `classes`
  std::vector<float> log_p;       ///< [rows x k] of these classes
  std::vector<float> rest;        ///< [rows] probability of all other classes together

  /// What `keep_top` will allocate for the three arrays.
  static constexpr std::size_t bytes(std::size_t rows, std::size_t k) {
    return rows * (k * (sizeof(std::int32_t) + sizeof(float)) + sizeof(float));
  }
};

inline namespace QUERN_BUILD {

/// The sum over rows of KL(p || q) after the classes outside a row's top k have been made one class: never above
/// the full divergence (classes that are joined can only become harder to tell apart), equal to it for k = classes.
/// dstudent = scale / temperature * (q - p) for the top classes, scale / temperature * (q / q_rest) (q_rest - p_rest)
/// for the others; it may be student. Rows of @p student [n x classes] are rows first .. first + n - 1 of @p teacher.
/// Finite where logits are and their range over the temperature is one that T has; NaN or infinite logits give NaN.
/// Allocates one row. @throws shape_error on a length mismatch
template <class T>
double kl_gradient(const top_logits& teacher, std::size_t first, span2<const T> student, T scale,
                   span2<T> dstudent) {
  require(first <= teacher.rows && student.rows() <= teacher.rows - first, "quern::kl_gradient: rows ", first,
          " .. ", first + student.rows(), " of a teacher that has ", teacher.rows);
  require(student.cols() == teacher.classes, "quern::kl_gradient: student has ", student.cols(),
          " classes and teacher ", teacher.classes, "; they must be equal");
  require(dstudent.rows() == student.rows() && dstudent.cols() == student.cols(),
          "quern::kl_gradient: dstudent must have the shape of student");
  const T temperature = static_cast<T>(teacher.temperature), factor = scale / temperature;
  std::vector<T> log_q(teacher.k);
  detail::scratch_row<T> row(static_cast<Eigen::Index>(teacher.classes));  // see for_each_log_pair
  const std::span<T> logs(row.data(), teacher.classes);
  double sum = 0;
  for (std::size_t r = 0; r < student.rows(); ++r) {
    const std::int32_t* const ids = teacher.ids.data() + (first + r) * teacher.k;
    const float* const log_p = teacher.log_p.data() + (first + r) * teacher.k;
    detail::log_softmax({student.row(r), student.cols()}, temperature, logs);
    const T p_rest = static_cast<T>(teacher.rest[first + r]);
    T total = p_rest;  // 1 but for the rounding of what was stored
    for (std::size_t i = 0; i < teacher.k; ++i) {
      T& log = logs[static_cast<std::size_t>(ids[i])];
      log_q[i] = log;
      log = -std::numeric_limits<T>::infinity();  // adds nothing to the rest
      total += std::exp(static_cast<T>(log_p[i]));
    }
    if (teacher.k < teacher.classes) {
      // By its logarithm: the rest of a sharp student is 0 in T, and a difference or a quotient of it not finite.
      const T log_rest = log_sum_exp(std::span<const T>(logs));
      if (p_rest > 0) sum += static_cast<double>(p_rest * (std::log(p_rest) - log_rest));
      row = (row - log_rest).exp() * (factor * (total * std::exp(log_rest) - p_rest));
    }
    for (std::size_t i = 0; i < teacher.k; ++i) {
      const T p = std::exp(static_cast<T>(log_p[i]));
      sum += static_cast<double>(p * (static_cast<T>(log_p[i]) - log_q[i]));
      row[ids[i]] = factor * (total * std::exp(log_q[i]) - p);
    }
    std::copy_n(row.data(), teacher.classes, dstudent.row(r));
  }
  return sum;
}

/// The divergence alone; allocates as much as student.
template <class T>
double kl_divergence(const top_logits& teacher, std::size_t first, span2<const T> student) {
  detail::scratch_row<T> scratch(static_cast<Eigen::Index>(student.rows() * student.cols()));
  return kl_gradient<T>(teacher, first, student, T{1}, {scratch.data(), student.rows(), student.cols()});
}

/// Of logits [rows x classes]; equal logits are taken in the order of their ids. NaN or infinite logits make the
/// row's probabilities NaN. @throws shape_error unless 1 <= k <= classes and temperature > 0
inline top_logits keep_top(span2<const float> logits, std::size_t k, float temperature = 1) {
  require(k > 0 && k <= logits.cols(), "quern::keep_top: k is ", k, "; it must be 1..", logits.cols());
  require(temperature > 0, "quern::keep_top: temperature must be positive, got ", temperature);
  top_logits out;
  out.rows = logits.rows(), out.classes = logits.cols(), out.k = k, out.temperature = temperature;
  out.ids.resize(out.rows * k);
  out.log_p.resize(out.rows * k);
  out.rest.resize(out.rows);
  detail::scratch_row<float> own(static_cast<Eigen::Index>(out.classes));
  const std::span<float> row(own.data(), out.classes);
  std::vector<std::int32_t> order(out.classes);
  for (std::size_t r = 0; r < out.rows; ++r) {
    detail::log_softmax<float>({logits.row(r), logits.cols()}, temperature, row);
    std::iota(order.begin(), order.end(), 0);
    const auto at = [&](std::int32_t id) { return row[static_cast<std::size_t>(id)]; };
    const auto end = order.begin() + static_cast<std::ptrdiff_t>(k);
    // A NaN row is left in order: it compares with nothing.
    if (!std::isnan(row[0]))
      std::nth_element(order.begin(), end - 1, order.end(), [&](std::int32_t a, std::int32_t b) {
        return at(a) > at(b) || (at(a) == at(b) && a < b);
      });
    std::sort(order.begin(), end);
    std::copy_n(order.begin(), k, out.ids.begin() + static_cast<std::ptrdiff_t>(r * k));
    double others = 0;
    std::transform(order.begin(), end, out.log_p.begin() + static_cast<std::ptrdiff_t>(r * k), at);
    std::for_each(end, order.end(),
                  [&](std::int32_t id) { others += std::exp(static_cast<double>(at(id))); });
    out.rest[r] = static_cast<float>(others);
  }
  return out;
}

}  // namespace QUERN_BUILD

}  // namespace quern::inline v0
