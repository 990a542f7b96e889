// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::teacher_pass teach(config, false);
// teach.forward(weights, ids);
// auto logits = teach.logits(weights, 0, 256);          // of the first 256 positions

#include <llama/block_pass.hpp>
#include <llama/train_model.hpp>
#include <llama/training.hpp>
#include <quern/metric/top_logits.hpp>
#include <string>
#include <vector>

namespace llama {

/// A model to learn from: its shape, whose context is the window of training, and its flat weights.
struct teacher_model {
  config shape;
  std::span<const float> weights;
};

/// Forward pass of one sequence in the calling thread, for a model that is not trained: only one block's activations
/// exist at a time, and logits are made for as many rows as are asked for.
class teacher_pass {
 public:
  /// @param keep_hidden  keeps what every block puts out
  teacher_pass(const config& c, bool keep_hidden);
  void forward(const model_tensors<const float>& weights, std::span<const std::int32_t> ids);
  /// Logits [count x vocab] of positions first .. first + count - 1, until the next call.
  span2<const float> logits(const model_tensors<const float>& weights, std::size_t first, std::size_t count);
  /// What the block of @p layer put out, [n x width]; only if they are kept.
  span2<const float> hidden(std::size_t layer) const;

 private:
  config config_;
  bool keep_hidden_;
  block_workspace<float> space_;
  block_pass<float> block_;
  aligned<float> stream_, logits_, hidden_;  // [n x width], [count x vocab], [layers x n x width]
  std::size_t n_ = 0;
};

/// The batches of a run, step by step, as retrainer draws them.
struct batch_plan {
  std::uint64_t seed = 1, steps = 0;
  std::size_t batch = 0, window = 0;
};

/// The k likeliest classes of every position that a run will see, one row per position: rows of sequence i of step s
/// begin at (s * batch + i) * window. Makes them with the teacher and writes them to @p path, or reads them from
/// there. The memory is quern::top_logits::bytes of the whole run.
/// @param progress  called with the number of steps that are done; false stops
/// @returns io_error where the file is of another run, teacher or text; an error if progress stopped it, if k is not
/// 1..vocabulary, or for more than 1e12 values
quern::result<quern::top_logits> cached_teacher(const std::string& path, const teacher_model& teacher,
                                                const std::vector<training_text>& texts,
                                                const batch_plan& plan, std::size_t k, float temperature,
                                                quern::thread_pool& pool,
                                                const std::function<bool(std::uint64_t)>& progress = {});

}  // namespace llama
