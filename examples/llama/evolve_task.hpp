// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::prepared_search p = llama::prepare_levels(settings, model, ids, progress, pool);
// llama::prepare_task(p, settings, model, {});
// quern::evolve_options o = llama::search_options(settings, p.task, tokens);

#include <functional>
#include <llama/evolve_settings.hpp>
#include <llama/search_task.hpp>
#include <memory>
#include <quern/search/evolve.hpp>

namespace llama {

/// The levels of the task, or the halves to drop.
struct prepared_search {
  std::unique_ptr<level_db> db;  // the task refers to it
  search_task task;
  std::size_t database_bytes = 0, predicted_bytes = 0;
};

/// Bytes of the levels that prepare_levels() makes or finds; 0 for depth. @throws for a target without meaning
std::size_t predicted_database(const evolve_settings& s, const model& m);
/// Makes the levels that the database lacks; there are none for depth.
/// @param ids       calibration text
/// @param progress  progress(done, all) after every level; false stops, and the blocks that are done are kept
/// @throws what the database returns as an error, and for settings that do not go together
prepared_search prepare_levels(const evolve_settings& s, const model& m, std::span<const std::int32_t> ids,
                               const std::function<bool(std::size_t, std::size_t)>& progress,
                               quern::thread_pool& pool);
/// The task over them. @param times  of decode_times, where @p s asks for a budget in time
/// @throws what the tasks return as errors
void prepare_task(prepared_search& p, const evolve_settings& s, const model& m,
                  const std::vector<std::vector<std::int64_t>>& times);
/// The preset with what was given instead. @param tokens  of the calibration text
quern::evolve_options search_options(const evolve_settings& s, const search_task& task, std::size_t tokens);
/// Tells searches apart whose checkpoints must not be mixed up: by the model's weights, the text, the levels and the
/// options. @param ids  of the calibration text  @param tokens  of them that fitness is measured on
std::uint64_t search_mark(const evolve_settings& s, const model& m, std::span<const std::int32_t> ids,
                          const search_task& task, const quern::evolve_options& o, std::size_t tokens);

}  // namespace llama
