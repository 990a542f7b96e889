// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::weight_optimizer optimizer(weights, {.weight = 1e-2f, .scale = 1e-3f}, {}, 1.0f);
// double norm = optimizer.step(weights, gradients, schedule(step), pool).value();

#include <cmath>
#include <quern/train/adamw.hpp>
#include <quern/train/trained_weight.hpp>
#include <span>
#include <vector>

namespace quern::inline v0 {

/// Peak learning rates by kind, in the units of trained_weight::unit; 0 leaves a kind as it is.
struct training_rates {
  float weight = 0.0f, scale = 0.0f, zero = 0.0f, row_scale = 0.0f;
  float operator[](trained k) const {
    return k == trained::weight  ? weight
           : k == trained::scale ? scale
           : k == trained::zero  ? zero
                                 : row_scale;
  }
  friend bool operator==(const training_rates&, const training_rates&) = default;
};

inline namespace QUERN_BUILD {

/// AdamW over everything that is trained of several linears, with one clipped norm for all.
class weight_optimizer {
 public:
  weight_optimizer(std::span<const trained_weight> weights, const training_rates& rates,
                   const adamw_options& adamw, float clip)
      : rates_(rates), adamw_(adamw), clip_(clip), state_(weights.size()) {
    for (std::size_t i = 0; i < weights.size(); ++i)
      for (const trained k : trained_kinds)
        if (rates_[k] > 0)
          for (auto* v : {&state_[i].m[k], &state_[i].v[k]}) v->resize(weights[i].values(k).size());
  }

  /// One step with @p share (0..1, of a schedule) of the peak rates. @returns the norm of the gradient before
  /// clipping, or an error, with the weights as they were, if it is not finite
  template <class Exec = serial>
  result<double> step(std::span<trained_weight> weights, std::span<trained_numbers> gradients, float share,
                      Exec&& exec = Exec{}) {
    double squares = 0;
    const auto each = [&](auto&& f) {
      for (std::size_t i = 0; i < weights.size(); ++i)
        for (const trained k : trained_kinds)
          if (!state_[i].m[k].empty()) f(i, k);
    };
    each([&](std::size_t i, trained k) {
      const double norm = global_norm<float>(gradients[i][k]);
      squares += norm * norm;
    });
    const double norm = std::sqrt(squares);
    if (!std::isfinite(norm)) return error("the gradient is NaN or infinite");
    ++count_;
    each([&](std::size_t i, trained k) {
      const adamw_step at{.learning_rate = share * rates_[k] * weights[i].unit(k),
                          .gradient_scale = clip_scale(norm, clip_),
                          .step = count_};
      adamw_update<float>(adamw_, at, gradients[i][k], state_[i].m[k], state_[i].v[k], weights[i].values(k),
                          exec);
    });
    for (trained_weight& w : weights) w.settle();
    return norm;
  }

  /// Steps done.
  std::uint64_t count() const { return count_; }
  void set_count(std::uint64_t count) { count_ = count; }
  /// The moments of one kind of linear @p i, for a checkpoint; empty where nothing is trained.
  std::span<float> mean(std::size_t i, trained k) { return state_[i].m[k]; }
  std::span<float> square(std::size_t i, trained k) { return state_[i].v[k]; }

 private:
  struct moments {
    trained_numbers m, v;
  };
  training_rates rates_;
  adamw_options adamw_;
  float clip_;
  std::vector<moments> state_;
  std::uint64_t count_ = 0;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
