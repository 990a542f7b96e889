// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the NEON tests share. tests/aarch64/run.sh, which has two compilers and an emulator, shares the formats
// out between them (QUERN_TEST_PART): two thirds for the faster one. Every format of every instruction set is run.

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <string>
#include <type_traits>

#include "int8_sweep.hpp"

namespace quern_test {

/// Whether this program sweeps F, one of All, for an instruction set: Shift moves the thirds.
template <class F, int Shift, class... All>
constexpr bool in_part() {
#if defined(QUERN_TEST_PART)
  int place = 0;
  bool found = false;
  ((found = found || std::is_same_v<F, All>, place += found ? 0 : 1), ...);
  return ((place + Shift) % 3 == 0) == (QUERN_TEST_PART == 1);
#else
  return true;
#endif
}

template <class Isa>
bool missing() {
  if (Isa::available()) return false;
  MESSAGE("SKIP: this CPU has no " << std::string(Isa::label().c_str()));
  return true;
}

/// Activations of A times all shapes of F, if Isa has a kernel for them.
template <class Isa, class A, class F>
void sweep_format() {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if (missing<Isa>()) return;
  if constexpr (has_integer_kernel<P, Q, A>()) sweep_integers<isa_list<Isa>, A, P, Q>();
}

/// The memory that Isa prepares is that of isa::scalar, byte for byte: inputs of many sizes, halves of a step,
/// zeros, and groups of NaN, infinity and numbers that have no code.
template <class Isa, class A>
void compare_prepared(std::size_t tokens, std::size_t cols, rng& g) {
  CAPTURE(tokens);
  CAPTURE(cols);
  dense_matrix x = random_matrix(tokens, cols, g);
  const float special[] = {std::nanf(""), HUGE_VALF, -HUGE_VALF, 1e-39f, 0.0f, 3e38f};
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t c = 0; c < cols; ++c) {
      float& v = x.view()(t, c);
      const std::size_t group = c / 32 % 16;
      if (group == 3) v = c % 32 == 0 ? 127.0f : std::round(v * 16) + 0.5f;  // ties: the step is 1
      if (group == 5) v = 0;
      if (group == 7) v *= 1e-38f;
      if (group == 9) v *= 1e30f;
      if (t % 2 == 1 && group > 10 && group - 11 < std::size(special) && c % 32 == 5) v = special[group - 11];
    }
  const std::size_t bytes = workspace_bytes<A>(tokens, cols);
  buffer memory(bytes), expected(bytes);
  std::memset(memory.data(), 0xa5, bytes);
  std::memset(expected.data(), 0xa5, bytes);
  prepare<A, isa_list<Isa>>(std::as_const(x).view(), memory.data());
  prepare<A, isa_list<isa::scalar>>(std::as_const(x).view(), expected.data());
  CHECK(std::memcmp(memory.data(), expected.data(), bytes) == 0);
  CHECK(std::memcmp(memory.data(), memory.data() + 1, bytes - 1) != 0);  // something was written
}
template <class Isa, class A>
void compare_prepared() {
  if (missing<Isa>()) return;
  rng g(13);
  for (const std::size_t tokens : {1u, 3u, 4u, 5u, 13u, 24u})
    for (const std::size_t cols : {1u, 15u, 16u, 127u, 128u, 1100u})
      compare_prepared<Isa, A>(tokens, cols, g);
}

}  // namespace quern_test
