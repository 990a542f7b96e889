// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

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
void check_gradient(matrix at, const matrix& gradient, F&& loss) {
  for (std::size_t i = 0; i < at.size(); ++i) {
    const double h = 1e-5, middle = at[i];
    at[i] = middle + h;
    const double above = loss(at);
    at[i] = middle - h;
    const double below = loss(at);
    at[i] = middle;
    CHECK(std::abs(gradient[i] - (above - below) / (2 * h)) <= 1e-9);
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
