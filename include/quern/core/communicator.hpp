// SPDX-License-Identifier: Apache-2.0
#pragma once
// template <quern::communicator C> void average(C& others, std::span<float> gradient) {
//   others.sum(gradient);                      // the same bits in every process
//   for (float& g : gradient) g /= static_cast<float>(others.size());
// }
// quern::alone one;  average(one, gradient);    // or quern::mpi, see core/mpi.hpp

#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <span>

namespace quern::inline v0 {

/// Processes that do the same work on different data and meet in collective calls, which all of them make in the
/// same order with equal lengths. `sum` replaces values by their sum over all processes, added in the order of
/// ranks: every process gets the same bits. `gather` fills all [size() x mine.size()] with what every process
/// passes, in the order of ranks. A call that cannot be completed ends the program or throws: it never returns
/// with other numbers.
template <class C>
concept communicator = requires(C& c, std::span<float> floats, std::span<double> doubles,
                                std::span<const std::byte> mine, std::span<std::byte> all) {
  {c.rank()};
  {c.size()};
  c.sum(floats);
  c.sum(doubles);
  c.gather(mine, all);
};

inline namespace QUERN_BUILD {

/// The communicator of a single process. To deal n items among processes: part_begin (core/executor.hpp).
struct alone {
  static constexpr std::size_t rank() { return 0; }
  static constexpr std::size_t size() { return 1; }
  static void sum(std::span<float>) {}
  static void sum(std::span<double>) {}
  static void gather(std::span<const std::byte> mine, std::span<std::byte> all) {
    for (std::size_t i = 0; i < mine.size(); ++i) all[i] = mine[i];
  }
};
static_assert(communicator<alone>);

/// Process 0 does @p work alone, then all others at once: for files that the first makes and the others find made. A
/// collective call. @returns what work returned to this process
/// @throws what work throws; and in all others an error where process 0 threw
template <communicator C, class Work>
auto first_alone(C& others, Work&& work) {
  double done = 0;
  const std::span<double> told(&done, 1);
  if (others.rank() != 0) {
    others.sum(told);
    if (done == 0) raise(error("quern::first_alone: process 0 failed, and says why"));
    return work();
  }
  struct tell {  // also where work throws: the others wait for it
    C& others;
    std::span<double> told;
    ~tell() { others.sum(told); }
  } const at_end{others, told};
  auto out = work();
  done = 1;
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
