// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::aligned<float> weights = llama::flatten(model);        // in the order of llama::parameters
// llama::model again = llama::model_of(config, weights);        // dense

#include <llama/aligned.hpp>
#include <llama/model.hpp>
#include <llama/train_model.hpp>
#include <span>

namespace llama {

/// All weights of a model as floats, whatever their formats. @throws the error of llama::check, or shape_error for a
/// model of which halves of blocks were dropped
aligned<float> flatten(const model& m);

/// A dense model of flat weights. @throws shape_error for a wrong length
model model_of(const config& c, std::span<const float> flat);

/// The slots of block_linears, in their order.
inline constexpr slot linear_slots[] = {slot::attn_q,   slot::attn_k, slot::attn_v,  slot::attn_output,
                                        slot::ffn_gate, slot::ffn_up, slot::ffn_down};

}  // namespace llama
