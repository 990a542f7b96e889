// SPDX-License-Identifier: Apache-2.0
#pragma once
// double gb = bench::read_rate(data, 0.05);   // what memory gives a plain sum, in 1e9 bytes per second

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quern/core/config.hpp>
#include <quern/core/isa.hpp>
#include <span>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bench {

/// Sum of the 8-byte words of two streams, so that several pages are under way at once. More sums than registers would
/// be kept in memory, and measure that. (With SSE2, one thread, Zen 4: 20 GB/s where 512-bit loads reach 30, so that
/// shares of it are too high on a CPU without them.)
inline std::uint64_t sum_words_portable(const std::byte* p, std::size_t bytes) {
  const std::size_t half = bytes / 2 / 64 * 64;
  std::uint64_t s[2][8] = {};
  for (std::size_t i = 0; i < half; i += 64)
    for (std::size_t q = 0; q < 2; ++q) {
      std::uint64_t v[8];
      std::memcpy(v, p + q * half + i, sizeof v);
      for (std::size_t j = 0; j < 8; ++j) s[q][j] += v[j];
    }
  std::uint64_t total = 0;
  for (const auto& stream : s)
    for (const std::uint64_t v : stream) total += v;
  return total;
}
#if defined(__x86_64__)
/// The same of four streams with 512-bit loads: what reads fastest with one thread (Zen 4: one stream 29 GB/s, two and
/// four 32, eight 27; prefetching adds nothing).
QUERN_TARGET_BEGIN("avx512f")
inline std::uint64_t sum_words_512(const std::byte* p, std::size_t bytes) {
  const std::size_t quarter = bytes / 4 / 64 * 64;
  __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                  _mm512_setzero_si512()};
  for (std::size_t i = 0; i < quarter; i += 64)
#pragma GCC unroll 4
    for (std::size_t q = 0; q < 4; ++q)
      s[q] = _mm512_add_epi64(s[q], _mm512_loadu_si512(p + q * quarter + i));
  return static_cast<std::uint64_t>(
      _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_add_epi64(s[0], s[1]), _mm512_add_epi64(s[2], s[3]))));
}
QUERN_TARGET_END
#endif
inline std::uint64_t sum_words(const std::byte* p, std::size_t bytes) {
#if defined(__x86_64__)
  if (quern::isa::avx512::available()) return sum_words_512(p, bytes);
#endif
  return sum_words_portable(p, bytes);
}

/// Bytes per nanosecond of a plain read of all spans in turn by as many threads as the executor has, over at least
/// `seconds`.
template <class Exec>
double read_rate(const std::vector<std::span<const std::byte>>& spans, double seconds, Exec& exec) {
  using clock = std::chrono::steady_clock;
  double bytes = 0;
  volatile std::uint64_t sink = 0;
  const clock::time_point start = clock::now();
  std::chrono::duration<double, std::nano> spent{};
  do {
    for (const auto& s : spans) {
      const std::size_t parts = exec.concurrency();
      exec.parallel_for(parts, 1, [&](std::size_t begin, std::size_t end) {
        const std::size_t from = s.size() * begin / parts / 64 * 64, to = s.size() * end / parts / 64 * 64;
        sink = sum_words(s.data() + from, to - from);
      });
      bytes += static_cast<double>(s.size());
    }
    spent = clock::now() - start;
  } while (spent.count() < seconds * 1e9);
  static_cast<void>(sink);
  return bytes / spent.count();
}

#if defined(__x86_64__)
/// Chains of dot products of bytes in registers: 12 hide their latency (4 or 5 cycles, 1 or 2 a cycle), and g++ 12 keeps
/// them in registers, which it does not do with 24.
constexpr std::size_t dot_chains = 12;
QUERN_TARGET_BEGIN("avx512f,avx512vnni")
inline int dot_products(std::size_t rounds) {
  __m512i sum[dot_chains], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (auto& v : sum) v = _mm512_setzero_si512();
  for (std::size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (std::size_t j = 0; j < dot_chains; ++j) sum[j] = _mm512_dpbusd_epi32(sum[j], a, b);
  }
  for (std::size_t j = 1; j < dot_chains; ++j) sum[0] = _mm512_add_epi32(sum[0], sum[j]);
  return _mm512_reduce_add_epi32(sum[0]);
}
QUERN_TARGET_END
#endif

/// Operations per nanosecond (a multiply and an add are two) of 512-bit dot products of bytes on all threads of the
/// executor; 0 where the CPU has none.
template <class Exec>
double dot_rate(double seconds, Exec& exec) {
#if defined(__x86_64__)
  if (!quern::isa::avx512_vnni::available()) return 0;
  using clock = std::chrono::steady_clock;
  constexpr std::size_t rounds = 20000;
  double operations = 0;
  volatile int sink = 0;
  const clock::time_point start = clock::now();
  std::chrono::duration<double, std::nano> spent{};
  do {
    exec.parallel_for(exec.concurrency(), 1, [&](std::size_t, std::size_t) { sink = dot_products(rounds); });
    operations += static_cast<double>(exec.concurrency() * rounds * dot_chains * 128);
    spent = clock::now() - start;
  } while (spent.count() < seconds * 1e9);
  static_cast<void>(sink);
  return operations / spent.count();
#else
  static_cast<void>(seconds);
  static_cast<void>(exec);
  return 0;
#endif
}

}  // namespace bench
