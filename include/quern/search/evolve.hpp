// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::evolve_options o{.generations = 150, .offspring = 128, .stages = {{16, 2048}, {4, 16384}, {1, 131072}}};
// auto state = quern::evolve_start(space, o).value();
// quern::evolve(space, o, state, evaluate, [](const quern::evolve_state& s) { return true; }).value();
// use(state.parents[0].levels);

#include <quern/search/mutate.hpp>
#include <quern/search/select.hpp>

namespace quern::inline v0 {

/// The hyper-parameters of the (1 + lambda) search.
struct evolve_options {
  std::size_t generations = 150;
  std::size_t offspring = 128;  ///< lambda
  std::vector<stage> stages = {
      {16, 2048}, {4, 16384}, {1, 131072}};  ///< the last one leaves the next parents
  /// Where no parents are given: so many random genomes compete on so many samples to be the first.
  std::size_t initial = 64, initial_samples = 2048;
  mutate_options mutate = {};
  std::uint64_t seed = 1;
  friend bool operator==(const evolve_options&, const evolve_options&) = default;
};

/// The best of a generation, measured on its last minibatch.
struct generation_record {
  std::uint64_t generation = 0;
  double fitness = 0;
  std::uint64_t candidates = 0, samples = 0;  ///< evaluations since the start
};

/// All that a search is between two generations. The same state goes on in the same way (see search/checkpoint.hpp).
struct evolve_state {
  std::uint64_t generation = 0;
  rng random{1};
  std::vector<measured>
      parents;  ///< best first, one or the survivors of the last stage; empty before the first
  evaluation_counts counts;
  std::vector<generation_record> history;
};

inline namespace QUERN_BUILD {

/// @returns an error that names the option without meaning
inline result<void> check(const evolve_options& o) {
  const auto bad = [](const auto&... why) { return error("quern::evolve_options: ", why...); };
  if (o.offspring == 0 || o.stages.empty()) return bad("there must be offspring and a stage");
  if (o.mutate.max_flips == 0 || o.mutate.reach == 0) return bad("max_flips and reach must be positive");
  for (std::size_t i = 0; i < o.stages.size(); ++i) {
    if (o.stages[i].survivors == 0 || o.stages[i].samples == 0)
      return bad("stage ", i, " must have survivors and samples");
    if (i > 0 && o.stages[i].survivors > o.stages[i - 1].survivors)
      return bad("stage ", i, " cannot leave ", o.stages[i].survivors, " of ", o.stages[i - 1].survivors);
  }
  return {};
}

/// The state before the first generation. @param parents  genomes to start from, for instance the uniform one; empty:
/// evolve() chooses among random ones. @returns an error if the space, the options or a parent cannot be used
inline result<evolve_state> evolve_start(const search_space& s, const evolve_options& o,
                                         std::span<const genome> parents = {}) {
  if (auto ok = check(s); !ok) return ok.error();
  if (auto ok = check(o); !ok) return ok.error();
  if (parents.empty() && (o.initial == 0 || o.initial_samples == 0))
    return error("quern::evolve_start: without parents, initial and initial_samples must be positive");
  evolve_state state;
  state.random = rng(o.seed);
  for (const genome& p : parents) {
    if (!conforms(s, p)) return error("quern::evolve_start: a parent does not keep the budget of its space");
    state.parents.push_back({p, 0});
  }
  return state;
}

/// Up to @p count different children of the state's parents, none of them a parent. A small space may not have so
/// many: after 64 attempts for each the search goes on with fewer.
inline std::vector<genome> breed(const search_space& s, const evolve_options& o,
                                 std::span<const genome> parents, rng& random) {
  std::vector<genome> out;
  const auto among = [](const auto& list, const genome& g) {
    return std::find(list.begin(), list.end(), g) != list.end();
  };
  for (std::size_t attempt = 0; out.size() < o.offspring && attempt < 64 * o.offspring; ++attempt) {
    genome child = mutate(s, parents[random.below(parents.size())], o.mutate, random);
    if (!among(parents, child) && !among(out, child)) out.push_back(std::move(child));
  }
  return out;
}

/// The (1 + lambda) search of EvoPress (algorithm 1), or (mu + lambda) where the last stage leaves mu: children of
/// random parents by level switches, then race(). Every genome that is evaluated keeps the budget.
/// Equal states, options and fitnesses give equal searches on every platform.
/// @param state     from evolve_start, or read back; changed in place after every generation
/// @param progress  progress(state) after every generation; false stops
/// @returns false where progress() stopped it, or an error: see race()
template <class Evaluate, class Progress>
result<bool> evolve(const search_space& s, const evolve_options& o, evolve_state& state, Evaluate&& evaluate,
                    Progress&& progress) {
  if (state.parents.empty()) {
    std::vector<genome> first;
    for (std::size_t attempt = 0; first.size() < o.initial && attempt < 64 * o.initial; ++attempt) {
      genome g = random_genome(s, state.random);
      if (std::find(first.begin(), first.end(), g) == first.end()) first.push_back(std::move(g));
    }
    const stage only{o.stages.back().survivors, o.initial_samples};
    auto best = race(std::move(first), {}, std::span(&only, 1), evaluate, state.random, state.counts);
    if (!best) return best.error();
    state.parents = std::move(*best);
  }
  while (state.generation < o.generations) {
    std::vector<genome> parents;
    for (const measured& m : state.parents) parents.push_back(m.levels);
    auto best =
        race(breed(s, o, parents, state.random), parents, o.stages, evaluate, state.random, state.counts);
    if (!best) return best.error();
    state.parents = std::move(*best);
    ++state.generation;
    state.history.push_back(
        {state.generation, state.parents[0].fitness, state.counts.candidates, state.counts.samples});
    if (!progress(std::as_const(state))) return false;
  }
  return true;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
