// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::bsr<16, 32>, quern::symmetric<4, 32>> w;   // blocks of 16 rows x 32 inputs

#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// Block sparsity: blocks of Rows x Width weights live or die together. `bsr<1, G>` keeps the same weights as
/// `group<G>`. Shared rows are what lets a kernel skip a block without any permutation: 16 and 32 are
/// fastest.
/// @tparam Rows   rows per block; 1, 2, 4, 8, or a multiple of 16
/// @tparam Width  inputs per block; a positive multiple of 8
template <int Rows, int Width>
struct bsr {
  static_assert(Rows == 1 || Rows == 2 || Rows == 4 || Rows == 8 || (Rows > 0 && Rows % 16 == 0),
                "quern::bsr: Rows must be 1, 2, 4, 8 or a multiple of 16");
  static_assert(Width > 0 && Width % 8 == 0, "quern::bsr: Width must be a positive multiple of 8");
  static constexpr int unit_rows = Rows, unit_cols = Width, keep = 0, of = 0;
  static constexpr survivors kind = Rows % 16 == 0 ? survivors::listed : survivors::masked;
  [[gnu::always_inline]] static constexpr name label() { return name("bsr<", Rows, ",", Width, ">"); }
};
static_assert(sparsity_pattern<bsr<16, 32>> && sparsity_pattern<bsr<4, 16>>);

}  // namespace quern::inline v0
