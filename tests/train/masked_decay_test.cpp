// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/train/masked_decay.hpp>
#include <vector>

using namespace quern;

namespace {

/// Kept: the first weight of every row.
bit_mask first_of_each_row(std::size_t rows, std::size_t cols) {
  bit_mask m(rows, cols);
  for (std::size_t r = 0; r < rows; ++r) m.set(r, 0, true);
  return m;
}

}  // namespace

TEST_CASE("lambda rises to its final value, or stands, or is zero") {
  const decay_schedule annealed = annealed_decay(0.5f, 100);
  CHECK(annealed(0) == 0);
  CHECK(annealed(25) == 0.125f);
  CHECK(annealed(100) == 0.5f);
  CHECK(annealed(1000) == 0.5f);
  CHECK(static_decay(0.25f)(0) == 0.25f);
  CHECK(no_decay()(7) == 0);
}

TEST_CASE("gradient descent: masked weights are pulled, kept ones are not (AST eq. 3)") {
  // Powers of two: exact in binary. Both weights are 1 and both gradients 0.5 * 2; only the second is masked.
  const bit_mask mask = first_of_each_row(1, 2);
  const std::vector<double> gradient{0.5, 0.5};
  std::vector<double> w{1, 1};
  masked_sgd_update<double>(0.25, 2, 0.5, mask, gradient, w);
  CHECK(w[0] == 0.75);               // 1 - 0.25 * 1
  CHECK(w[1] == 0.75 - 0.25 * 0.5);  // 1 - 0.25 * (1 + 0.5 * 1)
  std::vector<double> three(3);
  CHECK_THROWS_AS(masked_sgd_update<double>(1, 1, 0, mask, three, three), shape_error);
}

TEST_CASE("masked AdamW, two steps by hand") {
  // beta1 = 1/2, beta2 = 3/4, epsilon 0, rate 1/2, weight decay 1/4, lambda 2; weights 8, gradients 4 then 0.
  //   shrunk: 8 * 7/8 = 7;  m = 2
  //   kept:   u = 2,          v = 1/4 * 4 = 1,       step = 1/2 * (2 / (1/2)) / sqrt(1 / (1/4)) = 1: w = 6
  //   masked: u = 2 + 14 = 16, v = 1/4 * 256 = 64,    step = 1/2 * 32 / sqrt(256) = 1:             w = 6
  // second step: shrunk 6 * 7/8 = 5.25; m = 1; 1 - beta1^2 = 3/4, 1 - beta2^2 = 7/16
  //   kept:   u = 1,          v = 3/4 + 1/4 = 1,      w = 5.25 - 1/2 * (4/3) / sqrt(16/7)
  //   masked: u = 1 + 10.5,   v = 48 + 132.25/4,      w = 5.25 - 1/2 * (11.5 * 4/3) / sqrt(81.0625 * 16/7)
  const adamw_options o{.beta1 = 0.5f, .beta2 = 0.75f, .epsilon = 0, .weight_decay = 0.25f};
  const bit_mask mask = first_of_each_row(1, 2);
  std::vector<double> m(2), v(2), w{8, 8};
  masked_adamw_update<double>(o, {.learning_rate = 0.5f, .gradient_scale = 2, .step = 1}, 2.0, mask,
                              std::vector<double>{2, 2}, m, v, w);
  CHECK(w[0] == 6);
  CHECK(w[1] == 6);
  CHECK(v[0] == 1);
  CHECK(v[1] == 64);
  CHECK(m[1] == 2);  // the decay stays out of the first moment
  masked_adamw_update<double>(o, {.learning_rate = 0.5f, .step = 2}, 2.0, mask, std::vector<double>{0, 0}, m,
                              v, w);
  // A handful of roundings of double.
  CHECK(w[0] == doctest::Approx(5.25 - 0.5 * (4.0 / 3) / std::sqrt(16.0 / 7)).epsilon(1e-15));
  CHECK(w[1] == doctest::Approx(5.25 - 0.5 * (11.5 * 4 / 3) / std::sqrt(81.0625 * 16 / 7)).epsilon(1e-15));
}

TEST_CASE("kept weights receive no decay, whatever lambda; masked ones fall to zero without gradients") {
  const bit_mask mask = first_of_each_row(3, 70);  // rows longer than a word of the mask
  std::vector<double> none(210), m(210), v(210), w(210, 1.0);
  for (std::uint64_t step = 1; step <= 400; ++step)
    masked_adamw_update<double>({}, {.learning_rate = 0.01f, .step = step}, 0.5, mask, none, m, v, w);
  for (std::size_t i = 0; i < w.size(); ++i) {
    if (i % 70 == 0)
      CHECK(w[i] == 1);  // 0 / (0 + epsilon)
    else
      CHECK(std::abs(w[i]) < 0.1);
  }
}

TEST_CASE("with everything kept the direction is the first moment, and its square the second moment") {
  rng random(5);
  constexpr std::size_t n = 33;
  const bit_mask all(1, n, true);
  std::vector<double> g(n), w(n), m(n), v(n);
  for (double& x : w) x = static_cast<double>(random.normal());
  std::vector<double> rw = w, rm(n), rv(n);
  for (std::uint64_t step = 1; step <= 20; ++step) {
    for (double& x : g) x = static_cast<double>(random.normal());
    masked_adamw_update<double>({.beta1 = 0.875f, .beta2 = 0.75f}, {.learning_rate = 0.125f, .step = step},
                                3.0, all, g, m, v, w);
    for (std::size_t i = 0; i < n; ++i) {
      rm[i] = 0.875 * rm[i] + 0.125 * g[i];
      rv[i] = 0.75 * rv[i] + 0.25 * rm[i] * rm[i];
      const double t = static_cast<double>(step);
      rw[i] -= 0.125 * (rm[i] / (1 - std::pow(0.875, t))) /
               (std::sqrt(rv[i] / (1 - std::pow(0.75, t))) + static_cast<double>(1e-8f));
    }
  }
  // Twenty steps of about ten roundings on values of order one.
  for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(w[i] - rw[i]) <= 200 * 2.3e-16 * (1 + std::abs(rw[i])));
}

TEST_CASE("AdamS by hand: the pull takes over, has the weight's sign, and none at zero") {
  // share 1/4, lambda 8: masked u = 3/4 m + 2 sign(w). Gradients 4, beta1 1/2: m = 2, u = 1.5 +- 2.
  const adamw_options o{.beta1 = 0.5f, .beta2 = 0.75f, .epsilon = 0};
  bit_mask mask = first_of_each_row(1, 4);
  std::vector<double> m(4), v(4), w{8, 8, -8, 0};
  adams_update<double>(o, {.learning_rate = 0.5f, .step = 1}, 8.0, 0.25, mask,
                       std::vector<double>{4, 4, 4, 4}, m, v, w);
  // The first step of any u moves by rate * sign(u) * (1/(1/2)) * sqrt(1/4 / (1/4)) ... = rate * 2 * sign / 2.
  CHECK(w[0] == 7);
  CHECK(v[0] == 1);  // 1/4 * 2^2
  CHECK(w[1] == 7);
  CHECK(v[1] == 3.5 * 3.5 / 4);
  CHECK(w[2] == -7);  // u = 1.5 - 2 < 0
  CHECK(v[2] == 0.25 / 4);
  CHECK(w[3] == -1);  // u = 1.5: the gradient alone
  CHECK(v[3] == 1.5 * 1.5 / 4);
  CHECK_THROWS_AS(adams_update<double>(o, {.learning_rate = 1, .step = 1}, 1.0, 1.5, mask, w, m, v, w),
                  shape_error);
}

TEST_CASE("the executor changes no bit; misuse is refused") {
  rng random(6);
  constexpr std::size_t rows = 300, cols = 130;
  bit_mask mask(rows, cols);
  std::vector<float> g(rows * cols), w(rows * cols);
  for (std::size_t i = 0; i < g.size(); ++i) {
    mask.set(i / cols, i % cols, random.below(2) == 0);
    g[i] = random.normal(), w[i] = random.normal();
  }
  const auto run = [&](auto&& exec) {
    std::vector<float> m(g.size()), v(g.size()), out = w;
    for (std::uint64_t step = 1; step <= 3; ++step)
      masked_adamw_update<float>({}, {.learning_rate = 1e-2f, .step = step}, 0.1f, mask, g, m, v, out, exec);
    return out;
  };
  thread_pool three(3);
  CHECK(run(three) == run(serial{}));
  std::vector<float> m(4), v(4), x(4);
  CHECK_THROWS_AS(masked_adamw_update<float>({}, {.learning_rate = 1, .step = 1}, 0.f, mask, x, m, v, x),
                  shape_error);
  const bit_mask small(2, 2);
  CHECK_THROWS_AS(masked_adamw_update<float>({}, {.learning_rate = 1, .step = 0}, 0.f, small, x, m, v, x),
                  shape_error);
}
