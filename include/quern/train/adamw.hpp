// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::adamw_options options{.weight_decay = 0.1f};
// float lr = quern::cosine_schedule{.peak = 3e-3f, .floor = 3e-4f, .warmup = 100, .total = 2000}(step);
// float scale = quern::clip_scale(quern::global_norm<float>(gradient), 1.0f);
// quern::adamw_update(options, {.learning_rate = lr, .gradient_scale = scale, .step = step + 1},
//                     gradient, m, v, weights);

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/executor.hpp>
#include <span>

namespace quern::inline v0 {

/// Constants of AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2).
struct adamw_options {
  float beta1 = 0.9f;         ///< decay of the mean of gradients, [0, 1)
  float beta2 = 0.999f;       ///< decay of the mean of squared gradients, [0, 1)
  float epsilon = 1e-8f;      ///< added to the root of the second moment, > 0
  float weight_decay = 0.0f;  ///< decoupled: weights shrink by learning_rate * weight_decay per step
  friend bool operator==(const adamw_options&, const adamw_options&) = default;
};

/// What changes from step to step.
struct adamw_step {
  float learning_rate;
  float gradient_scale = 1.0f;  ///< the gradient is multiplied by this first (clipping, averaging)
  std::uint64_t step;           ///< counted from 1: the bias correction divides by 1 - beta^step
};

/// Warm-up from 0 to `peak` over `warmup` steps, then half a cosine down to `floor` at step `total`, `floor`
/// after.
struct cosine_schedule {
  float peak, floor;
  std::uint64_t warmup, total;
  /// The learning rate of step @p step, counted from 0.
  float operator()(std::uint64_t step) const {
    if (step < warmup) return peak * static_cast<float>(step + 1) / static_cast<float>(warmup);
    if (step >= total) return floor;
    const double done = static_cast<double>(step - warmup) / static_cast<double>(total - warmup);
    return floor + (peak - floor) * static_cast<float>(0.5 * (1.0 + std::cos(3.14159265358979323846 * done)));
  }
};

/// The factor that brings a gradient of norm @p norm down to @p limit; 1 if it is already inside.
inline float clip_scale(double norm, float limit) {
  return norm > static_cast<double>(limit) ? static_cast<float>(static_cast<double>(limit) / norm) : 1.0f;
}

inline namespace QUERN_BUILD {

/// The Euclidean norm, summed in double over sixteen interleaved partial sums: the order does not depend on
/// anything but the length. NaN and infinity come through.
template <class T>
double global_norm(std::span<const T> values) {
  constexpr std::size_t lanes = 16;
  double sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= values.size(); i += lanes)
    for (std::size_t k = 0; k < lanes; ++k)
      sums[k] += static_cast<double>(values[i + k]) * static_cast<double>(values[i + k]);
  for (; i < values.size(); ++i) sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  double total = 0;
  for (const double s : sums) total += s;
  return std::sqrt(total);
}

/// The constants of a step in the type of the weights.
template <class T>
struct adamw_factors {
  T beta1, beta2, correct1, correct2, epsilon, rate, keep, scale;
  adamw_factors(const adamw_options& o, const adamw_step& at)
      : beta1(static_cast<T>(o.beta1)),
        beta2(static_cast<T>(o.beta2)),
        correct1(correction(o.beta1, at.step)),
        correct2(correction(o.beta2, at.step)),
        epsilon(static_cast<T>(o.epsilon)),
        rate(static_cast<T>(at.learning_rate)),
        keep(T{1} - rate * static_cast<T>(o.weight_decay)),
        scale(static_cast<T>(at.gradient_scale)) {}
  static T correction(float beta, std::uint64_t step) {
    return static_cast<T>(1.0 / (1.0 - std::pow(static_cast<double>(beta), static_cast<double>(step))));
  }
};

/// What one weight is moved against, and what its second moment is the mean square of.
template <class T>
struct adamw_pull {
  T direction, squared;
};

/// The loop that AdamW and its relatives share, over n weights side by side. pull(i, g, mean, w) says where they
/// differ: g is the scaled gradient, mean the new first moment, w the weight after decoupled decay.
template <class T, class Pull>
void adamw_range(const adamw_factors<T>& f, const T* gradient, T* m, T* v, T* weights, std::size_t n,
                 Pull&& pull) {
  for (std::size_t i = 0; i < n; ++i) {
    const T g = f.scale * gradient[i], w = f.keep * weights[i];
    const T mean = f.beta1 * m[i] + (T{1} - f.beta1) * g;
    const adamw_pull<T> p = pull(i, g, mean, w);
    const T square = f.beta2 * v[i] + (T{1} - f.beta2) * p.squared * p.squared;
    m[i] = mean;
    v[i] = square;
    weights[i] = w - f.rate * (p.direction * f.correct1) / (std::sqrt(square * f.correct2) + f.epsilon);
  }
}

/// What every optimizer step asks of its arguments.
inline void check_step(const char* name, std::size_t gradient, std::size_t m, std::size_t v,
                       std::size_t weights, std::uint64_t step) {
  require(gradient == weights && m == weights && v == weights, name,
          ": gradient, m, v and weights must have one length, not ", gradient, ", ", m, ", ", v, " and ",
          weights);
  require(step > 0, name, ": steps are counted from 1; pass step + 1");
}

/// One AdamW step for one group of parameters. With g = gradient_scale * gradient:
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
///   w = w - lr * ( (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon) + weight_decay w ).
/// m and v are zero before the first step. All four spans have one length; the state to checkpoint is m, v
/// and the step. Element by element, so that the result does not depend on the executor.
/// @throws shape_error on a length mismatch or step 0
template <class T, executor Executor = serial>
void adamw_update(const adamw_options& options, const adamw_step& at, std::span<const T> gradient,
                  std::span<T> m, std::span<T> v, std::span<T> weights, Executor&& exec = {}) {
  check_step("quern::adamw_update", gradient.size(), m.size(), v.size(), weights.size(), at.step);
  const adamw_factors<T> f(options, at);
  exec.parallel_for(weights.size(), 1 << 14, [&](std::size_t begin, std::size_t end) {
    adamw_range<T>(f, gradient.data() + begin, m.data() + begin, v.data() + begin, weights.data() + begin,
                   end - begin, [](std::size_t, T g, T mean, T) {
                     return adamw_pull<T>{mean, g};
                   });
  });
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
