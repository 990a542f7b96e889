// SPDX-License-Identifier: Apache-2.0
#pragma once
// A tiny dense model that was trained, and the text it learned: where the tests of retraining start.

#include <llama/retrainer.hpp>
#include <llama/trainer.hpp>
#include <quern/core/rng.hpp>
#include <quern/pattern/nm.hpp>
#include <string>

#include "scratch_folder.hpp"

namespace retrain_test {

inline const llama::config shape{.vocab = 48,
                                 .width = 32,
                                 .layers = 2,
                                 .ffn = 64,
                                 .heads = 2,
                                 .kv_heads = 1,
                                 .head_dim = 16,
                                 .context = 32};

/// Walks that a model has to read the stride of from what came before, with one token in sixteen drawn at random.
inline std::vector<std::int32_t> walk(std::size_t n, std::uint64_t seed) {
  quern::rng g(seed);
  std::vector<std::int32_t> ids;
  std::uint64_t at = 0, stride = 1;
  while (ids.size() < n) {
    if (ids.size() % 64 == 0) at = g.below(48), stride = 1 + g.below(12);
    ids.push_back(static_cast<std::int32_t>(g.below(16) == 0 ? g.below(48) : at));
    at = (at + stride) % 48;
  }
  return ids;
}
inline std::vector<llama::training_text> texts() { return {{walk(20000, 1)}}; }
inline std::vector<std::int32_t> held_out() { return walk(32 * 64, 2); }

/// Trained once for all tests of the program.
inline const llama::aligned<float>& dense_weights() {
  static const llama::aligned<float> weights = [] {
    llama::trainer t(
        shape, {.steps = 700, .batch = 8, .lanes = 4, .peak_rate = 1e-2f, .floor_rate = 1e-4f, .warmup = 20},
        texts());
    quern::thread_pool pool(2);
    while (t.step_count() < 700) t.step(pool).value();
    return llama::aligned<float>(t.weights().begin(), t.weights().end());
  }();
  return weights;
}

inline llama::retrain_options options() {
  llama::retrain_options o;
  o.run = {
      .steps = 12, .batch = 4, .lanes = 2, .peak_rate = 2e-3f, .floor_rate = 1e-5f, .warmup = 2, .seed = 5};
  o.run.adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .weight_decay = 0};
  o.rule.shape = quern::shape_of<quern::nm<2, 4>>();
  o.decay = quern::annealed_decay(6e-3f, 3);
  o.update_every = 3;
  o.loss = {.weight = 0.67f, .temperature = 2};
  return o;
}

inline llama::retrain_start start() {
  return {.weights = dense_weights(),
          .dense = dense_weights(),
          .teacher = llama::teacher_model{shape, dense_weights()}};
}
inline llama::retrainer fresh(const llama::retrain_options& o) { return {shape, o, texts(), start()}; }

inline void run(llama::retrainer& r, std::uint64_t until, std::size_t threads = 2) {
  quern::thread_pool pool(threads);
  while (r.step_count() < until) r.step(pool).value();
}

inline double loss_of(llama::retrainer& r) {
  quern::thread_pool pool(2);
  return llama::held_out_loss(shape, r.effective(pool), held_out(), 0, pool).value();
}

}  // namespace retrain_test
