// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::trainer t(config, options, texts);             // texts: bytes or token ids
// while (t.step_count() < options.steps) { auto s = t.step(pool).value(); report(s.loss); }
// t.save("checkpoint.safetensors").value();             // and trainer::resume(...) continues bit for bit

#include <cstddef>
#include <cstdint>
#include <llama/aligned.hpp>
#include <llama/config.hpp>
#include <llama/train_model.hpp>
#include <llama/training.hpp>
#include <quern/core/error.hpp>
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/train/adamw.hpp>
#include <string>
#include <vector>

namespace llama {

struct train_options {
  std::uint64_t steps = 1000;
  std::size_t batch = 16;  ///< sequences of config.context tokens per step
  /// Sequences are dealt to this many gradient buffers, which are added in order: the result depends on their
  /// number, not on the number of threads. Each costs one copy of the model.
  std::size_t lanes = 4;
  float peak_rate = 3e-3f, floor_rate = 1e-4f;
  std::uint64_t warmup = 100;
  float clip = 1.0f;  ///< largest norm of the gradient
  quern::adamw_options adamw{.beta1 = 0.9f, .beta2 = 0.98f, .epsilon = 1e-8f, .weight_decay = 0.1f};
  std::uint64_t seed = 1;
};

/// All of them as one sentence, for fingerprints of runs.
std::string describe_run(const train_options& o);

/// What one step reports.
struct step_report {
  double loss;           ///< mean negative log likelihood of the batch, nats per token
  double gradient_norm;  ///< before clipping
  float learning_rate;
};

/// Trains one model from random windows of its texts (drawn in proportion to their lengths).
class trainer {
 public:
  /// @throws shape_error if a text is shorter than context + 1 or has a token outside the vocabulary, or an
  /// option is zero where it must not be
  trainer(const config& c, const train_options& options, std::vector<training_text> texts);

  /// One batch: forward, backward, clip, AdamW. @returns an error, with the weights as they were, if the loss
  /// or the gradient is not finite
  quern::result<step_report> step(quern::thread_pool& pool);
  std::uint64_t step_count() const { return step_; }
  const config& shape() const { return config_; }
  const parameters& layout() const { return layout_; }
  std::span<const float> weights() const { return weights_; }

  /// Writes weights, optimizer state, generator and step as an F32 safetensors file, which is a model that
  /// llama::load reads, too (temporary name, then rename).
  quern::result<void> save(const std::string& path) const;
  /// Takes them back, after which the run goes on bit for bit as if it had not been interrupted. The file
  /// must come from the same config, options and texts. @returns io_error, with the run as it was, for any other
  /// file
  quern::result<void> resume(const std::string& path);

 private:
  config config_;
  train_options options_;
  parameters layout_;
  std::vector<training_text> texts_;
  aligned<float> weights_, m_, v_;
  gradient_lanes lanes_;
  std::vector<sequence_pass<float>> passes_;  // one per thread
  quern::rng random_;
  std::uint64_t step_ = 0;
  std::string run_;  // the sentence that tells runs apart
};

}  // namespace llama
