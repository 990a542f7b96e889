// SPDX-License-Identifier: Apache-2.0
// Compiled with -fopenmp, and only where there is OpenMP (tests/CMakeLists.txt).
#include <doctest/doctest.h>

#include <quern/core/openmp.hpp>

#include "cover.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE("openmp covers everything once") {
  for (std::size_t threads = 1; threads <= 4; ++threads) {
    openmp e(threads);
    check_executor(e, threads);
  }
}

TEST_CASE("openmp takes the number of threads that OpenMP would") {
  const int before = omp_get_max_threads();
  omp_set_num_threads(3);
  CHECK(openmp{}.concurrency() == 3);
  omp_set_num_threads(before);
}

TEST_CASE("openmp uses its threads and waits for them") {
  const int before = omp_get_max_threads();
  omp_set_dynamic(0);
  omp_set_num_threads(1);  // what is asked for here comes from e alone
  openmp e(2);
  check_threads(e);
  omp_set_num_threads(before);
}

TEST_CASE("fewer threads than asked for: every range is still done") {
  // A nested region has one thread by default.
  omp_set_max_active_levels(1);
  std::size_t calls = 0, nested_threads = 0;
#pragma omp parallel num_threads(2)
  {
#pragma omp single
    openmp(4).parallel_for(4, 1, [&](std::size_t, std::size_t) {
      ++calls;
      nested_threads = static_cast<std::size_t>(omp_get_num_threads());
    });
  }
  CHECK(nested_threads == 1);
  CHECK(calls == 4);
}

TEST_CASE("part_of shares a call between the threads of a parallel region") {
  check_cover(3, [&](std::size_t n, std::size_t grain, auto f) {
#pragma omp parallel num_threads(3)
    part_of(omp_get_thread_num(), omp_get_num_threads()).parallel_for(n, grain, f);
  });
}
