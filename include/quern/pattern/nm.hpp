// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::nm<2, 4>, quern::affine<4, 32>> w;   // the pattern of sparse tensor cores

#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// N:M sparsity: at most N NONZERO of every M consecutive inputs of a row. (Elsewhere "N:M" sometimes counts
/// the zeros; here 3:4 keeps three.)
/// @tparam N  weights kept; 1 <= N < M
/// @tparam M  consecutive inputs; 2..16
template <int N, int M>
struct nm {
  static_assert(N >= 1 && N < M && M <= 16,
                "quern::nm<N, M>: at most N NONZERO of M, so 1 <= N < M <= 16; did you mean nm<M, N>?");
  static constexpr int unit_rows = 1, unit_cols = 1, keep = N, of = M;
  static constexpr survivors kind = survivors::positions;
  [[gnu::always_inline]] static constexpr name label() { return name("nm<", N, ",", M, ">"); }
};
static_assert(sparsity_pattern<nm<2, 4>>);

}  // namespace quern::inline v0
