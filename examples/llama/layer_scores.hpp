// SPDX-License-Identifier: Apache-2.0
#pragma once
// const llama::stream_scores s = llama::score_streams(model, ids, 256, 16, pool);
// quern::genome g = llama::drop_lowest(task, llama::unit_scores(task, s.cosine));

#include <llama/search_task.hpp>
#include <span>
#include <vector>

namespace llama {

/// What the halves and the blocks of a model do to the stream of a text, averaged over its positions: the scores by
/// which other methods drop. The least score goes first.
struct stream_scores {
  std::vector<double> cosine;  ///< [2 * layers] 1 - cos(in, out) of a half
  std::vector<double> ratio;   ///< [2 * layers] |out - in| / |out|: weight subcloning (arXiv 2312.09299)
  std::vector<double> block_cosine;  ///< [layers] ShortGPT's block influence (arXiv 2403.03853)
  /// [layers][width] 1 - cos between the inputs of block l and of block l + width + 1: windows of blocks (Gromov et
  /// al., arXiv 2403.17887); row l ends with the last block.
  std::vector<std::vector<double>> window_cosine;
};
/// Runs @p windows windows of @p context tokens. Memory: layers + 1 streams of a window.
stream_scores score_streams(const model& m, std::span<const std::int32_t> ids, std::size_t context,
                            std::size_t windows, quern::thread_pool& pool);

/// Whole blocks dropped by block scores, n in all: both halves of each go. For depth tasks of halves.
genome drop_blocks(const search_task& halves, std::span<const double> block_scores, std::size_t n);
/// The n consecutive blocks whose window moves the stream least.
genome drop_window(const search_task& halves, const stream_scores& s, std::size_t n);
/// The fitness of the model without each single unit (Shortened LLaMA, arXiv 2402.02834): its perplexity or its KL, as
/// @p evaluate measures it, on @p samples tokens.
template <class Evaluate>
std::vector<double> single_drop_scores(const search_task& task, std::size_t samples, Evaluate&& evaluate) {
  std::vector<genome> each(task.space.units.size(), genome(task.space.units.size(), 1));
  for (std::size_t u = 0; u < each.size(); ++u) each[u][u] = 0;
  std::vector<double> out(each.size());
  evaluate(std::span<const genome>(each), quern::minibatch{1, samples}, std::span<double>(out));
  return out;
}

/// OWL (arXiv 2310.05175): the share of weights of every block whose |w| sqrt(mean x^2) exceeds @p m times the mean over
/// their matrix.
quern::result<std::vector<double>> outlier_ratios(const model& dense, std::span<const std::int32_t> ids,
                                                  std::size_t context, std::size_t windows, double m,
                                                  quern::thread_pool& pool);
/// The levels nearest to OWL's densities, density +- lambda by the outlier ratio of the block, brought to the budget by
/// the steps that move least away from them. @param task  from density_task(db)
genome owl_levels(const search_task& task, const level_db& db, std::span<const double> ratios, double density,
                  double lambda);

}  // namespace llama
