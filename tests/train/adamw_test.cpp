// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/train/adamw.hpp>
#include <vector>

TEST_CASE("the first step is the learning rate against the sign, plus the decay") {
  // m / (1 - beta1) = g and sqrt(v / (1 - beta2)) = |g|, so w moves by lr g / (|g| + epsilon) after shrinking
  // by 1 - lr * decay. In double only rounding remains: a few eps.
  const std::vector<double> gradient{2.0, -0.5, 0.0};
  std::vector<double> m(3), v(3), w{1.0, 1.0, 1.0};
  quern::adamw_update<double>({.weight_decay = 0.5f}, {.learning_rate = 0.125f, .step = 1}, gradient, m, v,
                              w);
  CHECK(w[0] == doctest::Approx(0.9375 - 0.125).epsilon(1e-7));  // epsilon / |g| = 5e-9, beta in float: 1e-8
  CHECK(w[1] == doctest::Approx(0.9375 + 0.125).epsilon(1e-7));
  CHECK(w[2] == 0.9375);
}

TEST_CASE("many steps against the formula written out") {
  quern::rng random(9);
  constexpr std::size_t n = 37;
  const quern::adamw_options o{.beta1 = 0.875f, .beta2 = 0.96875f, .epsilon = 1e-8f, .weight_decay = 0.25f};
  std::vector<double> w(n), m(n), v(n), g(n);
  for (double& x : w) x = static_cast<double>(random.normal());
  std::vector<double> rw = w, rm(n), rv(n);
  for (std::uint64_t step = 1; step <= 50; ++step) {
    for (double& x : g) x = static_cast<double>(random.normal());
    const float rate = 0.01f, scale = 0.5f;
    quern::adamw_update<double>(o, {.learning_rate = rate, .gradient_scale = scale, .step = step}, g, m, v,
                                w);
    for (std::size_t i = 0; i < n; ++i) {
      const double gi = 0.5 * g[i];
      rm[i] = 0.875 * rm[i] + 0.125 * gi;
      rv[i] = 0.96875 * rv[i] + 0.03125 * gi * gi;
      const double t = static_cast<double>(step), lr = static_cast<double>(rate);
      const double mean = rm[i] / (1 - std::pow(0.875, t)), square = rv[i] / (1 - std::pow(0.96875, t));
      rw[i] -= lr * (mean / (std::sqrt(square) + static_cast<double>(1e-8f)) + 0.25 * rw[i]);
    }
  }
  // Fifty steps of about ten roundings each on values of order one.
  for (std::size_t i = 0; i < n; ++i) CHECK(std::abs(w[i] - rw[i]) <= 500 * 2.3e-16 * (1 + std::abs(rw[i])));
}

TEST_CASE("the executor does not change a bit") {
  quern::rng random(3);
  constexpr std::size_t n = (1 << 15) + 77;
  std::vector<float> g(n), w(n);
  for (auto* x : {&g, &w})
    for (float& e : *x) e = random.normal();
  const auto run = [&](auto&& exec) {
    std::vector<float> m(n), v(n), out = w;
    for (std::uint64_t step = 1; step <= 3; ++step)
      quern::adamw_update<float>({.weight_decay = 0.1f}, {.learning_rate = 1e-2f, .step = step}, g, m, v, out,
                                 exec);
    return out;
  };
  quern::thread_pool two(2), three(3);
  const auto expected = run(quern::serial{});
  CHECK(run(two) == expected);
  CHECK(run(three) == expected);
}

TEST_CASE("schedule, clipping and norm") {
  const quern::cosine_schedule s{.peak = 1.0f, .floor = 0.25f, .warmup = 4, .total = 24};
  CHECK(s(0) == 0.25f);
  CHECK(s(3) == 1.0f);
  CHECK(s(4) == 1.0f);
  CHECK(s(14) == doctest::Approx(0.625f).epsilon(1e-6));  // half way: a few roundings of float
  CHECK(s(24) == 0.25f);
  CHECK(s(1000) == 0.25f);
  for (std::uint64_t i = 4; i < 24; ++i) CHECK(s(i + 1) < s(i));
  CHECK(quern::clip_scale(0.5, 1.0f) == 1.0f);
  CHECK(quern::clip_scale(4.0, 1.0f) == 0.25f);
  for (const std::size_t n : {0u, 1u, 15u, 16u, 17u, 100u}) {
    const std::vector<float> ones(n, 2.0f);
    CHECK(quern::global_norm<float>(ones) ==
          std::sqrt(4.0 * static_cast<double>(n)));  // small integers are exact
  }
  std::vector<float> bad(20, 1.0f);
  bad[18] = std::numeric_limits<float>::quiet_NaN();
  CHECK(std::isnan(quern::global_norm<float>(bad)));
}

TEST_CASE("misuse is refused") {
  std::vector<float> g(3), m(3), v(3), w(4);
  CHECK_THROWS_AS(quern::adamw_update<float>({}, {.learning_rate = 1, .step = 1}, g, m, v, w),
                  quern::shape_error);
  w.resize(3);
  CHECK_THROWS_AS(quern::adamw_update<float>({}, {.learning_rate = 1, .step = 0}, g, m, v, w),
                  quern::shape_error);
}
