// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::model m = llama::load("smollm2.gguf", pool).value();          // GGUF or safetensors, by content
// llama::save_bf16("model.safetensors", config, weights, notes).value();

#include <llama/config.hpp>
#include <llama/model.hpp>
#include <llama/tokenizer.hpp>
#include <llama/train_model.hpp>
#include <quern/core/error.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace llama {

struct load_options {
  /// Keeps the codes of GGUF tensors of type Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0; else all GGUF weights become
  /// fp32.
  bool packed = false;
  /// What the packed linears of the model multiply with: model::activations.
  activation activations = activation::int8;
  /// Packed matrices of a safetensors file are copied into huge pages first, where the system has some to give;
  /// else they are used where they are mapped. For models that run long.
  bool copied = false;
};

/// Reads a model: GGUF files of architecture `llama` with any type that quern::dequantize knows, safetensors
/// files with F32, F16 or BF16 tensors or packed matrices under GGUF's names and the config in `__metadata__`
/// under GGUF's keys. Packed matrices of a safetensors file are used where they are mapped, or in a copy of
/// the file (load_options::copied). Side weights ("blk.0.attn_q.weight.slorb", with `quern.slorb.group` in the
/// metadata) are multiplied with their matrix.
/// @returns io_error that names file, key or tensor, and what to do
quern::result<model> load(const std::string& path, quern::thread_pool& pool,
                          const load_options& options = {});
/// The tokenizer that comes with such a file. @returns io_error also if the model has more or fewer ids than it
quern::result<tokenizer> load_tokenizer(const std::string& path);

/// The text of a `__metadata__` entry beside the config, for instance {"quern.training", "..."}.
using notes = std::vector<std::pair<std::string, std::string>>;
/// Writes a model with its tokenizer by temporary file and rename: packed linears as they are, others as bf16
/// where that is exact and as fp32 elsewhere. Dropped halves are named in `__metadata__` ("quern.dropped").
/// @returns io_error also for a value that is not finite
quern::result<void> save(const std::string& path, const model& m, const tokenizer& words, const notes& extra);

/// The config as `__metadata__` entries under GGUF's keys ("llama.block_count": "4").
void describe(const config& c, quern::safetensors_writer& out);
/// The config of such a file. @returns io_error that names the key
quern::result<config> read_config(const quern::safetensors_file& file, const std::string& path);

/// What no file may hold. @param values  of @p t, row by row
/// @returns io_error that names tensor, row and column of the first value that is NaN or infinite
quern::result<void> check_finite(const std::string& path, const tensor& t, std::span<const float> values);

/// Writes flat weights (see llama::parameters) rounded to bf16, norms included, by temporary file and rename.
/// @returns io_error also for a value that is not finite, or not so as bf16
quern::result<void> save_bf16(const std::string& path, const config& c, std::span<const float> weights,
                              const notes& extra);

}  // namespace llama
