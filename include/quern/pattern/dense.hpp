// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::dense, quern::affine<4, 32>> w;   // quantized, not pruned

#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// No sparsity: every weight is stored.
struct dense {
  static constexpr int unit_rows = 1, unit_cols = 1, keep = 0, of = 0;
  static constexpr survivors kind = survivors::all;
  [[gnu::always_inline]] static constexpr name label() { return name("dense"); }
};
static_assert(sparsity_pattern<dense>);

}  // namespace quern::inline v0
