// SPDX-License-Identifier: Apache-2.0
// Every format of the GEMV kernel on the emulator, over the edges of its shapes.
#include "gemv.hpp"

#include <doctest/doctest.h>

#include "../formats.hpp"

namespace {

using namespace quern_test;

template <class P, class Q, class T, int Tokens>
void compare(gemv_case c) {
  INFO(std::string(P::label().c_str())
       << " " << std::string(Q::label().c_str()) << ": " << c.rows << " x " << c.cols << ", " << c.tokens
       << " tokens, " << c.blocks << " blocks of " << c.threads);
  for (const cuda::schedule how : {cuda::schedule::tasks, cuda::schedule::rows}) {
    c.how = how;
    gemv_problem<P, Q, T, Tokens> problem(c);
    problem.run(1);
    REQUIRE(problem.check() == "");
    if (how == cuda::schedule::rows) continue;
    // The workspace has reset itself, and the order of the blocks and warps does not matter.
    const std::vector<float> before = problem.y;
    problem.run(2);
    REQUIRE(problem.check() == "");
    REQUIRE(problem.y == before);
  }
}

TEST_CASE_TEMPLATE("GEMV", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if constexpr (cuda::gemv_format<matrix_view<P, Q>>::supported) {
    constexpr std::size_t u = layout<P, Q>::cell_cols, b = P::unit_rows;
    compare<P, Q, f16, 1>({1, 1, 1, 1, 32});
    compare<P, Q, bf16, 1>({b + 1, u - 1, 1, 2, 32});
    compare<P, Q, f16, 1>({16, u, 1, 4, 64});
    compare<P, Q, bf16, 2>({17, 17 * u + 3, 2, 3, 64});
    compare<P, Q, f16, 1>({2 * b + 5, 35 * u, 1, 5, 96});
    compare<P, Q, f16, 4>({48, 16 * u, 3, 2, 128});
    compare<P, Q, f16, 1>({40, 20 * u, 1, 40, 32, 0.02f});
  } else {
    CHECK(cuda::gemv_format<matrix_view<P, Q>>::why_not() != nullptr);
  }
}

}  // namespace
