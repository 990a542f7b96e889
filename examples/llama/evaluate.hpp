// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto p = llama::evaluate(model, ids, {.context = 512, .windows = 32}, pool);
// auto text = llama::generate(model, prompt_ids, {.tokens = 64}, pool);

#include <cstdint>
#include <functional>
#include <llama/model.hpp>
#include <llama/sampler.hpp>
#include <quern/metric/perplexity.hpp>
#include <span>
#include <vector>

namespace llama {

/// quern::perplexity of a model. @param done  called after every window with their number so far
quern::result<quern::perplexity_result> evaluate(const model& m, std::span<const std::int32_t> ids,
                                                 const quern::perplexity_options& options,
                                                 quern::thread_pool& pool,
                                                 const std::function<void(std::size_t)>& done = {});

struct generate_options {
  std::size_t tokens = 64;  ///< at most; fewer where `stop` is drawn
  sampling sample;          ///< greedy by default
  std::uint64_t seed = 1;
  std::int32_t stop = -1;  ///< end-of-text id; -1: none
  /// Called with every new id.
  std::function<void(std::int32_t)> on_token;
};
struct generated {
  std::vector<std::int32_t> ids;  ///< the new ones only
  double prefill_seconds = 0, decode_seconds = 0;
  std::size_t decoded = 0;  ///< forward passes of one token that decode_seconds is over
};
/// Continues a prompt. @throws shape_error where the prompt is empty or the context is too short for both
generated generate(const model& m, std::span<const std::int32_t> prompt, const generate_options& options,
                   quern::thread_pool& pool);

}  // namespace llama
