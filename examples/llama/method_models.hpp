// SPDX-License-Identifier: Apache-2.0
#pragma once
// What each method makes of a model, in short runs: for tables that compare them.
// llama::method_inputs in{.source = "model.safetensors", .text = ids, .folder = "levels"};
// llama::model m = llama::gqsa_model(in, "group<16>", "affine<4,16>", pool);

#include <cstdint>
#include <llama/model.hpp>
#include <string>
#include <vector>

namespace llama {

/// The same model and text for all methods. All of them throw the errors of what they call.
struct method_inputs {
  std::string source;              ///< file of the dense model
  std::vector<std::int32_t> text;  ///< of calibration, training and search
  std::string folder;              ///< for the levels of a search
  std::size_t windows = 64;        ///< of 512 tokens, from the start of the text, for calibration
  std::size_t epochs = 3;          ///< of training a block (GQSA's first stage)
  std::uint64_t tune_steps = 60;   ///< of training scales (its second), 2,048 tokens each
  std::uint64_t steps = 150;       ///< of retraining (AST), 1,024 tokens each
  std::size_t generations = 15;    ///< of 16 candidates
};

/// OBS and GPTQ in one shot. Fixed patterns keep what they keep, others half of their units.
model one_shot_model(const method_inputs& in, const std::string& pattern, const std::string& quantizer,
                     quern::thread_pool& pool);
/// GQSA (arXiv 2412.17560): the same with masked least squares, then both stages of training.
model gqsa_model(const method_inputs& in, const std::string& pattern, const std::string& quantizer,
                 quern::thread_pool& pool);
/// AST (arXiv 2407.20584): weights and masks retrained with annealed decay and distillation from the dense model,
/// then rounded by GPTQ with the masks as they are, and the embedding, which was trained, too, to bf16.
model ast_model(const method_inputs& in, const std::string& pattern, const std::string& quantizer,
                quern::thread_pool& pool);
/// EvoPress (arXiv 2410.14649): every linear has the bits, 2 to 8 and @p bits on average, that a search gives it.
model evopress_model(const method_inputs& in, double bits, quern::thread_pool& pool);

}  // namespace llama
