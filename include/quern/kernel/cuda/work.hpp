// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::tile_work<W> work(ctx, view);
// auto t = work.find(ctx, first);              // the tile in which unit of work `first` lies
// [work.before(ctx, t), work.before(ctx, t + 1))   // the units of work of tile t

#include <quern/kernel/cuda/gemv_codes.hpp>
#include <quern/kernel/cuda/gemv_format.hpp>

namespace quern::inline v0 {
namespace cuda {

/// How rows are given to warps.
enum class schedule {
  tasks,  ///< equal spans of surviving groups (GQSA section 3.4); rows that are cut are joined through a workspace
  rows,  ///< whole tiles of 16 rows, warp after warp: the usual way, and the baseline
};

/// The work of a matrix, in units: surviving cells (`masked` with free rows) or slots. Every tile has some more for
/// writing its result, so that tiles without survivors are somebody's as well and units grow from tile to tile.
/// Units fit 31 bits (multiply.cuh refuses other matrices).
template <class W>
struct tile_work {
  using F = gemv_format<W>;
  using l = typename F::l;
  static constexpr unsigned tile_units = F::compact ? lanes : 1;

  QUERN_HD static unsigned tiles(const packed_view& w) { return static_cast<unsigned>(l::tiles(w.rows)); }
  /// Entry @p i of the `begin` stream.
  template <context Ctx>
  QUERN_HD static unsigned begin(Ctx& ctx, const packed_view& w, unsigned i) {
    return ctx.load(reinterpret_cast<const std::uint32_t*>(stream_of(w, stream::begin)) + i);
  }
  /// Units of work before tile @p t, for t <= tiles.
  template <context Ctx>
  QUERN_HD static unsigned before(Ctx& ctx, const packed_view& w, unsigned t) {
    if constexpr (F::kind == survivors::listed) {
      constexpr unsigned parts = F::parts;
      const unsigned first = begin(ctx, w, t / parts), part = t % parts;
      const unsigned own = part == 0 ? 0 : part * (begin(ctx, w, t / parts + 1) - first);
      return first * parts + own + t;
    } else if constexpr (F::compact) {
      return begin(ctx, w, t) + tile_units * t;
    } else {
      const std::size_t steps =
          F::kind == survivors::all ? l::cells_per_row(w.cols) : l::mask_windows(w.cols);
      return t * (static_cast<unsigned>(steps) + 1);
    }
  }
  /// The tile that holds unit @p unit < before(tiles): a search in which the 32 lanes of the warp look at 32 places.
  template <context Ctx>
  QUERN_HD static unsigned find(Ctx& ctx, const packed_view& w, unsigned unit) {
    unsigned low = 0, high = tiles(w);
    while (high - low > 1) {
      const unsigned step = (high - low + warp_size - 1) / warp_size,
                     probe = low + ctx.thread() % warp_size * step;
      const std::uint32_t reached =
          ctx.ballot(probe < high && before(ctx, w, probe < high ? probe : low) <= unit);
      low += (population(reached) - 1) * step;
      high = low + step < high ? low + step : high;
    }
    return low;
  }
};

/// Windows of a tile of a `masked` pattern.
template <class W>
struct mask_walk {
  using l = typename gemv_format<W>::l;
  using P = typename W::pattern;
  static constexpr unsigned blocks = l::blocks_per_tile;

  QUERN_HD static const std::uint16_t* masks(const packed_view& w, unsigned tile) {
    return reinterpret_cast<const std::uint16_t*>(stream_of(w, stream::index)) +
           tile * l::mask_windows(w.cols) * blocks;
  }
  /// A window, and the cells of the tile before it.
  struct position {
    unsigned window, cells;
  };
  /// The first window with at least @p target cells before it: prefix sums of 32 windows at a time.
  template <context Ctx>
  QUERN_HD static position find(Ctx& ctx, const packed_view& w, unsigned tile, unsigned target) {
    const unsigned lane = ctx.thread() % warp_size, windows = static_cast<unsigned>(l::mask_windows(w.cols));
    const std::uint32_t* pairs = reinterpret_cast<const std::uint32_t*>(masks(w, tile));
    unsigned past = 0;
    for (unsigned base = 0; base < windows; base += warp_size) {
      unsigned own = 0;
      if (base + lane < windows)
        for (unsigned i = 0; i < blocks / 2; ++i)
          own += population(ctx.load(pairs + (base + lane) * (blocks / 2) + i));
      own *= P::unit_rows;
      unsigned upto = own;
      for (unsigned d = 1; d < warp_size; d *= 2) {
        const unsigned other = ctx.shuffle(upto, lane >= d ? lane - d : lane);
        upto += lane >= d ? other : 0;
      }
      const std::uint32_t reached = ctx.ballot(base + lane < windows && past + upto - own >= target);
      if (reached != 0) {
        const unsigned at = lowest(reached);
        return {base + at, ctx.shuffle(past + upto - own, at)};
      }
      past += ctx.shuffle(upto, warp_size - 1);
    }
    return {windows, past};
  }
};

}  // namespace cuda
}  // namespace quern::inline v0
