// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto task = llama::bits_task(db, 3.0, quern::grouping::size).value();
// llama::candidate_runner run(model, task.assemble, task.half_of, ids, {}, pool);

#include <llama/candidates.hpp>
#include <llama/level_db.hpp>
#include <quern/search/baselines.hpp>
#include <string>
#include <vector>

namespace llama {

/// A search over one model: what its units are, what levels do to the model, and where to start.
struct search_task {
  quern::level_table table;  ///< units, in the order of the space; gates last
  quern::search_space space;
  assembler assemble;
  std::vector<std::size_t> half_of;  ///< see candidate_runner
  /// The same level everywhere, as far as the budget allows; empty where there is none and random genomes compete.
  std::vector<genome> start;
};

/// What is dropped as a whole in a depth search: halves count apart (EvoPress), or blocks, or pairs of blocks.
enum class drop_unit { halves, blocks, pairs };

/// Drops @p attn of the attention and @p ffn of the feed-forward halves; of blocks or pairs @p attn. Level 0 is dropped.
/// @returns an error if nothing or everything would be dropped, with the nearest numbers that can be
quern::result<search_task> depth_task(const model& m, drop_unit unit, std::size_t attn, std::size_t ffn);
/// int(share * n) of n (EvoPress).
std::size_t drop_count(std::size_t n, double share);
/// The genome that drops the units with the least scores [units] of each group.
genome drop_lowest(const search_task& task, std::span<const double> scores);
/// The scores of halves [2 * layers] as scores of the units of a depth task of halves.
std::vector<double> unit_scores(const search_task& task, std::span<const double> half_scores);

/// Bits per weight of bit_recipes(), @p target on average in every group (EvoPress), or in all, at most (none).
/// @param db  must outlive the task
/// @returns an error for a target that the layers of a group cannot have on average, with the nearest that they can
quern::result<search_task> bits_task(const level_db& db, double target, quern::grouping by);
/// Densities of density_recipes(): as many weights survive as with @p density everywhere.
quern::result<search_task> density_task(const level_db& db);
/// What a joint search may choose among; with one kind of level and no drops it is the search of a single axis.
struct joint_choice {
  quern::level_choice keep = quern::level_choice::front;  ///< of the levels of one linear
  std::vector<std::string> only = {};                     ///< names of recipes; empty: all of the database
  bool drop = true;                                       ///< whether halves may be dropped
};
/// The levels of every linear that @p may leaves, and every half dropped or not, together at most @p budget of `cost`.
/// @param cost  [linears][levels] in the order of the database; empty: the bytes that are stored
/// @returns an error that names a level which the database lacks, or the nearest possible budget
quern::result<search_task> joint_task(const level_db& db, std::int64_t budget,
                                      const std::vector<std::vector<std::int64_t>>& cost = {},
                                      const joint_choice& may = {});
/// Bytes of the linears of the blocks of a model.
std::size_t block_bytes(const model& m);
/// Weights of the linears of the blocks.
std::size_t block_weights(const model& m);

}  // namespace llama
