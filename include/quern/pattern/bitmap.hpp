// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::bitmap, quern::real<quern::f16>> w;   // unstructured: a bit per weight

#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {

/// Unstructured sparsity: any weight may be absent; a bit per weight says which. It saves bytes from about
/// one bit's worth of density on, but cannot skip work in groups: at random 50 % no group of 16 is empty.
struct bitmap {
  static constexpr int unit_rows = 1, unit_cols = 1, keep = 0, of = 0;
  static constexpr survivors kind = survivors::masked;
  [[gnu::always_inline]] static constexpr name label() { return name("bitmap"); }
};
static_assert(sparsity_pattern<bitmap>);

}  // namespace quern::inline v0
