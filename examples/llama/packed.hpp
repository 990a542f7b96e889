// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::linear w = llama::packed_linear(llama::read_packed(file, "blk.0.ffn_up.weight").value());
// block.ffn_up = w;

#include <llama/formats.hpp>
#include <llama/linear.hpp>
#include <quern/io/gguf.hpp>
#include <quern/io/safetensors.hpp>
#include <string>

namespace llama {

/// A packed matrix as a weight of the model; keeps its owner alive.
linear packed_linear(packed_matrix w);
/// The packed matrix behind a linear, or null where it is dense.
const packed_matrix* packed_of(const linear& w);

/// A packed matrix in a mapped file, checked; @p owner keeps the file alive.
/// @returns io_error where its format is not one of all_formats(), or its streams are not valid
quern::result<packed_matrix> read_packed(const quern::safetensors_file& file, const std::string& name,
                                         std::shared_ptr<const void> owner);
/// A tensor of a GGUF file with its own codes and scales, where its type is Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0.
quern::result<packed_matrix> read_packed(const quern::gguf_file& file, const quern::gguf_tensor& t,
                                         quern::thread_pool& pool);

}  // namespace llama
