// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::unit_scores<P>(ctx, scores_args);   // mean |w| of every unit
// quern::cuda::keep_best(ctx, select_args);        // alive[block row][unit]: 1 for the best of each row or window

#include <quern/kernel/cuda/context.hpp>
#include <quern/pattern/concept.hpp>

namespace quern::inline v0 {
namespace cuda {

struct score_arguments {
  const float* w = nullptr;  ///< [rows][cols]
  const float* factor =
      nullptr;              ///< [cols] that |w| is multiplied with (Wanda: the norm of the input), or null
  float* scores = nullptr;  ///< [block rows][units]
  std::size_t rows = 0, cols = 0;
};

/// The magnitude of every unit of W: the mean of |w| over its weights, in the order of unit_magnitudes on the CPU.
/// One thread per unit, any grid.
template <sparsity_pattern P, context Ctx>
QUERN_HD void unit_scores(Ctx& ctx, const score_arguments& a) {
  constexpr std::size_t tall = P::unit_rows, wide = P::unit_cols;
  const std::size_t units = (a.cols + wide - 1) / wide, blocks = (a.rows + tall - 1) / tall;
  const std::size_t threads = std::size_t{ctx.blocks()} * ctx.threads();
  for (std::size_t i = std::size_t{ctx.block()} * ctx.threads() + ctx.thread(); i < blocks * units;
       i += threads) {
    const std::size_t top = i / units * tall, left = i % units * wide;
    const std::size_t end_row = top + tall < a.rows ? top + tall : a.rows;
    const std::size_t end_col = left + wide < a.cols ? left + wide : a.cols;
    float sum = 0;
    for (std::size_t r = top; r < end_row; ++r)
      for (std::size_t c = left; c < end_col; ++c) {
        const float v = ctx.load(a.w + r * a.cols + c), magnitude = v < 0 ? -v : v;
        sum += a.factor != nullptr ? magnitude * ctx.load(a.factor + c) : magnitude;
      }
    a.scores[i] = sum / static_cast<float>((end_row - top) * (end_col - left));
  }
}

struct select_arguments {
  const float* scores = nullptr;  ///< [blocks][units]
  std::uint8_t* alive = nullptr;  ///< [blocks][units]
  std::size_t blocks = 0, units = 0;
  std::size_t window = 0;   ///< units that compete: M of N:M, or `units`
  std::size_t keep = 0;     ///< how many of a window survive
  unsigned* nan = nullptr;  ///< becomes 1 if a score is NaN
};

/// Keeps the `keep` best of every window of a block row; of equal ones those further left (quern::select on the CPU).
/// One thread per unit counts the units that are better, which needs no order and no memory: n^2 comparisons of a
/// row, 10 ms for a layer of LLaMA 70B if they run at a tenth of an H100's rate, once per matrix.
template <context Ctx>
QUERN_HD void keep_best(Ctx& ctx, const select_arguments& a) {
  const std::size_t threads = std::size_t{ctx.blocks()} * ctx.threads();
  for (std::size_t i = std::size_t{ctx.block()} * ctx.threads() + ctx.thread(); i < a.blocks * a.units;
       i += threads) {
    const std::size_t unit = i % a.units, first = unit / a.window * a.window;
    const std::size_t end = first + a.window < a.units ? first + a.window : a.units;
    const float* row = a.scores + (i - unit);
    const float own = ctx.load(row + unit);
    std::size_t better = 0;
    for (std::size_t u = first; u < end; ++u) {
      const float other = ctx.load(row + u);
      better += other > own || (other == own && u < unit) ? 1 : 0;
    }
    if (!(own == own)) ctx.atomic_or(a.nan, 1);
    a.alive[i] = better < a.keep ? 1 : 0;
  }
}

struct mark_arguments {
  const std::uint32_t* order = nullptr;  ///< [count] units, best first
  std::uint8_t* alive = nullptr;
  std::size_t count = 0, keep = 0;
};

/// Marks the first `keep` units of an order: the choice within a whole matrix, after a sort.
template <context Ctx>
QUERN_HD void mark_first(Ctx& ctx, const mark_arguments& a) {
  const std::size_t threads = std::size_t{ctx.blocks()} * ctx.threads();
  for (std::size_t i = std::size_t{ctx.block()} * ctx.threads() + ctx.thread(); i < a.count; i += threads)
    a.alive[ctx.load(a.order + i)] = i < a.keep ? 1 : 0;
}

}  // namespace cuda
}  // namespace quern::inline v0
