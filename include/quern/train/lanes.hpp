// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::for_lanes(4, pool, [&](std::size_t worker, std::size_t lane) {
//   for (std::size_t i = lane; i < batch.size(); i += 4) work(passes[worker], gradients[lane], batch[i]);
// });
// std::size_t sequence = quern::sequence_order(seed, epoch, count)[i];

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <quern/core/executor.hpp>
#include <quern/core/rng.hpp>
#include <utility>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Calls f(worker, lane) for every lane 0 .. lanes - 1, each taken by whichever worker 0 .. concurrency - 1 is free.
/// Sequences that are dealt to lanes and gradients that are kept by lane and added in order make results that do
/// not depend on the number of threads; only scratch belongs to a worker.
template <class Exec, class F>
void for_lanes(std::size_t lanes, Exec& exec, F&& f) {
  std::atomic<std::size_t> next{0};
  exec.parallel_for(exec.concurrency(), 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t worker = first; worker < end; ++worker)
      for (std::size_t lane = next++; lane < lanes; lane = next++) f(worker, lane);
  });
}

/// The order of @p n sequences in one epoch: a permutation that depends on its arguments only, so that a run that
/// is resumed needs no state for it.
inline std::vector<std::size_t> sequence_order(std::uint64_t seed, std::uint64_t epoch, std::size_t n) {
  rng random(seed * 0x9e3779b97f4a7c15u + epoch);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  return order;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
