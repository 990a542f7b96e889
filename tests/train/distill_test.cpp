// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <quern/core/rng.hpp>
#include <quern/train/distill.hpp>
#include <vector>

using namespace quern;

namespace {

constexpr std::size_t rows = 4, classes = 7;

struct problem {
  std::vector<double> teacher, student, gradient;
  std::vector<std::int32_t> targets{3, 0, 6, 3};
  problem() : gradient(rows * classes) {
    rng g(31);
    for (auto* v : {&teacher, &student})
      for (std::size_t i = 0; i < rows * classes; ++i) v->push_back(2 * static_cast<double>(g.normal()));
  }
  span2<const double> view(const std::vector<double>& v) const { return {v.data(), rows, classes}; }
  span2<double> out() { return {gradient.data(), rows, classes}; }
};

/// Central differences of a loss in every student logit against what @p step wrote to gradient.
template <class Step>
void check_gradient(problem& p, double scale, const distillation& how, Step&& step) {
  step();
  const std::vector<double> gradient = p.gradient;
  for (std::size_t i = 0; i < p.student.size(); ++i) {
    const double at = p.student[i], h = 1e-5;
    p.student[i] = at + h;
    const double above = step().loss(how);
    p.student[i] = at - h;
    const double below = step().loss(how);
    p.student[i] = at;
    // Rounding eps * 50 / h = 1e-9; truncation h^2 f''' / 6 with f''' below 10: 2e-10. Top logits are kept in float,
    // but teacher and loss are the same in both.
    CHECK(std::abs(scale * (above - below) / (2 * h) - gradient[i]) < 1e-8);
  }
}

}  // namespace

TEST_CASE("two classes by hand") {
  // Teacher logits 0, ln 9 at temperature 2: 1/4, 3/4. Student 0, 0: 1/2, 1/2 at any temperature.
  const std::vector<double> teacher{0, std::log(9.0)}, student{0, 0};
  const std::vector<std::int32_t> target{1};
  std::vector<double> d(2);
  const distillation how{.weight = 0.75f, .temperature = 2};
  const distill_sums sums = distill_gradient<double>(how, {teacher.data(), 1, 2}, {student.data(), 1, 2},
                                                     target, 1.0, span2<double>(d.data(), 1, 2));
  const double kl = 0.25 * std::log(0.5) + 0.75 * std::log(1.5), ce = std::log(2.0);
  // A few roundings of double on values of order one, here and below.
  CHECK(sums.divergence == doctest::Approx(kl).epsilon(1e-14));
  CHECK(sums.cross_entropy == doctest::Approx(ce).epsilon(1e-14));
  CHECK(sums.loss(how) == doctest::Approx(0.75 * 4 * kl + 0.25 * ce).epsilon(1e-14));
  // 3/4 * 4 / 2 * (q - p) + 1/4 * (q - 1_target) of the first class.
  CHECK(d[0] == doctest::Approx(1.5 * (0.5 - 0.25) + 0.25 * 0.5).epsilon(1e-14));
  CHECK(d[1] == doctest::Approx(-d[0]).epsilon(1e-14));
}

TEST_CASE("gradients against central differences: forward, reverse, top logits, and each end of the mix") {
  for (const float weight : {0.0f, 0.5f, 1.0f})
    for (const float temperature : {1.0f, 2.0f}) {
      problem p;
      for (const bool reverse : {false, true}) {
        const distillation how{weight, temperature, reverse};
        check_gradient(p, 0.3, how, [&] {
          return distill_gradient<double>(how, p.view(p.teacher), p.view(p.student), p.targets, 0.3, p.out());
        });
      }
      const distillation how{weight, temperature};
      std::vector<float> rounded(p.teacher.begin(), p.teacher.end());
      const top_logits top = keep_top({rounded.data(), rows, classes}, 3, temperature);
      check_gradient(p, 0.3, how, [&] {
        return distill_gradient<double>(how, top, 0, p.view(p.student), p.targets, 0.3, p.out());
      });
    }
}

TEST_CASE("a teacher like the student leaves nothing; all logits kept are the full teacher") {
  problem p;
  const distillation how{.weight = 1, .temperature = 2};
  const auto same =
      distill_gradient<double>(how, p.view(p.student), p.view(p.student), p.targets, 1.0, p.out());
  CHECK(std::abs(same.divergence) < 1e-14);
  for (const double g : p.gradient) CHECK(std::abs(g) < 1e-14);

  std::vector<float> rounded(p.teacher.begin(), p.teacher.end());
  const std::vector<double> again(rounded.begin(), rounded.end());
  const auto full = distill_gradient<double>(how, p.view(again), p.view(p.student), p.targets, 1.0, p.out());
  const auto kept = distill_gradient<double>(how, keep_top({rounded.data(), rows, classes}, classes, 2), 0,
                                             p.view(p.student), p.targets, 1.0, p.out());
  CHECK(kept.divergence == doctest::Approx(full.divergence).epsilon(1e-6));  // log-probabilities in float
}

TEST_CASE("hidden states: by hand, and against central differences") {
  const std::vector<double> teacher{3, 4}, student{3, 6};
  std::vector<double> d{1, 1};
  const auto distance = [&](hidden_loss kind) {
    return hidden_gradient<double>(kind, {teacher.data(), 1, 2}, {student.data(), 1, 2}, 0.5,
                                   {d.data(), 1, 2});
  };
  CHECK(distance(hidden_loss::squarehead) == 4.0 / 25);
  CHECK(d[0] == 1);
  CHECK(d[1] == 1 + 0.5 * 2 * 2 / 25);  // adds to what is there
  d = {0, 0};
  CHECK(distance(hidden_loss::tinybert) == 2);
  CHECK(d[1] == 0.5 * 2 * 2 / 2);

  problem p;
  for (const hidden_loss kind : {hidden_loss::squarehead, hidden_loss::tinybert})
    check_gradient(p, 1, {.weight = 0}, [&] {
      p.gradient.assign(rows * classes, 0);
      return distill_sums{
          .cross_entropy = hidden_gradient<double>(kind, p.view(p.teacher), p.view(p.student), 1.0, p.out())};
    });
}

TEST_CASE("misuse is refused; NaN shows") {
  problem p;
  const auto step = [&](const distillation& how, std::size_t targets = rows) {
    return distill_gradient<double>(how, p.view(p.teacher), p.view(p.student),
                                    std::span(p.targets).first(targets), 1.0, p.out());
  };
  CHECK_THROWS_AS(step({.weight = 1.5f}), shape_error);
  CHECK_THROWS_AS(step({.temperature = 0}), shape_error);
  CHECK_THROWS_AS(step({}, 3), shape_error);
  const std::vector<float> teacher(rows * classes);
  const top_logits top = keep_top({teacher.data(), rows, classes}, 2, 1);
  CHECK_THROWS_AS(distill_gradient<double>(distillation{.temperature = 2}, top, 0, p.view(p.student),
                                           p.targets, 1.0, p.out()),
                  shape_error);
  p.student[9] = std::nan("");
  CHECK(std::isnan(step({}).loss({})));
}
