// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::group_nm<2, 4, 16>, quern::affine<4, 16>> w;   // 2 of every 4 groups of 16 inputs

#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// N:M sparsity of whole groups: of every M consecutive groups of Width inputs at most N survive, free for
/// every row. The density is a constant of the type, so 16 rows side by side always have the same amount of
/// work: the freedom of `group`, the speed of shared rows.
/// @tparam N      groups kept of every M; 1 <= N < M
/// @tparam M      groups per window; at most 16
/// @tparam Width  inputs per group; a positive multiple of 8
template <int N, int M, int Width>
struct group_nm {
  static_assert(N >= 1 && N < M && M <= 16,
                "quern::group_nm<N, M, Width>: at most N NONZERO groups of M, so 1 <= N < M <= 16");
  static_assert(Width > 0 && Width % 8 == 0, "quern::group_nm: Width must be a positive multiple of 8");
  static constexpr int unit_rows = 1, unit_cols = Width, keep = N, of = M;
  static constexpr survivors kind = survivors::masked;
  [[gnu::always_inline]] static constexpr name label() {
    return name("group_nm<", N, ",", M, ",", Width, ">");
  }
};
static_assert(sparsity_pattern<group_nm<2, 4, 16>>);

}  // namespace quern::inline v0
