// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::rng random(7);
// std::int32_t id = llama::sample(logits_row, {.temperature = 0.8f, .top_p = 0.95f}, random);   // 0: greedy

#include <cstdint>
#include <quern/core/rng.hpp>
#include <span>

namespace llama {

struct sampling {
  float temperature = 0;  ///< logits are divided by it; 0 takes the largest logit (the first of equals)
  float top_p = 1;        ///< only the likeliest tokens that together reach this probability, (0, 1]
};

/// Draws the next token. Uses one number of @p random unless it is greedy.
/// @throws shape_error if logits are empty, NaN or infinite, or an option is out of range
std::int32_t sample(std::span<const float> logits, const sampling& options, quern::rng& random);

}  // namespace llama
