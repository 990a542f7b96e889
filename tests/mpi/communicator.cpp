// SPDX-License-Identifier: Apache-2.0
// Run by mpirun on 1, 2 and 3 processes: every process checks what it gets against what one process computes.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstring>
#include <quern/core/mpi.hpp>
#include <quern/core/rng.hpp>
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

TEST_CASE("a single process needs no MPI") {
  quern::alone one;
  std::vector<float> values = values_of<float>(0);
  one.sum(std::span<float>(values));
  CHECK(values == values_of<float>(0));
  std::vector<std::byte> all(2), mine{std::byte{4}, std::byte{5}};
  one.gather(mine, all);
  CHECK(all == mine);
}

int main(int argc, char** argv) {
  const quern::mpi_session session(argc, argv);
  doctest::Context context(argc, argv);
  return context.run();
}
