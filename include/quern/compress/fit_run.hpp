// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::run_params p = quern::fit_run<quern::affine<4, 16>>(w, importance, 16, 1.0f, {});

#include <algorithm>
#include <cmath>
#include <quern/quant/round.hpp>
#include <vector>

namespace quern::inline v0 {

/// A search for the range of a run: beside its own range, `steps` + 1 multiples of it from `highest` down to
/// `lowest` are tried, and the one with the smallest weighted squared error is taken. Clipping the extremes
/// pays the more the fewer the bits; a wider range pays where the ends fall between codes, as they do at the
/// end that a symmetric code has no mirror image for and where a zero point was rounded. Relative error of
/// 4-bit affine runs of 16 Gaussian weights: own range .0695, only narrower ones .0678, both .065. 0 steps:
/// the own range.
struct grid_search {
  int steps = 14;
  float lowest = 0.6f, highest = 1.14f;
  friend bool operator==(const grid_search&, const grid_search&) = default;
};

inline namespace QUERN_BUILD {

/// sum_i importance_i (w_i - decode(encode(w_i)))^2 over [n] weights. Not inlined: its callers are many, and
/// its vectorized loop is most of what a compiler has to do for a quantizer.
template <quantizer Q>
[[gnu::noinline]] float rounding_error(const float* w, const float* importance, std::size_t n, run_params p) {
  // Sixteen sums side by side are what lets a compiler vectorize without -ffast-math: this loop is most of
  // the time of compression.
  constexpr std::size_t width = 16;
  float part[width] = {};
  const auto lost = [&](std::size_t i) {
    const float d = w[i] - Q::decode(Q::encode(w[i], p), p);
    return importance[i] * d * d;
  };
  std::size_t i = 0;
  for (; i + width <= n; i += width)
    for (std::size_t k = 0; k < width; ++k) part[k] += lost(i + k);
  for (; i < n; ++i) part[0] += lost(i);
  float sum = 0;
  for (const float x : part) sum += x;
  return sum;
}

/// The parameters, as they come back from storage, of a run of @p n weights (the survivors of a run) with the
/// smallest error among those that the grid offers. Two-level scales try the multipliers of @p row_scale that
/// lie in the grid's range instead of its steps.
/// @param importance  [n] weights of the squared errors
/// @param row_scale   of the row, for quantizers that have one
/// @param error       null, or receives the error
template <quantizer Q>
run_params fit_run(const float* w, const float* importance, std::size_t n, float row_scale, grid_search grid,
                   float* error = nullptr) {
  float lo = 0, hi = 0;
  for (std::size_t i = 0; i < n; ++i) {
    lo = std::min(lo, w[i]);
    hi = std::max(hi, w[i]);
  }
  run_params best = Q::stored(Q::fit(lo, hi), row_scale);
  if (lo == hi || (grid.steps <= 0 && !Q::row_scaled && error == nullptr)) {
    if (error != nullptr) *error = rounding_error<Q>(w, importance, n, best);
    return best;
  }
  float least = rounding_error<Q>(w, importance, n, best);
  const auto attempt = [&](run_params candidate) {
    const run_params p = Q::stored(candidate, row_scale);
    const float e = rounding_error<Q>(w, importance, n, p);
    if (e < least) {
      least = e;
      best = p;
    }
  };
  if (grid.steps > 0) {
    if constexpr (Q::row_scaled) {
      const float ideal = std::abs(Q::fit(lo, hi).scale), largest = (1 << Q::scale_bits) - 1;
      const auto multiplier = [&](float t) {
        return static_cast<int>(std::clamp(std::ceil(t * ideal / row_scale), 1.0f, largest));
      };
      const int first = row_scale > 0 ? multiplier(grid.lowest) : 1;
      const int last = row_scale > 0 ? multiplier(grid.highest) : 0;
      for (int m = first; m <= last; ++m) {
        const float t = row_scale * static_cast<float>(m) / ideal;
        attempt(Q::fit(lo * t, hi * t));
      }
    } else {
      const float step = (grid.highest - grid.lowest) / static_cast<float>(grid.steps);
      for (int i = 0; i <= grid.steps; ++i) {
        const float t = grid.highest - step * static_cast<float>(i);
        attempt(Q::fit(lo * t, hi * t));
      }
    }
    if constexpr (Q::zero_bits > 0) {
      // The zero that the range suggests is rounded to a whole code; its neighbours may fit better.
      const run_params centre = best;
      attempt({centre.scale, centre.offset - centre.scale});
      attempt({centre.scale, centre.offset + centre.scale});
    }
  }
  if (error != nullptr) *error = least;
  return best;
}

/// The scale of a row of two-level runs, chosen before its runs are: the largest scale that a run asks for,
/// or a smaller one in the grid's range if the whole row is then rounded with less error. 1 for other
/// quantizers.
/// @param w  [cols] one row; pruned weights are zero
template <quantizer Q>
float fit_row_scale(const float* w, const float* importance, std::size_t cols, grid_search grid) {
  if constexpr (!Q::row_scaled) {
    return 1;
  } else {
    constexpr std::size_t run = Q::run;
    float largest = 0;
    for (std::size_t c = 0; c < cols; c += run) {
      float lo = 0, hi = 0;
      for (std::size_t i = c; i < std::min(cols, c + run); ++i) {
        lo = std::min(lo, w[i]);
        hi = std::max(hi, w[i]);
      }
      largest = std::max(largest, std::abs(Q::fit(lo, hi).scale));
    }
    float best = Q::row_scale(largest);
    if (grid.steps <= 0 || !(best > 0) || !is_finite(best)) return best;
    float least = 3.4e38f;
    // A step of 10 % moves a multiplier of 10 by one: steps of 5 % took twice the time for .0773 instead of
    // .0776 (relative error, 4 bits, run 16, Gaussian weights).
    for (float t = 1; t >= grid.lowest - 0.01f; t -= 0.1f) {
      const float scale = Q::row_scale(largest * t);
      float total = 0;
      for (std::size_t c = 0; c < cols; c += run) {
        float e = 0;
        fit_run<Q>(w + c, importance + c, std::min(run, cols - c), scale, grid, &e);
        total += e;
      }
      if (total < least) {
        least = total;
        best = scale;
      }
    }
    return best;
  }
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
