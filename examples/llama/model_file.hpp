// SPDX-License-Identifier: Apache-2.0
#pragma once
// What reading and writing a model file share: names beside GGUF's, and the config of a GGUF file.

#include <llama/config.hpp>
#include <quern/core/error.hpp>
#include <quern/io/gguf.hpp>
#include <string>

namespace llama {

/// Side weights lie beside their matrix: "blk.0.attn_q.weight.slorb", and a trained projection likewise.
inline constexpr char side_suffix[] = ".slorb", projection_suffix[] = ".slorb_projection";
/// The `__metadata__` keys of the inputs per group of side weights, and of the dropped halves, separated by blanks.
inline constexpr char group_key[] = "quern.slorb.group", dropped_key[] = "quern.dropped";

/// The most inputs of a group of side weights: no matrix has more (see llama::check).
inline constexpr std::size_t most_group = 1 << 20;

/// The half of a block that a linear belongs to, as dropped_key names it. @param linear  among block_linears
inline std::string half_name(std::size_t layer, std::size_t linear) {
  return "blk." + std::to_string(layer) + (linear < 4 ? ".attn" : ".ffn");
}

/// The config that a GGUF file's metadata and tensors say. @returns io_error that names the key
quern::result<config> read_config(const quern::gguf_file& file);

inline quern::io_error absent_tensor(const std::string& path, const std::string& name) {
  return quern::io_error("llama::load: '", path, "' has no tensor '", name,
                         "'; the file is not a whole llama model");
}

}  // namespace llama
