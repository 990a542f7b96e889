// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <quern/core/rng.hpp>
#include <quern/metric/top_logits.hpp>
#include <vector>

namespace {

constexpr std::size_t rows = 3, classes = 13;
using matrix = std::vector<double>;

matrix random_logits(std::uint64_t seed) {
  quern::rng random(seed);
  matrix out(rows * classes);
  for (double& v : out) v = 2 * static_cast<double>(random.normal());
  return out;
}
quern::span2<const double> view(const matrix& m) { return {m.data(), rows, classes}; }
quern::span2<double> view(matrix& m) { return {m.data(), rows, classes}; }

/// Step h: truncation h^2 / 6 |f'''| with third derivatives below 10 for these logits gives 2e-10, rounding
/// eps * |sum| / h <= 2.2e-16 * 20 / 1e-5 = 5e-10.
template <class F>
void check_gradient(matrix at, const matrix& gradient, F&& loss, double h = 1e-5, double within = 1e-9) {
  for (std::size_t i = 0; i < at.size(); ++i) {
    const double middle = at[i];
    at[i] = middle + h;
    const double above = loss(at);
    at[i] = middle - h;
    const double below = loss(at);
    at[i] = middle;
    CHECK(std::abs(gradient[i] - (above - below) / (2 * h)) <= within);
  }
}

/// All logits times @p size.
template <class T>
std::vector<T> scaled(const matrix& logits, double size) {
  std::vector<T> out;
  for (const double v : logits) out.push_back(static_cast<T>(size * v));
  return out;
}

/// A teacher of the top k against the whole one in double, at every k: never above it, and nothing that is not finite.
template <class T>
void check_bound(const std::vector<float>& logits, const std::vector<T>& student, float temperature) {
  const matrix p(logits.begin(), logits.end()), q(student.begin(), student.end());
  const quern::span2<const T> at(student.data(), rows, classes);
  const double full = quern::kl_divergence(view(p), view(q), static_cast<double>(temperature));
  double largest = 0;
  for (std::size_t i = 0; i < p.size(); ++i) largest = std::max({largest, std::abs(p[i]), std::abs(q[i])});
  largest /= static_cast<double>(temperature);
  // A log-probability is a quotient less a logarithm of a sum, each rounded at up to `largest`: wrong by e. It changes a
  // probability by the factor exp(e); logits so far apart that e > 1 make probabilities that are 0 or 1 in any case.
  // |log p - log q| <= 2 (2 largest + log 13) in the rows that count.
  const double e = 4 * 0x1p-23 * (2 * largest + std::log(13.0));
  const double rounding = rows * (2 * e + (e < 1 ? std::expm1(e) * 4 * (largest + 2) : 0));
  std::vector<T> gradient(rows * classes);
  for (std::size_t k = 1; k <= classes; ++k) {
    const auto top = quern::keep_top({logits.data(), rows, classes}, k, temperature);
    const double sum = quern::kl_gradient<T>(top, 0, at, T(0.25), {gradient.data(), rows, classes});
    CAPTURE(k);
    CHECK(std::isfinite(sum));
    CHECK(sum <= full + rounding);
    CHECK(sum >= -rounding);
    for (const T g : gradient) CHECK(std::isfinite(g));
  }
}

}  // namespace

TEST_CASE("kl_divergence of hand numbers") {
  // p = (1/4, 3/4), q = (1/2, 1/2): 1/4 log(1/2) + 3/4 log(3/2).
  const matrix p{0, std::log(3.0)}, q{5, 5};
  const quern::span2<const double> teacher(p.data(), 1, 2), student(q.data(), 1, 2);
  const double expected = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  // Four roundings of numbers below 2.
  CHECK(std::abs(quern::kl_divergence(teacher, student) - expected) <= 1e-15);
  CHECK(quern::kl_divergence(teacher, teacher) == 0);
  // Temperature 2: p = (1, sqrt 3) / (1 + sqrt 3).
  const double a = 1 / (1 + std::sqrt(3.0)), b = 1 - a;
  CHECK(std::abs(quern::kl_divergence(teacher, student, 2.0) - (a * std::log(2 * a) + b * std::log(2 * b))) <=
        1e-15);
}

TEST_CASE("gradients against central differences, sums as without them") {
  const matrix teacher = random_logits(1), student = random_logits(2);
  matrix gradient(rows * classes);
  for (const double temperature : {1.0, 2.0}) {
    const double scale = 0.25;
    const double sum =
        quern::kl_gradient<double>(view(teacher), view(student), scale, temperature, view(gradient));
    CHECK(sum == quern::kl_divergence(view(teacher), view(student), temperature));
    CHECK(sum > 0);
    check_gradient(student, gradient, [&](const matrix& s) {
      return scale * quern::kl_divergence(view(teacher), view(s), temperature);
    });
    // KL(q || p) is the divergence with the roles exchanged.
    const double back =
        quern::reverse_kl_gradient<double>(view(teacher), view(student), scale, temperature, view(gradient));
    CHECK(std::abs(back - quern::kl_divergence(view(student), view(teacher), temperature)) <= 1e-13);
    check_gradient(student, gradient, [&](const matrix& s) {
      return scale * quern::kl_divergence(view(s), view(teacher), temperature);
    });
  }
  SUBCASE("in place") {
    matrix both = student;
    quern::kl_gradient<double>(view(teacher), view(student), 0.5, 1.5, view(gradient));
    quern::kl_gradient<double>(view(teacher), view(std::as_const(both)), 0.5, 1.5, view(both));
    CHECK(both == gradient);
  }
}

TEST_CASE("a teacher of the top classes") {
  std::vector<float> small;
  for (const double v : random_logits(1)) small.push_back(static_cast<float>(v));
  const matrix student = random_logits(2);
  const matrix teacher(small.begin(), small.end());
  const quern::span2<const float> logits(small.data(), rows, classes);
  matrix gradient(rows * classes), whole(rows * classes);
  for (const float temperature : {1.0f, 2.0f}) {
    const double full = quern::kl_gradient<double>(view(teacher), view(student), 0.25,
                                                   static_cast<double>(temperature), view(whole));
    double before = 0;
    for (std::size_t k = 1; k <= classes; ++k) {
      const auto top = quern::keep_top(logits, k, temperature);
      const double sum = quern::kl_gradient<double>(top, 0, view(student), 0.25, view(gradient));
      CHECK(sum == quern::kl_divergence(top, 0, view(student)));
      // Fewer classes never tell more. Log-probabilities of the teacher are floats: 3 rows of relative error
      // 2^-22 of logarithms below 12.
      const double rounding = 3 * 12 * 0x1p-22;
      CHECK(sum <= full + rounding);
      CHECK(sum >= before - rounding);
      before = sum;
      check_gradient(student, gradient,
                     [&](const matrix& s) { return 0.25 * quern::kl_divergence(top, 0, view(s)); });
      // Rows may be taken one by one.
      double parts = 0;
      for (std::size_t r = 0; r < rows; ++r)
        parts += quern::kl_divergence(top, r, view(student).rows_of(r, 1));
      CHECK(std::abs(parts - sum) <= 1e-14);
    }
    CHECK(std::abs(before - full) <= 3 * 12 * 0x1p-22);
    for (std::size_t i = 0; i < whole.size(); ++i) CHECK(std::abs(whole[i] - gradient[i]) <= 0x1p-20);
  }
  CHECK(quern::top_logits::bytes(10, 512) == 10 * (512 * 8 + 4));
}

TEST_CASE("the rest of a sharp student has a logarithm though its probability is 0") {
  // exp(-125) is 0 in float; both rests are: nothing is to be learned.
  const std::vector<float> sure{300, 0, 0, 0}, nearly{250, 0, 0, 0};
  std::vector<float> gradient(4, 7);
  const auto same = quern::keep_top({sure.data(), 1, 4}, 1, 2);
  CHECK(quern::kl_gradient<float>(same, 0, {nearly.data(), 1, 4}, 1, {gradient.data(), 1, 4}) == 0);
  for (const float g : gradient) CHECK(g == 0);
  // A rest of p = 3 exp(-10) / (1 + 3 exp(-10)) in three equal parts, which a q of 3 exp(-120) misses: the joined
  // classes lose all that is to be lost, log p + log(1 + 3 exp(-10)) = -10 against -120 for each.
  const std::vector<float> teacher{10, 0, 0, 0}, student{120, 0, 0, 0};
  const double norm = std::log1p(3 * std::exp(-10.0)), rest = 3 * std::exp(-10 - norm);
  const double expected = rest * (110 - norm) - (1 - rest) * norm;
  const auto one = quern::keep_top({teacher.data(), 1, 4}, 1);
  // log p is 10 less a sum of 10.00014, in float known to 2^-21; the loss and p follow it.
  const double sum = quern::kl_gradient<float>(one, 0, {student.data(), 1, 4}, 1, {gradient.data(), 1, 4});
  CHECK(std::abs(sum - expected) <= 0x1p-21);
  CHECK(std::abs(gradient[0] - rest) <= 0x1p-21);
  for (int i = 1; i < 4; ++i) CHECK(std::abs(gradient[std::size_t(i)] + rest / 3) <= rest * 0x1p-20);
}

TEST_CASE("finite logits of any size: finite, never above the whole divergence, gradients of differences") {
  for (const std::uint64_t seed : {1u, 5u, 9u})
    for (const double size : {0.1, 1.0, 15.0, 60.0, 1000.0, 1e30})
      for (const float temperature : {0.5f, 1.0f, 2.0f}) {
        CAPTURE(seed);
        CAPTURE(size);
        CAPTURE(temperature);
        for (const double other : {0.01 * size, size}) {
          const std::vector<float> logits = scaled<float>(random_logits(seed), size);
          check_bound(logits, scaled<float>(random_logits(seed + 1), other), temperature);
          check_bound(logits, scaled<double>(random_logits(seed + 1), other), temperature);
          check_bound(scaled<float>(random_logits(seed), other), scaled<float>(random_logits(seed + 1), size),
                      temperature);
        }
        if (size > 60) continue;
        const std::vector<float> logits = scaled<float>(random_logits(seed), size);
        const matrix student = scaled<double>(random_logits(seed + 1), size);
        matrix gradient(rows * classes);
        for (const std::size_t k : {1u, 4u, 12u, 13u}) {
          const auto top = quern::keep_top({logits.data(), rows, classes}, k, temperature);
          quern::kl_gradient<double>(top, 0, view(student), 0.25, view(gradient));
          // Third derivatives are differences of third cumulants of q, at most .2 / temperature^3: h^2 / 6 of 2 is 3e-9.
          // Sums reach 3 * 2 * 2 * 4 * 60 / .5 = 6e3: eps of it over 2 h is 7e-9.
          check_gradient(
              student, gradient,
              [&](const matrix& s) { return 0.25 * quern::kl_divergence(top, 0, view(s)); }, 1e-4, 1.5e-8);
        }
      }
}

TEST_CASE("what KL refuses") {
  matrix teacher = random_logits(1), student = random_logits(2), out(rows * classes);
  CHECK_THROWS_AS(quern::kl_divergence<double>(view(teacher).rows_of(0, 2), view(student)),
                  quern::shape_error);
  CHECK_THROWS_AS(quern::kl_divergence<double>(view(teacher), view(student), 0.0), quern::shape_error);
  CHECK_THROWS_AS(quern::kl_gradient<double>(view(teacher), view(student), 1, 1, view(out).rows_of(0, 2)),
                  quern::shape_error);
  std::vector<float> logits(rows * classes, 1.0f);
  const quern::span2<const float> flat(logits.data(), rows, classes);
  CHECK_THROWS_AS(quern::keep_top(flat, 0), quern::shape_error);
  CHECK_THROWS_AS(quern::keep_top(flat, classes + 1), quern::shape_error);
  const auto top = quern::keep_top(flat, 4);
  CHECK(std::vector<std::int32_t>(top.ids.begin(), top.ids.begin() + 4) ==
        std::vector<std::int32_t>{0, 1, 2, 3});
  CHECK_THROWS_AS(quern::kl_divergence(top, 1, view(std::as_const(student))), quern::shape_error);
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    student[classes + 1] = bad;
    CHECK(std::isnan(quern::kl_divergence<double>(view(teacher), view(student))));
    CHECK(std::isnan(quern::kl_divergence<double>(view(student), view(teacher))));
    CHECK(std::isnan(quern::reverse_kl_gradient<double>(view(teacher), view(student), 1, 1, view(out))));
    CHECK(std::isnan(quern::kl_divergence(top, 0, view(std::as_const(student)))));
  }
  logits[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(quern::kl_divergence(quern::keep_top(flat, 4), 0, view(std::as_const(teacher)))));
}
