// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by the tests: seeded weights and masks that obey a pattern, and the list of formats to sweep.

#include <quern/core/rng.hpp>
#include <quern/core/span2.hpp>
#include <quern/pattern/mask.hpp>
#include <vector>

namespace quern_test {

struct dense_matrix {
  std::size_t rows = 0, cols = 0;
  std::vector<float> data;
  dense_matrix(std::size_t r, std::size_t c) : rows(r), cols(c), data(r * c) {}
  quern::span2<float> view() { return {data.data(), rows, cols}; }
  quern::span2<const float> view() const { return {data.data(), rows, cols}; }
};

inline dense_matrix random_matrix(std::size_t rows, std::size_t cols, quern::rng& g) {
  dense_matrix m(rows, cols);
  for (float& v : m.data) v = g.normal();
  return m;
}

/// A random mask that obeys P; patterns of free density keep about @p density of their units.
template <class P>
quern::bit_mask random_mask(std::size_t rows, std::size_t cols, float density, quern::rng& g) {
  quern::bit_mask m(rows, cols, P::kind == quern::survivors::all);
  if (P::kind == quern::survivors::all) return m;
  const std::size_t units = quern::units_per_row<P>(cols);
  for (std::size_t top = 0; top < rows; top += P::unit_rows) {
    for (std::size_t first = 0; first<units; first += P::of> 0 ? P::of : 1) {
      int left = P::of > 0 ? P::keep : 1;
      const std::size_t width = P::of > 0 ? P::of : 1;
      for (std::size_t i = 0; i < width && first + i < units; ++i) {
        const bool keep = P::of > 0 ? left > 0 && g.below(width - i) < static_cast<std::size_t>(left)
                                    : g.uniform() < density;
        if (!keep) continue;
        --left;
        for (std::size_t r = top; r < top + P::unit_rows && r < rows; ++r)
          for (std::size_t c = (first + i) * P::unit_cols; c < (first + i + 1) * P::unit_cols && c < cols;
               ++c)
            m.set(r, c, true);
      }
    }
  }
  return m;
}

inline void apply(const quern::bit_mask& m, dense_matrix& w) {
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t c = 0; c < w.cols; ++c)
      if (!m(r, c)) w.view()(r, c) = 0;
}

template <class P, class Q>
struct format {
  using pattern = P;
  using quantizer = Q;
};

}  // namespace quern_test
