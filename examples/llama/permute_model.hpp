// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::permute_ffn(m.blocks[3], order, pool);        // unit i of its hidden layer is what unit order[i] was
// llama::permute_values(m.blocks[3], m.shape, order, pool);   // the same for the values of each head
// llama::permute_stream(m, order, pool);               // and for the residual stream of the whole model

#include <llama/model.hpp>
#include <span>

namespace llama {

// What a model computes does not change where the outputs of its linears and the inputs that read them are put into
// another order together; only sums are taken in another order. Linears that are touched become dense fp32.
//
// The rest of a LLaMA has no such freedom. Positions turn pair (2i, 2i + 1) of a query's or key's head by an angle of
// its own (see llama::config), so rows of attn_q and attn_k stay where they are. Whole heads could change places, but
// blocks and groups lie within a head, so that none of them would change. Rows of the embedding and the head are
// tokens.

/// Reorders the hidden units of a feed-forward half: rows of ffn_gate and ffn_up, columns of ffn_down.
/// @param order  [ffn] the old place of each new unit: a permutation
/// @throws shape_error if it is none, or if the half is dropped
void permute_ffn(block& b, std::span<const std::size_t> order, quern::thread_pool& pool);

/// Reorders the values within every head: rows of attn_v, and columns of attn_output, where all query heads that share
/// a key-value head follow its order.
/// @param order  [kv_heads x head_dim] the old place within the head of each new one: one permutation per head
/// @throws shape_error if one of them is none, or if the half is dropped
void permute_values(block& b, const config& c, std::span<const std::size_t> order, quern::thread_pool& pool);
/// The old place of every input of attn_output then: [heads x head_dim].
std::vector<std::size_t> output_places(const config& c, std::span<const std::size_t> order);

/// Reorders the residual stream: columns of embedding, head, attn_q, attn_k, attn_v, ffn_gate and ffn_up, rows of
/// attn_output and ffn_down, gains of all norms.
/// @param order  [width] the old place of each new one: a permutation
/// @throws shape_error if it is none
void permute_stream(model& m, std::span<const std::size_t> order, quern::thread_pool& pool);

}  // namespace llama
