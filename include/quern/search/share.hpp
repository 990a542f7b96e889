// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::mpi world;                                               // or quern::alone
// auto evaluate = quern::share_candidates(world, local_evaluate);  // every process makes the same search
// quern::evolve(space, options, state, evaluate, progress);

#include <quern/core/communicator.hpp>
#include <quern/search/select.hpp>
#include <utility>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// An evaluator that deals the candidates among the processes of a communicator: process r measures candidates r, r +
/// size, .. and all receive all fitnesses. Every process runs the whole search with equal options: the search itself
/// costs nothing beside the fitness, and equal seeds make equal decisions, so that nothing else has to be sent.
/// As fitnesses do not depend on each other, the result is that of one process, bit for bit.
/// @param others  must outlive the evaluator, as must what @p evaluate refers to
template <communicator C, class Evaluate>
auto share_candidates(C& others, Evaluate evaluate) {
  return [&others, evaluate = std::move(evaluate)](std::span<const genome> candidates, minibatch batch,
                                                   std::span<double> fitness) mutable {
    const auto rank = static_cast<std::size_t>(others.rank()), size = static_cast<std::size_t>(others.size());
    std::vector<genome> mine;
    for (std::size_t i = rank; i < candidates.size(); i += size) mine.push_back(candidates[i]);
    std::vector<double> measured(mine.size());
    if (!mine.empty()) evaluate(std::span<const genome>(mine), batch, std::span<double>(measured));
    // One process contributes, the others add zero, which changes no bit of a fitness that is not -0.
    for (std::size_t i = 0; i < candidates.size(); ++i)
      fitness[i] = i % size == rank ? measured[i / size] : 0.0;
    others.sum(fitness.first(candidates.size()));
  };
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
