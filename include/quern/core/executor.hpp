// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply(w, x, y);                 // serial: the library never starts a thread
// quern::thread_pool pool(2);               // quern/core/thread_pool.hpp, for tools
// quern::multiply(w, x, y, pool);           // or any type with the two members below
// quern::multiply(w, x, y, quern::part_of(ith, nth));   // in each of an engine's nth threads: its share only

#include <concepts>
#include <cstddef>
#include <quern/core/config.hpp>

namespace quern::inline v0 {

/// Threads come from the caller. An executor splits [0, n) into contiguous ranges of at least `grain` items,
/// calls f(begin, end) once for each, possibly at the same time, and returns when all are done. f must not
/// throw. The law: results may not depend on the split.
template <class E>
concept executor = requires(E& e, void (*f)(std::size_t, std::size_t)) {
  e.parallel_for(std::size_t{}, std::size_t{}, f);
  {e.concurrency()};
};

inline namespace QUERN_BUILD {

/// How many ranges an executor makes of [0, n): at most one per thread, each of at least @p grain items, but one
/// for n < grain too, and none for n = 0. A grain or concurrency of 0 counts as 1.
constexpr std::size_t part_count(std::size_t n, std::size_t grain, std::size_t concurrency) {
  const std::size_t most = grain > 1 ? n / grain : n;
  const std::size_t parts = most < concurrency ? most : concurrency;
  return n == 0 ? 0 : parts == 0 ? 1 : parts;
}

/// Where range i of @p parts ranges of [0, n) begins, floor(n i / parts); it ends where i + 1 begins. Lengths
/// differ by 1 at most. No product overflows, for fewer than 2^32 parts.
constexpr std::size_t part_begin(std::size_t n, std::size_t parts, std::size_t i) {
  return n / parts * i + n % parts * i / parts;
}

/// Runs everything in the calling thread.
struct serial {
  static constexpr std::size_t concurrency() { return 1; }
  template <class F>
  void parallel_for(std::size_t n, std::size_t /*grain*/, F&& f) const {
    if (n != 0) f(std::size_t{0}, n);
  }
};
static_assert(executor<serial>);

/// For an engine that makes one call in every one of its threads: thread `ith` of `nth` does its own range and
/// leaves the others alone. Where the work is not worth nth threads, the last of them do nothing.
/// The law: all nth threads make the same call with the same arguments, and none reads the result before the
/// engine has joined them; other executors return when all is done, this one when its own part is. So it serves
/// calls that fill the caller's memory in one pass (multiply, multiply_panels, unpack, prepare), not calls
/// that return what they made (pack), nor `activations::assign` on one object: every thread would give it
/// memory, a race. Let all threads `prepare` in one workspace, or one thread assign.
class part_of {
 public:
  /// @param ith  this thread, 0 .. nth - 1
  /// @param nth  threads that make the call
  template <std::integral Ith, std::integral Nth>
  constexpr part_of(Ith ith, Nth nth)
      : ith_(static_cast<std::size_t>(ith)), nth_(static_cast<std::size_t>(nth)) {}
  constexpr std::size_t concurrency() const { return nth_; }
  template <class F>
  void parallel_for(std::size_t n, std::size_t grain, F&& f) const {
    const std::size_t parts = part_count(n, grain, nth_);
    if (ith_ < parts) f(part_begin(n, parts, ith_), part_begin(n, parts, ith_ + 1));
  }

 private:
  std::size_t ith_, nth_;
};
static_assert(executor<part_of>);

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
