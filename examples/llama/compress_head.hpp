// SPDX-License-Identifier: Apache-2.0
#pragma once
// double lost = llama::compress_head(m, ids, *llama::find_format("dense", "affine<4,32>"), plan, pool).value();

#include <cstdint>
#include <llama/compress_model.hpp>
#include <span>

namespace llama {

/// Replaces the head, and the embedding where the two are one matrix, by a compressed one, with the second moments of
/// the hidden states that @p m makes of the text now. To be called before compress_model: the blocks are then
/// calibrated on what the embedding has become. In a small model the head is a good part of what a token reads.
/// @param format  of the head; plan.format is for the blocks
/// @param plan    options, context, windows and damp are used; every position weighs the same
/// @returns the relative squared error of the logits on the text, or an error as compress_model()
quern::result<double> compress_head(model& m, std::span<const std::int32_t> ids, const format_ops& format,
                                    const compress_plan& plan, quern::thread_pool& pool);

}  // namespace llama
