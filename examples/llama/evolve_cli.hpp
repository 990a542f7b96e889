// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::evolve_settings s;
// llama::add_evolve_options(app, s);

#include <llama/cli.hpp>
#include <llama/evolve_settings.hpp>
#include <map>

namespace llama {

inline void add_evolve_options(CLI::App& app, evolve_settings& s) {
  const auto choice = [&](const char* flag, auto& value, auto names, const char* what) {
    app.add_option(flag, value, what)->transform(CLI::CheckedTransformer(names).description("NAME"));
  };
  app.add_option("model", s.model, "GGUF or safetensors file")->required();
  app.add_option("--task", s.task, "what the levels are: bits, sparsity, groups, depth, joint")
      ->check(CLI::IsMember({"bits", "sparsity", "groups", "depth", "joint"}));
  app.add_option("--target", s.target,
                 "bits per weight (bits, joint: stored ones), share removed (sparsity, groups, depth)")
      ->check(finite(0, 64));
  app.add_option("--text", s.text, "calibration text")->required();
  app.add_option("--text-tokens", s.text_tokens, "tokens of it that fitness is measured on, from its start")
      ->check(count(2, most_tokens));
  app.add_option("--held-out", s.held_out, "text whose perplexity is reported");
  app.add_option("--held-out-windows", s.windows, "windows of it; 0: all")->check(count(0, most_windows));
  app.add_option("--held-out-context", s.held_context, "tokens of a window of it; 0: as in calibration")
      ->check(count(0, most_context));
  app.add_option("--db", s.db, "folder of the levels; made where it is missing");
  app.add_option("--calibration-windows", s.calibration_windows, "windows of the Hessians")
      ->check(count(1, most_windows));
  app.add_option(
         "--refine", s.refine,
         "steps of masked least squares after the sweep that makes a sparse level; 0: none, as in EvoPress")
      ->check(count(0, 10'000));
  app.add_option(
         "--sink-weight", s.sink_weight,
         "weight of the first position of a window in the Hessians; 0: 256 for models with an attention sink "
         "there, else 1")
      ->check(finite(0, 1e9));
  choice(
      "--group", s.group,
      std::map<std::string, quern::grouping>{
          {"size", quern::grouping::size}, {"name", quern::grouping::name}, {"none", quern::grouping::none}},
      "bits: which layers exchange bits: size, name, none");
  app.add_option("--run", s.run, "bits: weights that share a scale, and its form: 16,two_level or 64 (fp16)")
      ->check(CLI::IsMember({"16,two_level", "64"}));
  app.add_option("--delta", s.delta, "sparsity, groups: weights of a level step; 0: 1/32 of the mean layer")
      ->check(count(0, most_tokens));
  app.add_option("--steps", s.steps, "sparsity, groups: levels to either side")->check(count(1, 100));
  app.add_option("--unit", s.unit, "depth: what is dropped as a whole: halves, blocks, pairs")
      ->check(CLI::IsMember({"halves", "blocks", "pairs"}));
  app.add_option("--attn", s.attn, "depth: attention halves (blocks, pairs) to drop, instead of --target")
      ->check(count(0, 1024));
  app.add_option("--ffn", s.ffn, "depth: feed-forward halves to drop")->check(count(0, 1024));
  app.add_flag("--packed", s.packed, "depth: keep the codes of a GGUF file instead of making fp32 of them");
  app.add_flag("--time", s.time,
               "joint: --target is the share of the time of one token through 4-bit linears");
  app.add_option("--repeats", s.repeats, "joint --time: how often each product is timed")
      ->check(count(1, 1 << 20));
  app.add_flag("--all-levels", s.all_levels,
               "joint: also formats that lose more than a cheaper one of the same linear");
  app.add_option("--only", s.only, "joint: a level that may be chosen, 4 or '4 nm<2,4>'; once for each")
      ->allow_extra_args(false);
  app.add_flag("--keep-halves", s.keep_halves, "joint: no half of a block is dropped");
  app.add_option("--reach", s.mutate.reach, "levels that one change moves at most")->check(count(1, 1000));
  choice("--fitness", s.fitness.measure,
         std::map<std::string, fitness_options::kind>{{"kl", fitness_options::kind::kl},
                                                      {"ppl", fitness_options::kind::cross_entropy}},
         "kl (to the model as it is), ppl");
  app.add_option("--top", s.fitness.top, "kl: logits of the teacher that are kept; 0: all")
      ->check(count(0, 1 << 20));
  app.add_option("--context", s.fitness.context, "tokens of a window")->check(count(2, most_context));
  app.add_option("--piece", s.fitness.piece, "tokens whose logits and streams exist at a time")
      ->check(count(1, most_context));
  app.add_option(
      "--preset", s.preset,
      "hyper-parameters: paper, fast, small; tokens are scaled down where the last stage would need more "
      "than --text-tokens (paper: 131072; sparsity, groups 65536; depth 32768)");
  app.add_option("--generations", s.generations, "instead of the preset's")->check(count(0, 1'000'000));
  app.add_option("--offspring", s.offspring, "instead of the preset's")->check(count(0, 1 << 20));
  app.add_option("--survivors", s.survivors, "per stage, instead of the preset's: 4,2,1")
      ->delimiter(',')
      ->check(count(0, 1 << 20));
  app.add_option("--tokens", s.tokens, "per stage, instead of the preset's: 512,2048,8192")
      ->delimiter(',')
      ->check(count(2, most_tokens));
  app.add_option("--seed", s.seed)->check(any_seed());
  app.add_flag("--baselines", s.baselines, "measure what other methods choose, too");
  app.add_option("--start", s.begin,
                 "begin with these levels, a file that --config wrote for the same task and target");
  app.add_flag("--from-best", s.from_best,
               "begin with the best of --start, --baselines, --greedy and --best-of, as joint searches do");
  app.add_flag("--greedy", s.greedy,
               "baseline: one step down at a time from the highest levels, chosen by the stages of a "
               "generation (SLEB)");
  app.add_option("--best-of", s.random, "baseline: the best of so many random configurations")
      ->check(count(0, 1 << 20));
  app.add_option("--brute-force", s.brute,
                 "measure all configurations instead of searching, if at most so many")
      ->check(count(0, 1 << 24));
  app.add_option("--checkpoint", s.checkpoint, "file for the state of the search, after every generation");
  app.add_flag("--resume", s.resume, "go on from --checkpoint");
  app.add_option("-o,--out", s.out, "safetensors file for the compressed model");
  app.add_option("--config", s.config, "file for the levels, in EvoPress's text form");
  app.add_option("--tensor-types", s.tensor_types, "file for llama-quantize --tensor-type-file");
  app.add_option("--svg", s.svg, "two charts, NAME-convergence.svg and NAME-levels.svg");
  app.add_option("--json", s.json, "file for what was printed");
  app.add_flag("--mpi", s.mpi, "share candidates with the other processes of mpirun");
  add_threads(app, s.threads);
}

}  // namespace llama
