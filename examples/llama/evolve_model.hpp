// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::evolve_options o = llama::preset("small", "bits", 24, 65536).value();
// auto rivals = llama::depth_rivals(task, model, ids, 5, run, pool);

#include <functional>
#include <llama/layer_scores.hpp>
#include <llama/search_task.hpp>
#include <quern/search/checkpoint.hpp>
#include <string>
#include <vector>

namespace llama {

/// The hyper-parameters of a search by name: `paper` (EvoPress's scripts), `fast` (its super-fast variant), `small`
/// (fewer generations and children, for a small model or a small machine). Tokens per stage are scaled so that the last
/// stage is the whole calibration text where that is shorter than the paper's.
/// @param task    bits, sparsity, groups, depth or joint
/// @param pairs   k (n - k) of a depth search: its number of generations is that over 1.5
/// @param tokens  of the calibration text
/// @returns an error that lists the names
quern::result<quern::evolve_options> preset(const std::string& name, const std::string& task,
                                            std::size_t pairs, std::size_t tokens);
/// What a search will do, in one line: generations, offspring, survivors and tokens of every stage.
std::string describe(const quern::evolve_options& o);
/// A sentence that says by what preset() scales its tokens to a text of @p tokens; empty where it does not.
quern::result<std::string> scaling_of(const std::string& name, const std::string& task, std::size_t tokens);

/// A configuration that another method chose.
struct rival {
  std::string name;
  genome levels;
};
/// Uniform and dynamic programming; for sparsities OWL. Uniform is left out where the budget has none.
quern::result<std::vector<rival>> level_rivals(const search_task& task, const level_db& db,
                                               const model& dense, std::span<const std::int32_t> ids,
                                               double owl_density, quern::thread_pool& pool);
/// Block influence (ShortGPT), window cosine, weight subcloning, cosine of halves, and Shortened LLaMA by the fitness
/// of @p run on @p samples tokens, for tasks that drop n attention and n feed-forward halves.
std::vector<rival> depth_rivals(const search_task& task, const model& dense,
                                std::span<const std::int32_t> ids, std::size_t n, std::size_t samples,
                                candidate_runner& run, quern::thread_pool& pool);

/// Fitness over generations, and the levels of every kind of linear over the layers, as two charts.
std::string convergence_svg(const quern::evolve_state& state, const std::string& title);
std::string levels_svg(const search_task& task, const genome& g, const std::string& y_label, double scale);

/// Reads the state of a search that was stopped before or at @p generations. @returns an error that names the file
quern::result<quern::evolve_state> read_state(const std::string& path, const quern::search_space& space,
                                              std::uint64_t mark, std::uint64_t generations);

}  // namespace llama
