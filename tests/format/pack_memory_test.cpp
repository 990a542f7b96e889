// SPDX-License-Identifier: Apache-2.0
// What an executor runs must not throw, so packing may allocate nothing there: every allocation of this program is
// seen by the operators below.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <quern/core/thread_pool.hpp>
#include <quern/format/pack.hpp>

#include "../formats.hpp"
#include "../support.hpp"

using namespace quern;
using namespace quern_test;

namespace {

thread_local bool inside = false;  // of what the executor runs
std::atomic<int> allocations{0};

/// A pool that marks its threads while they run a part.
struct watched_pool {
  thread_pool pool{3};
  std::size_t concurrency() const { return pool.concurrency(); }
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) {
    pool.parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
      inside = true;
      f(begin, end);
      inside = false;
    });
  }
};

}  // namespace

// Out of line: compilers that see through one of a pair take the two for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (inside) ++allocations;
  if (void* const p = std::malloc(size != 0 ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

TEST_CASE_TEMPLATE("packing allocates in the calling thread only", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  rng g(11);
  const dense_matrix w = random_matrix(70, 320, g);
  const bit_mask mask = random_mask<P>(70, 320, 0.5f, g);
  watched_pool pool;
  allocations = 0;
  const auto rounded = try_pack<P, Q>(w.view(), &mask, pool);
  REQUIRE(rounded);
  const coded_matrix<Q> codes(70, 320);
  CHECK(try_pack<P, Q>(codes, &mask, pool));
  CHECK(allocations == 0);
}
