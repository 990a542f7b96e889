// SPDX-License-Identifier: Apache-2.0
// Run by mpirun on 1, 2 and 3 processes: a search whose candidates are shared finds what a search of one process
// finds, bit for bit, and each process measures its part only.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cmath>
#include <quern/core/mpi.hpp>
#include <quern/search/checkpoint.hpp>
#include <quern/search/share.hpp>
#include <search/toy.hpp>

TEST_CASE("a shared search is the search of one process") {
  quern::mpi others;
  quern::alone one;
  quern::rng random(3);
  const quern_test::linear_fitness f = quern_test::random_linear(20, random);
  std::size_t measured = 0;
  // Products and roots of the sum: every bit of a fitness matters.
  const auto fitness = [&](std::span<const quern::genome> c, quern::minibatch b, std::span<double> out) {
    f(c, b, out);
    for (double& v : out) v = std::sqrt(v) * (1 + static_cast<double>(b.seed % 1000) / 7000);
    measured += c.size();
  };
  const quern::search_space s = quern_test::drop_space(20, 6);
  const quern::evolve_options o{.generations = 25,
                                .offspring = 9,
                                .stages = {{4, 1}, {1, 5}},
                                .initial = 7,
                                .initial_samples = 1,
                                .seed = 12};
  const auto run = [&](auto& communicator) {
    measured = 0;
    quern::evolve_state state = quern::evolve_start(s, o).value();
    auto evaluate = quern::share_candidates(communicator, fitness);
    quern::evolve(s, o, state, evaluate, [](const quern::evolve_state&) { return true; }).value();
    return quern::to_text(state, 0);
  };
  const std::string expected = run(one);
  const std::size_t all = measured;
  CHECK(run(others) == expected);
  // Every call deals its candidates one by one: a process has at most one more than its share of each.
  CHECK(measured <= all / others.size() + 1 + 2 * o.generations);
  CHECK((others.size() == 1) == (measured == all));
}

int main(int argc, char** argv) {
  const quern::mpi_session session(argc, argv);
  doctest::Context context(argc, argv);
  return context.run();
}
