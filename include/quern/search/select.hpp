// SPDX-License-Identifier: Apache-2.0
#pragma once
// const std::vector<quern::stage> stages{{8, 2048}, {2, 16384}, {1, 65536}};
// auto left = quern::race(offspring, parents, stages, evaluate, random, counts).value();

#include <cmath>
#include <numeric>
#include <quern/core/rng.hpp>
#include <quern/search/genome.hpp>
#include <span>

namespace quern::inline v0 {

/// One round of selection: all candidates are measured on `samples` samples (tokens), `survivors` stay.
struct stage {
  std::size_t survivors = 1, samples = 1;
  friend bool operator==(const stage&, const stage&) = default;
};

/// Which samples a round is measured on: equal seeds mean equal samples. What they are is the evaluator's to know.
struct minibatch {
  std::uint64_t seed = 0;
  std::size_t samples = 0;
};

/// evaluate(candidates, batch, fitness) writes the fitness [candidates.size()] of each, smaller is better, on the
/// same samples for all. NaN marks a candidate that cannot be measured. The law: a fitness depends on its candidate and
/// the batch only, not on the other candidates or their order.
template <class E>
concept evaluator = requires(E& e, std::span<const genome> candidates, minibatch batch,
                             std::span<double> fitness) {
  e(candidates, batch, fitness);
};

/// A genome and what was measured of it last.
struct measured {
  genome levels;
  double fitness = 0;
};

/// What evaluation has cost so far.
struct evaluation_counts {
  std::uint64_t candidates = 0, samples = 0;
  std::uint64_t invalid = 0;  ///< fitnesses that were NaN
};

inline namespace QUERN_BUILD {

/// Multi-stage selection (EvoPress, algorithm 2): every stage draws a fresh minibatch that all its candidates share,
/// and the best `survivors` of it go on. Parents join every stage that leaves as many as the last one leaves (elitism:
/// they are measured again each time, so that a lucky measurement does not stay). Of equally good candidates the one
/// that stood further ahead stays.
/// @param stages  at least one; survivors must not grow from stage to stage
/// @returns the survivors of the last stage, best first, or an error if none of a stage's candidates can be measured
template <class Evaluate>
result<std::vector<measured>> race(std::vector<genome> candidates, std::span<const genome> parents,
                                   std::span<const stage> stages, Evaluate&& evaluate, rng& random,
                                   evaluation_counts& counts) {
  static_assert(evaluator<std::remove_reference_t<Evaluate>>,
                "quern::race: evaluate(span<const genome>, minibatch, span<double>) must be callable");
  std::vector<measured> best;
  for (const stage& now : stages) {
    if (now.survivors == stages.back().survivors)
      for (const genome& p : parents)
        if (std::find(candidates.begin(), candidates.end(), p) == candidates.end()) candidates.push_back(p);
    std::vector<double> fitness(candidates.size());
    evaluate(std::span<const genome>(candidates), minibatch{random(), now.samples},
             std::span<double>(fitness));
    counts.candidates += candidates.size();
    counts.samples += candidates.size() * now.samples;
    std::size_t valid = 0;
    for (double& f : fitness) {
      if (std::isnan(f)) {
        ++counts.invalid;
        f = HUGE_VAL;
      }
      valid += f < HUGE_VAL ? 1 : 0;
    }
    if (valid == 0)
      return error("quern::race: none of ", candidates.size(), " candidates on ", now.samples,
                   " samples has a finite fitness; check the model and the calibration text");
    std::vector<std::size_t> order(candidates.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return fitness[a] < fitness[b]; });
    order.resize(std::min(now.survivors, valid));
    best.clear();
    for (const std::size_t i : order) best.push_back({candidates[i], fitness[i]});
    candidates.clear();
    for (const measured& m : best) candidates.push_back(m.levels);
  }
  return best;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
