// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::scale_tuner tuner(weights, {.steps = 200});               // freezes the codes
// while (tuner.count() < 200) auto s = tuner.step(sequences, model, pool).value();   // s.loss, s.gradient_norm
// tuner.for_each_state([&](const std::string& name, std::span<float> values) { ... });   // for a checkpoint

#include <quern/train/bqpo.hpp>
#include <string>

namespace quern::inline v0 {

/// GQSA's second stage. Rates are in the units of trained_weight; EfficientQAT's E2E-QP trains scales only.
struct tune_options {
  std::uint64_t steps = 200;
  std::size_t batch = 4;  ///< sequences per step
  std::size_t lanes = 2;  ///< the result depends on it, not on the number of threads
  training_rates rates{.scale = 0.004f, .row_scale = 0.002f};  ///< that of weights is ignored
  float floor = 0.05f;  ///< share of the rates at the end of the cosine
  std::uint64_t warmup = 0;
  float clip = 1.0f;
  adamw_options adamw{.beta1 = 0.9f, .beta2 = 0.95f};
  std::uint64_t seed = 1;
  friend bool operator==(const tune_options&, const tune_options&) = default;
};

struct tune_step {
  double loss;           ///< mean over the batch, as the model counts it
  double gradient_norm;  ///< before clipping
};

inline namespace QUERN_BUILD {

/// Trains the scales (and zeros, if their rate is not 0) of a whole model end to end while codes and masks stay as
/// they are (GQSA section 5, E2E-OQP; EfficientQAT's E2E-QP with a mask): the packed codes are the same bits before
/// and after. The gradient of a weight is used up as soon as it is there, so what is kept of it is a number or two
/// per run. Two-level scales train row scales and multipliers (see trained_weight).
class scale_tuner {
 public:
  /// @param weights  all linears that are tuned; they are frozen and must outlive the tuner
  scale_tuner(std::span<trained_weight> weights, const tune_options& options)
      : weights_(weights),
        options_(options),
        decoded_((freeze(weights), weights)),
        optimizer_(weights, without_weights(options.rates), options.adamw, options.clip),
        lanes_(std::max<std::size_t>(options.lanes, 1)) {
    for (lane& l : lanes_)
      for (const trained_weight& w : weights) l.sums.push_back(w.gradient(false));
  }
  std::uint64_t count() const { return optimizer_.count(); }

  /// One step on the next `batch` of @p sequences sequences, which every epoch visits in another order.
  /// @param model  double model(worker, sequence, weights, scale, sink): the loss of one sequence under @p weights
  ///               (views in the order of the linears); calls sink(i, dw) once for each with scale * dL/dw [rows x
  ///               cols], which is used up. Must not throw
  /// @returns an error, with everything as it was, that names the step at which the loss or gradient was not finite
  template <class Model, class Exec = serial>
  result<tune_step> step(std::size_t sequences, Model&& model, Exec&& exec = Exec{}) {
    require(sequences > 0 && options_.batch > 0,
            "quern::scale_tuner: needs sequences and a batch of at least 1");
    decoded_.update(weights_, exec);
    std::vector<std::size_t> batch;
    for (std::size_t i = 0; i < options_.batch; ++i) {
      const std::uint64_t at = count() * options_.batch + i;
      batch.push_back(sequence_order(options_.seed, at / sequences, sequences)[at % sequences]);
    }
    const float scale = 1.0f / static_cast<float>(options_.batch);
    for_lanes(lanes_.size(), exec, [&](std::size_t worker, std::size_t which) {
      lane& mine = lanes_[which];
      mine.loss = 0;
      for (trained_numbers& s : mine.sums)
        for (const trained k : trained_kinds) std::fill(s[k].begin(), s[k].end(), 0.0f);
      for (std::size_t i = which; i < batch.size(); i += lanes_.size())
        mine.loss += model(worker, batch[i], decoded_.views(), scale,
                           [&](std::size_t w, span2<float> dw) { weights_[w].backward(dw, mine.sums[w]); });
    });
    double loss = 0;
    for (const lane& l : lanes_) loss += l.loss;
    loss *= static_cast<double>(scale);
    for (std::size_t l = 1; l < lanes_.size(); ++l)
      for (std::size_t i = 0; i < weights_.size(); ++i)
        for (const trained k : trained_kinds)
          for (std::size_t n = 0; n < lanes_[0].sums[i][k].size(); ++n)
            lanes_[0].sums[i][k][n] += lanes_[l].sums[i][k][n];
    const cosine_schedule schedule{1.0f, options_.floor, options_.warmup, options_.steps};
    const auto norm = std::isfinite(loss) ? optimizer_.step(weights_, lanes_[0].sums, schedule(count()), exec)
                                          : result<double>(error("the loss is ", loss));
    if (!norm)
      return error("quern::scale_tuner: step ", count() + 1, ": ", norm.error().what(),
                   "; lower the rates or the clip");
    return tune_step{loss, *norm};
  }

  /// Calls f(name, values) for everything that a checkpoint must hold besides count(); what f writes is taken.
  template <class F>
  void for_each_state(F&& f) {
    constexpr const char* names[] = {"weight", "scale", "zero", "row_scale"};
    for (std::size_t i = 0; i < weights_.size(); ++i)
      for (const trained k : trained_kinds) {
        if (optimizer_.mean(i, k).empty()) continue;
        const std::string name = "tune." + std::to_string(i) + "." + names[static_cast<std::size_t>(k)];
        f(name, weights_[i].values(k));
        f(name + ".m", optimizer_.mean(i, k));
        f(name + ".v", optimizer_.square(i, k));
      }
  }
  /// Goes on from step @p count, after for_each_state has filled in the rest.
  void resume_at(std::uint64_t count) { optimizer_.set_count(count); }

 private:
  struct lane {
    std::vector<trained_numbers> sums;
    double loss = 0;
  };
  static void freeze(std::span<trained_weight> weights) {
    for (trained_weight& w : weights) w.freeze();
  }
  static training_rates without_weights(training_rates r) {
    r.weight = 0;
    return r;
  }

  std::span<trained_weight> weights_;
  tune_options options_;
  decoded_weights decoded_;
  weight_optimizer optimizer_;
  std::vector<lane> lanes_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
