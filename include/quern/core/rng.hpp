// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::rng g(42);  float u = g.uniform();  float n = g.normal();  auto i = g.below(10);

#include <cstdint>
#include <quern/core/config.hpp>

namespace quern::inline v0 {

inline namespace QUERN_BUILD {

/// xoshiro256** (Blackman and Vigna, 2018), seeded through splitmix64: equal seed, equal bits on every
/// platform. The whole state is four words, so that it can be written to a checkpoint.
class rng {
 public:
  std::uint64_t state[4];

  explicit constexpr rng(std::uint64_t seed = 1) : state{} {
    for (auto& s : state) {
      seed += 0x9e3779b97f4a7c15u;
      std::uint64_t z = seed;
      z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
      z = (z ^ z >> 27) * 0x94d049bb133111ebu;
      s = z ^ z >> 31;
    }
  }
  constexpr std::uint64_t operator()() {
    const std::uint64_t out = rotate(state[1] * 5, 7) * 9, t = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = rotate(state[3], 45);
    return out;
  }
  /// Uniform in [0, 1), 24 bits.
  constexpr float uniform() { return static_cast<float>((*this)() >> 40) * 0x1p-24f; }
  /// Uniform integer in [0, n), n > 0, without bias (rejection).
  constexpr std::uint64_t below(std::uint64_t n) {
    const std::uint64_t limit = ~std::uint64_t{0} - (~std::uint64_t{0} % n + 1) % n;
    std::uint64_t v = (*this)();
    while (v > limit) v = (*this)();
    return v % n;
  }
  /// Standard normal to about 1e-4 in the tails: the sum of twelve uniforms has no libm call that differs by
  /// platform. Its support is [-6, 6].
  constexpr float normal() {
    std::uint64_t sum = 0;
    for (int i = 0; i < 12; ++i) sum += (*this)() >> 40;
    return (static_cast<float>(sum) - 6.0f * 0x1p24f) * 0x1p-24f;
  }

 private:
  static constexpr std::uint64_t rotate(std::uint64_t x, int k) { return x << k | x >> (64 - k); }
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
