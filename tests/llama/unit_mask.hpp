// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by the tests of formats that are known only at run time: masks that obey a pattern.

#include <cmath>
#include <llama/catalogue.hpp>
#include <quern/pattern/mask.hpp>

namespace quern_test {

/// Keeps the first units of every row (of every N:M window), a density @p density of them where the pattern
/// leaves it free.
inline quern::bit_mask first_units(const llama::format_facts& f, std::size_t rows, std::size_t cols,
                                   double density) {
  const auto width = static_cast<std::size_t>(f.unit_cols);
  const std::size_t units = (cols + width - 1) / width;
  const auto live = static_cast<std::size_t>(std::llround(density * static_cast<double>(units)));
  quern::bit_mask m(rows, cols, false);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) {
      const std::size_t u = c / width;
      m.set(r, c,
            f.of > 0           ? u % static_cast<std::size_t>(f.of) < static_cast<std::size_t>(f.keep)
            : f.free_density() ? u < live
                               : true);
    }
  return m;
}

}  // namespace quern_test
