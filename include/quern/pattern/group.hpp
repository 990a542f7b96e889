// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::group<16>, quern::affine<4, 16>> w;   // the format of GQSA

#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// Group sparsity (GQSA section 3): the weights of a row live or die in runs of Width inputs. Which runs live
/// is data of the matrix, free for every row, so every layer may have its own density.
/// @tparam Width  inputs per group; a positive multiple of 8
template <int Width>
struct group {
  static_assert(Width > 0 && Width % 8 == 0, "quern::group: Width must be a positive multiple of 8");
  static constexpr int unit_rows = 1, unit_cols = Width, keep = 0, of = 0;
  static constexpr survivors kind = survivors::masked;
  [[gnu::always_inline]] static constexpr name label() { return name("group<", Width, ">"); }
};
static_assert(sparsity_pattern<group<16>>);

}  // namespace quern::inline v0
