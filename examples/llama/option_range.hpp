// SPDX-License-Identifier: Apache-2.0
#pragma once
// app.add_option("--density", density, "...")->check(llama::finite(0, 1));
// app.add_option("--windows", windows, "...")->check(llama::count(0, llama::most_windows));
// app.add_option("--seed", seed)->check(llama::any_seed());

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

namespace llama {

/// The largest counts that programs take: more than any run needs, and products of a few of them stay inside 64 bits.
inline constexpr std::uint64_t most_windows = 1 << 20, most_context = 1 << 20, most_sequences = 1 << 16,
                               most_steps = 1'000'000'000, most_tokens = std::uint64_t{1} << 40;
/// The largest and the smallest learning rate, weight decay and norm: what a float holds. What trains is near 1e-3.
inline constexpr double most_rate = 1e30, least_rate = 1e-30;

/// Of a real option: a finite number low..high. CLI::Range lets NaN through, which is neither below nor above.
inline CLI::Validator finite(double low, double high) {
  char range[64];
  std::snprintf(range, sizeof range, "%.9g..%.9g", low, high);
  return CLI::Validator(
      [low, high, text = std::string(range)](std::string& given) {
        double value = 0;
        const char* const end = given.data() + given.size();
        const auto [stop, problem] = std::from_chars(given.data(), end, value);
        const bool good = problem == std::errc() && stop == end && value >= low && value <= high;
        return good ? std::string() : "'" + given + "' is not a number " + text;
      },
      range);
}

/// Of a whole option: digits that say low..high. CLI11 would take -1 as 2^64 - 1, 010 as 8, and cut what has more than
/// 64 bits.
inline CLI::Validator count(std::uint64_t low, std::uint64_t high) {
  const std::string range = std::to_string(low) + ".." + std::to_string(high);
  return CLI::Validator(
      [low, high, range](std::string& given) {
        std::uint64_t value = 0;
        const char* const end = given.data() + given.size();
        const auto [stop, problem] = std::from_chars(given.data(), end, value);
        const bool plain = given.size() == 1 || given.front() != '0';
        const bool good = problem == std::errc() && stop == end && plain && value >= low && value <= high;
        return good ? std::string() : "'" + given + "' is not a whole number " + range;
      },
      range);
}

/// Of a seed: every number of 64 bits.
inline CLI::Validator any_seed() { return count(0, std::numeric_limits<std::uint64_t>::max()); }

/// Of a number of threads; 0: all cores.
inline CLI::Validator thread_count() { return count(0, 1024); }

}  // namespace llama
