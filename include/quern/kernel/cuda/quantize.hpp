// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::quantize<P, Q>(ctx, args);   // one warp per row: codes and parameters as round_row makes them

#include <bit>
#include <quern/kernel/cuda/context.hpp>
#include <quern/pattern/concept.hpp>
#include <quern/quant/concept.hpp>

namespace quern::inline v0 {
namespace cuda {

/// Where a kernel leaves what it found wrong.
enum fault : unsigned {
  not_finite = 1,  ///< a weight is NaN or infinite
  too_large = 2,   ///< a scale overflows its format
  too_many = 4,    ///< more units of a window survive than the pattern allows
};

template <quantizer Q>
struct quantize_arguments {
  const float* w = nullptr;  ///< [rows][cols]
  const std::uint8_t* alive =
      nullptr;                    ///< [block rows][units]: pruned weights count as zero; null: all survive
  std::uint8_t* codes = nullptr;  ///< [rows][cols]
  run_params* params = nullptr;   ///< [rows][runs], as they come back from storage
  float* row_scale = nullptr;     ///< [rows]
  unsigned* faults = nullptr;     ///< bits of `fault` are set here
  std::size_t rows = 0, cols = 0;
};

/// Rounds every weight to the nearest code (RTN), with the same bits as round_row on the CPU: minima, maxima and
/// divisions, which IEEE rounds alike everywhere, and no product that is added to.
///
/// A warp takes a row; eight lanes take a run, so that they read 32 bytes in a row. Two passes: the scale of a row
/// (two-level scales) is known after the first.
template <sparsity_pattern P, quantizer Q, context Ctx>
QUERN_HD void quantize(Ctx& ctx, const quantize_arguments<Q>& a) {
  static_assert(Q::run > 0, "quern::cuda::quantize: real<T> has nothing to quantize; copy the weights");
  constexpr unsigned team = 8, teams = warp_size / team;
  const unsigned lane = ctx.thread() % warp_size;
  const std::size_t runs = (a.cols + Q::run - 1) / Q::run, units = (a.cols + P::unit_cols - 1) / P::unit_cols;
  const std::size_t warps = std::size_t{ctx.blocks()} * (ctx.threads() / warp_size);
  const auto finite = [](float x) {
#if defined(__CUDA_ARCH__)
    return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
#else
    return (std::bit_cast<std::uint32_t>(x) & 0x7f800000u) != 0x7f800000u;
#endif
  };
  for (std::size_t r = std::size_t{ctx.block()} * (ctx.threads() / warp_size) + ctx.thread() / warp_size;
       r < a.rows; r += warps) {
    const auto weight = [&](std::size_t c) {
      const float v = ctx.load(a.w + r * a.cols + c);
      if (!finite(v)) ctx.atomic_or(a.faults, not_finite);
      const bool kept =
          a.alive == nullptr || ctx.load(a.alive + r / P::unit_rows * units + c / P::unit_cols) != 0;
      return kept ? v : 0.0f;
    };
    float largest = 0;
    for (std::size_t first = 0; first < runs; first += teams) {
      const std::size_t run = first + lane / team,
                        end = (run + 1) * Q::run < a.cols ? (run + 1) * Q::run : a.cols;
      float low = 0, high = 0;
      for (std::size_t c = run * Q::run + lane % team; c < end; c += team) {
        const float v = weight(c);
        low = v < low ? v : low;
        high = v > high ? v : high;
      }
      for (unsigned m = team / 2; m > 0; m /= 2) {
        const float l = ctx.shuffle_xor(low, m), h = ctx.shuffle_xor(high, m);
        low = l < low ? l : low;
        high = h > high ? h : high;
      }
      const run_params p = Q::fit(low, high);
      largest = run < runs && p.scale > largest ? p.scale : largest;
      if (run < runs && lane % team == 0) a.params[r * runs + run] = p;
    }
    for (unsigned m = warp_size / 2; m > 0; m /= 2) {
      const float other = ctx.shuffle_xor(largest, m);
      largest = other > largest ? other : largest;
    }
    const float row_scale = Q::row_scale(largest);
    if (lane == 0) a.row_scale[r] = row_scale;
    ctx.sync_warp();
    for (std::size_t first = 0; first < runs; first += teams) {
      const std::size_t run = first + lane / team,
                        end = (run + 1) * Q::run < a.cols ? (run + 1) * Q::run : a.cols;
      run_params p{};
      if (run < runs) p = Q::stored(a.params[r * runs + run], row_scale);
      ctx.sync_warp();  // all have read what lane 0 of the team overwrites
      if (run < runs && lane % team == 0) {
        a.params[r * runs + run] = p;
        if (!finite(p.scale) || !finite(p.offset)) ctx.atomic_or(a.faults, too_large);
      }
      for (std::size_t c = run * Q::run + lane % team; c < end; c += team)
        a.codes[r * a.cols + c] = static_cast<std::uint8_t>(Q::encode(weight(c), p));
    }
  }
}

}  // namespace cuda
}  // namespace quern::inline v0
