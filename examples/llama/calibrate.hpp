// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::block_moments moments(m.blocks[l], context, 256);
// run.observe([&](auto layer, auto name, auto x) { moments.see(layer, name, x, pool); });
// ... run.run_block(l, stream); ...
// quern::inverse_hessian h = quern::invert(moments.of(i)).value();       // of m.blocks[l].*block_linears[i]

#include <llama/model.hpp>
#include <quern/calib/cross_moments.hpp>
#include <quern/calib/hessian.hpp>
#include <string>
#include <vector>

namespace llama {

/// Which of the four inputs of a block each of block_linears sees: q, k and v share theirs, and so do gate and up.
inline constexpr std::size_t input_of[] = {0, 0, 0, 1, 2, 2, 3};

/// The second moments of the four inputs of a block, gathered by watching it run, and if asked how they hang together
/// with those of the dense model.
class block_moments {
 public:
  /// @param context      positions of a window
  /// @param sink_weight  weight of the first position of every window (see quern::hessian and sink_weight_of)
  /// @param crossed      whether the dense model's inputs of each window are seen first
  block_moments(const block& b, std::size_t context, float sink_weight, bool crossed = false);
  /// To be called by a session's observer.
  void see(std::size_t layer, const char* name, span2<const float> x, quern::thread_pool& pool);
  /// The same for the dense model, on the window that `see` is shown next.
  void see_dense(const char* name, span2<const float> x);
  /// Of the inputs of block_linears[linear], with those of the dense model; only if asked for.
  const quern::cross_moments& crossed(std::size_t linear) const { return crossed_[input_of[linear]]; }
  /// Of the inputs of block_linears[linear]; empty where its half is dropped.
  const quern::hessian& of(std::size_t linear) const { return sums_[input_of[linear]]; }
  /// A sentence about the first input that was not finite, or empty.
  const std::string& problem() const { return problem_; }

 private:
  std::vector<quern::hessian> sums_;
  std::vector<quern::cross_moments> crossed_;             // none unless asked for
  std::vector<quern::eigen_matrix<float>> dense_inputs_;  // of the window, by input
  std::vector<float> weights_;                            // [context] of the positions
  std::string problem_;
};

/// What the first position of a window weighs in the Hessians of a model: 256 where a hidden state there grows into an
/// attention sink (its mean square a hundred times the median of the window's before some block, in the first
/// @p context tokens of @p ids), else 1, as in the papers. SmolLM2-135M has one and gains .08 nats at 2:4 by the weight; a
/// byte model has none and loses (docs/results/gqsa.md).
float sink_weight_of(const model& m, std::span<const std::int32_t> ids, std::size_t context,
                     quern::thread_pool& pool);

}  // namespace llama
