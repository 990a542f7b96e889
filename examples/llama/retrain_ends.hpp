// SPDX-License-Identifier: Apache-2.0
#pragma once
// Both ends of retraining: a start that was pruned in one shot, and the model that comes out.
// auto start = llama::one_shot_weights(model, ids, {.pattern = "nm<2,4>", .start = llama::one_shot::sparsegpt}, pool);
// llama::model m = llama::retrained_model(retrainer, model.shape, llama::find_format("dense", "real<bf16>"), pool);

#include <llama/formats.hpp>
#include <llama/retrainer.hpp>
#include <string>

namespace llama {

/// How the weights look that retraining starts from.
enum class one_shot {
  magnitude,  ///< the dense weights, masked by magnitude when training begins
  wanda,      ///< what Wanda prunes is zero (arXiv 2306.11695)
  sparsegpt,  ///< what SparseGPT prunes is zero, and the rest made up for it (arXiv 2301.00774)
};

struct one_shot_options {
  std::string pattern = "nm<2,4>";
  double density = 0.5;
  one_shot start = one_shot::magnitude;
  std::size_t windows = 32, context = 512;  ///< of the calibration text
};

/// The numbers of a pattern by its name. @returns what find_facts says of names that are none
quern::result<quern::unit_shape> shape_of_pattern(const std::string& pattern);

/// @param m    a dense model; stays as it is
/// @param ids  calibration text; magnitude does not look
/// @returns flat weights, or the error of compress_model
quern::result<aligned<float>> one_shot_weights(const model& m, std::span<const std::int32_t> ids,
                                               const one_shot_options& options, quern::thread_pool& pool);

/// The model of a run as it stands: masked linears, with their side weights beside them packed as @p side_format
/// (of pattern dense), all else as trained. @param whole  the config with the model's own context
model retrained_model(const retrainer& r, const config& whole, const format_ops* side_format,
                      quern::thread_pool& pool);

}  // namespace llama
