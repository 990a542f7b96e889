// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::evolve_settings s{.model = "model.safetensors", .task = "depth"};

#include <cstdint>
#include <llama/candidates.hpp>
#include <quern/search/mutate.hpp>
#include <string>
#include <vector>

namespace llama {

/// What the program `evolve` is asked to do; evolve_cli.hpp says what each means.
struct evolve_settings {
  std::string model, task = "bits", text, held_out, db = "levels", preset = "small", unit = "halves", out,
                     run = "16,two_level";
  std::string begin, config, tensor_types, svg, json, checkpoint;
  double target = 3;
  std::size_t attn = 0, ffn = 0, generations = 0, offspring = 0, windows = 16, held_context = 0, threads = 0;
  std::size_t random = 0, brute = 0, calibration_windows = 64, repeats = 15, text_tokens = 65536;
  std::vector<std::size_t> survivors, tokens;
  std::vector<std::string> only;
  std::int64_t delta = 0;
  int steps = 8, refine = 0;
  float sink_weight = 0;
  quern::grouping group = quern::grouping::size;
  fitness_options fitness;
  bool time = false, resume = false, baselines = false, mpi = false, all_levels = false, keep_halves = false,
       from_best = false, packed = false, greedy = false;
  quern::mutate_options mutate;
  std::uint64_t seed = 1;
};

}  // namespace llama
