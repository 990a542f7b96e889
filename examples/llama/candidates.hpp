// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::candidate_runner run(model, assemble, half_of, ids, {.context = 128}, pool);
// quern::evolve(space, options, state, std::ref(run), progress);      // run is a quern::evaluator

#include <cstdint>
#include <functional>
#include <llama/model.hpp>
#include <quern/metric/top_logits.hpp>
#include <quern/search/select.hpp>
#include <span>
#include <vector>

namespace llama {

using quern::genome;

/// Writes the linears that a genome stands for into a copy of the model. Must set the same ones for every genome.
using assembler = std::function<void(const genome&, model&)>;

struct fitness_options {
  enum class kind {
    kl,             ///< mean KL(dense || candidate) per position, in nats (EvoPress, section 3)
    cross_entropy,  ///< mean negative log likelihood of the next token
  };
  kind measure = kind::kl;
  std::size_t top = 0;        ///< the teacher's likeliest logits that are kept for kl; 0: all
  std::size_t context = 512;  ///< tokens of a window
  std::size_t piece = 1024;   ///< tokens whose logits and streams exist at a time
  bool reuse = true;          ///< the streams of leading halves that did not change
};

/// What the runner has done.
struct runner_counts {
  std::uint64_t candidates = 0, tokens = 0;
  std::uint64_t halves = 0, halves_whole = 0;  ///< passes of one half that were run, and without reuse
  double seconds = 0, linear_seconds = 0;      ///< in all, and in the multiplications of blocks and heads
};

/// Measures candidates on the calibration text: draws the windows of a minibatch without replacement, runs every
/// candidate through them with the kernels of its formats, and compares with the dense model.
/// Candidates are sorted so that neighbours share as many leading halves as they can; a half that is equal in two
/// neighbours is run once. Fitnesses do not depend on that, on other candidates, or on the number of threads.
class candidate_runner {
 public:
  /// @param dense     the teacher; copied, weights shared
  /// @param half_of   [units] the first half (2 * layer, + 1 for the feed-forward one) that a unit changes
  /// @param ids       calibration text, whole windows are used
  /// @param pool      must outlive the runner
  /// @throws shape_error if the text is shorter than a window, or the context longer than the model's
  candidate_runner(const model& dense, assembler assemble, std::vector<std::size_t> half_of,
                   std::span<const std::int32_t> ids, const fitness_options& options,
                   quern::thread_pool& pool);

  candidate_runner(const candidate_runner&) = delete;  // sessions refer to the models inside
  candidate_runner& operator=(const candidate_runner&) = delete;

  /// @throws shape_error if the batch is larger than the text
  void operator()(std::span<const genome> candidates, quern::minibatch batch, std::span<double> fitness);

  /// Tokens of the whole windows of the text: the largest minibatch.
  std::size_t tokens() const { return windows_ * options_.context; }
  const runner_counts& counts() const { return counts_; }
  /// Bytes that a runner of such a model and text allocates beside the weights, before it is made.
  static std::size_t bytes(const config& c, std::size_t tokens, const fitness_options& options);
  /// Bytes that this one has allocated.
  std::size_t allocated() const;

 private:
  struct range {
    std::size_t window, count;  // of the text, and tokens of it
  };
  std::span<const std::int32_t> ids_of(const range& r) const {
    return std::span(ids_).subspan(r.window * options_.context, r.count);
  }
  std::vector<range> draw(quern::minibatch batch) const;
  void prepare_teacher(std::span<const range> piece);
  void run_halves(std::size_t first, std::span<const range> piece);
  double compare(std::span<const range> piece);

  model dense_, current_;
  assembler assemble_;
  std::vector<std::size_t> order_, half_of_;  // units by half
  std::vector<std::int32_t> ids_;
  fitness_options options_;
  quern::thread_pool* pool_;
  std::size_t windows_;
  session teacher_, student_;
  aligned<float> hidden_;  // [windows * context x width] of the dense model, where all logits are wanted
  std::vector<quern::top_logits> kept_;  // [windows] the compact form
  aligned<float> logits_;                // [piece x vocab] the teacher's
  std::vector<aligned<float>> streams_;  // [halves + 1][piece x width] before every half, and at the end
  runner_counts counts_;
};

}  // namespace llama
