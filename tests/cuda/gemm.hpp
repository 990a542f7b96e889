// SPDX-License-Identifier: Apache-2.0
#pragma once
// The sweep of shapes that every format of the tensor core kernel goes through.

#include <doctest/doctest.h>

#include "gemm_problem.hpp"

namespace quern_test {

template <int Tokens, class P, class Q, class T>
void check_product(const gemm_problem<P, Q, T>& p, std::uint64_t seed) {
  CHECK(wrong_outputs<quern::cuda::gemm<quern::matrix_view<P, Q>, T, Tokens>>(p, seed) == 0);
}

/// Shapes around every boundary of tiles, units, windows, chunks of inputs and blocks of tokens.
template <class P, class Q, class T>
void check_gemm() {
  using f = quern::cuda::gemm_format<quern::matrix_view<P, Q>, T>;
  const std::size_t u = f::unit, w = f::window;
  const struct {
    std::size_t rows, cols, tokens;
  } shapes[] = {{1, 1, 1},      {15, u - 1, 8},     {16, u, 7},          {17, u + 1, 9},  {33, w, 3},
                {64, w + 1, 1}, {65, 2 * w - 1, 5}, {31, 3 * w + u, 17}, {80, w + 24, 4}, {5, 5 * w + 3, 2}};
  std::uint64_t seed = 1;
  for (const auto& s : shapes) {
    ++seed;
    INFO(std::string(P::label().c_str()) << " " << std::string(Q::label().c_str()) << " " << s.rows << " x "
                                         << s.cols << ", " << s.tokens << " tokens, seed " << seed);
    quern::rng g(seed);
    const gemm_problem<P, Q, T> p(random_packed<P, Q>(s.rows, s.cols, 0.5f, g), s.tokens, g);
    if (seed % 2 == 0)
      check_product<8>(p, seed);
    else
      check_product<16>(p, seed);
  }
  if constexpr (f::kind == quern::survivors::listed || f::compact) {
    quern::rng g(99);
    const dense_matrix weights = random_matrix(90, 3 * w, g);
    const gemm_problem<P, Q, T> p(quern::pack<P, Q>(weights.view(), unbalanced_mask<P>(90, 3 * w, g)), 6, g);
    INFO("unbalanced " << std::string(P::label().c_str()));
    check_product<8>(p, 99);
  }
}

}  // namespace quern_test
