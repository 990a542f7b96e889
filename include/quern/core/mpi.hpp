// SPDX-License-Identifier: Apache-2.0
#pragma once
// int main(int argc, char** argv) {
//   const quern::mpi_session session(argc, argv);
//   quern::mpi others;                          // all processes that mpirun started
//   if (others.rank() == 0) ...
// }
// Not part of an umbrella: include it where MPI is wanted, and link MPI::MPI_CXX.

#include <mpi.h>
#include <quern/core/config.hpp>

#include <algorithm>
#include <limits>
#include <quern/core/communicator.hpp>
#include <quern/core/error.hpp>
#include <vector>

namespace quern::inline v0 {

/// MPI_Init and MPI_Finalize as a scope.
class mpi_session {
 public:
  mpi_session(int& argc, char**& argv) { MPI_Init(&argc, &argv); }
  ~mpi_session() { MPI_Finalize(); }
  mpi_session(const mpi_session&) = delete;
  mpi_session& operator=(const mpi_session&) = delete;
};

inline namespace QUERN_BUILD {

/// The processes of an MPI communicator. Sums are made here, in the order of ranks, of what every process sends to
/// all: MPI_Allreduce may add in another order on another number of nodes, and need not give all the same bits.
/// They need memory for size() pieces of 2^16 values. Errors of MPI end the program, as is its default.
class mpi {
 public:
  explicit mpi(MPI_Comm all = MPI_COMM_WORLD) : all_(all) {}
  std::size_t rank() const {
    int r = 0;
    MPI_Comm_rank(all_, &r);
    return static_cast<std::size_t>(r);
  }
  std::size_t size() const {
    int n = 1;
    MPI_Comm_size(all_, &n);
    return static_cast<std::size_t>(n);
  }
  void sum(std::span<float> values) const { sum_as(values, MPI_FLOAT); }
  void sum(std::span<double> values) const { sum_as(values, MPI_DOUBLE); }
  /// @throws shape_error unless all holds size() times as much as mine, or if mine is 2 GB or more
  void gather(std::span<const std::byte> mine, std::span<std::byte> all) const {
    require(all.size() == mine.size() * size(), "quern::mpi: gather needs ", mine.size() * size(),
            " bytes for the pieces of ", size(), " processes, got ", all.size());
    require(mine.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
            "quern::mpi: gather of ", mine.size(), " bytes; cut it into pieces below 2^31");
    const int count = static_cast<int>(mine.size());
    MPI_Allgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, all_);
  }

 private:
  template <class T>
  void sum_as(std::span<T> values, MPI_Datatype type) const {
    constexpr std::size_t piece = std::size_t{1} << 16;
    const std::size_t n = size();
    std::vector<T> parts(n * std::min(piece, values.size()));
    for (std::size_t first = 0; first < values.size(); first += piece) {
      const std::span<T> out = values.subspan(first, std::min(piece, values.size() - first));
      const int count = static_cast<int>(out.size());
      MPI_Allgather(out.data(), count, type, parts.data(), count, type, all_);
      std::copy_n(parts.data(), out.size(), out.data());
      for (std::size_t r = 1; r < n; ++r)
        for (std::size_t i = 0; i < out.size(); ++i) out[i] += parts[r * out.size() + i];
    }
  }
  MPI_Comm all_;
};
static_assert(communicator<mpi>);

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
