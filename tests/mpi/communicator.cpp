// SPDX-License-Identifier: Apache-2.0
// Run by mpirun on 1, 2 and 3 processes: every process checks what it gets against what one process computes.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <chrono>
#include <cstring>
#include <quern/core/mpi.hpp>
#include <quern/core/rng.hpp>
#include <thread>
#include <vector>

namespace {

/// What process @p rank contributes; longer than one piece of mpi::sum.
template <class T>
std::vector<T> values_of(std::size_t rank) {
  quern::rng random(7 + rank);
  std::vector<T> out((std::size_t{1} << 16) + 1001);
  for (T& v : out) v = static_cast<T>(random.normal());
  return out;
}

template <class T>
void check_sum(quern::communicator auto& others) {
  std::vector<T> mine = values_of<T>(others.rank()), expected = values_of<T>(0);
  for (std::size_t r = 1; r < others.size(); ++r) {
    const std::vector<T> next = values_of<T>(r);
    for (std::size_t i = 0; i < next.size(); ++i) expected[i] += next[i];
  }
  others.sum(std::span<T>(mine));
  CHECK(std::memcmp(mine.data(), expected.data(), mine.size() * sizeof(T)) ==
        0);  // the same order: the same bits
}

}  // namespace

TEST_CASE("sums are added in the order of ranks") {
  quern::mpi others;
  check_sum<float>(others);
  check_sum<double>(others);
  std::vector<float> none;
  others.sum(std::span<float>(none));
  CHECK(none.empty());
}

TEST_CASE("gather is in the order of ranks") {
  quern::mpi others;
  const std::vector<std::byte> mine(3, static_cast<std::byte>(others.rank() + 1));
  std::vector<std::byte> all(3 * others.size());
  others.gather(mine, all);
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(all[i] == static_cast<std::byte>(i / 3 + 1));
  all.pop_back();
  CHECK_THROWS_AS(others.gather(mine, all), quern::shape_error);
}

TEST_CASE("process 0 works alone, and where it fails all do") {
  quern::mpi others;
  const bool first = others.rank() == 0;
  using clock = std::chrono::system_clock;  // of one machine: comparable between processes
  const auto now = [] { return std::chrono::duration<double>(clock::now().time_since_epoch()).count(); };
  const double begun = quern::first_alone(others, [&] {
    const double at = now();
    if (first) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return at;
  });
  double earliest = first ? begun : 0;
  others.sum(std::span(&earliest, 1));
  if (!first) CHECK(begun >= earliest + 0.05);
  std::size_t worked = 0;
  const auto fail = [&]() -> int {
    ++worked;
    if (first) quern::raise(quern::io_error("no room"));
    return 1;
  };
  CHECK_THROWS_WITH_AS(quern::first_alone(others, fail),
                       first ? "no room" : "quern::first_alone: process 0 failed, and says why",
                       quern::error);
  CHECK(worked == (first ? 1 : 0));
}

TEST_CASE("a single process needs no MPI") {
  quern::alone one;
  std::vector<float> values = values_of<float>(0);
  one.sum(std::span<float>(values));
  CHECK(values == values_of<float>(0));
  std::vector<std::byte> all(2), mine{std::byte{4}, std::byte{5}};
  one.gather(mine, all);
  CHECK(all == mine);
  CHECK(quern::first_alone(one, [] { return 7; }) == 7);
}

int main(int argc, char** argv) {
  const quern::mpi_session session(argc, argv);
  doctest::Context context(argc, argv);
  return context.run();
}
