// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::weight_stager<F> stage(ctx, w, tile);   // one per warp
// stage(ctx, window, buffer);                          // asynchronous copies of the warp's lanes

#include <bit>
#include <quern/kernel/cuda/context.hpp>
#include <quern/kernel/cuda/gemm_format.hpp>

namespace quern::inline v0 {
namespace cuda {

/// Stages the windows of one tile, in order, each once. All lanes of a warp act together.
template <class F>
class weight_stager {
 public:
  /// @param tile  number of the tile; past the last one nothing is staged
  template <context Ctx>
  QUERN_HD weight_stager(Ctx& ctx, const packed_view& w, std::size_t tile)
      : w_(w), tile_(tile), alive_(tile < F::l::padded_rows(w.rows) / lanes) {
    if (!alive_) return;
    const std::uint32_t* begin = reinterpret_cast<const std::uint32_t*>(stream_of(w_, stream::begin));
    if constexpr (F::kind == survivors::listed) {
      next_ = ctx.load(begin + tile / F::parts);
      end_ = ctx.load(begin + tile / F::parts + 1);
      fetch_columns(ctx);
    } else if constexpr (F::compact) {
      next_ = ctx.load(begin + tile);
    } else if constexpr (F::kind == survivors::masked) {
      next_ = tile * lanes * F::l::uniform_cells(w.cols);
    }
    if constexpr (F::kind == survivors::masked) mask_ = fetch_mask(ctx, 0);
  }

  template <context Ctx>
  QUERN_HD void operator()(Ctx& ctx, std::size_t window, unsigned char* buffer) {
    typename F::header* h = reinterpret_cast<typename F::header*>(buffer);
    const unsigned lane = ctx.thread() % 32;
    const std::size_t first_unit = window * F::units, all_units = F::l::cells_per_row(w_.cols);
    if (!alive_ || first_unit >= all_units) {
      if (lane == 0) h->units = 0;
      return;
    }
    const unsigned units =
        static_cast<unsigned>(all_units - first_unit < F::units ? all_units - first_unit : F::units);
    std::size_t first = 0;
    unsigned cells = 0;
    std::uint32_t alive = (1u << units) - 1;
    if constexpr (F::kind == survivors::all || F::kind == survivors::positions) {
      first = (tile_ * all_units + first_unit) * lanes;
      cells = units * lanes;
    } else if constexpr (F::kind == survivors::listed) {
      // Columns ascend: those of this window are the next ones. A lane holds one of the next 32.
      if (next_ - cached_ + F::units > 32) fetch_columns(ctx);
      const bool mine = (cached_ + lane >= next_) & (column_ < first_unit + units);
      alive = static_cast<std::uint32_t>(mine) << (column_ - static_cast<std::uint32_t>(first_unit)) % 32;
      for (unsigned d = 1; d < 32; d *= 2) alive |= ctx.shuffle_xor(alive, d);
      const unsigned n = static_cast<unsigned>(std::popcount(alive));
      first = (next_ * F::parts + tile_ % F::parts) * lanes;
      cells = n * lanes;
      next_ += n;
    } else {
      first = next_;
      cells = stage_masks(ctx, h, units);
      if constexpr (F::compact) {
        alive = mask_;
        for (unsigned d = 1; d < 32; d *= 2) alive |= ctx.shuffle_xor(alive, d);
      }
      next_ += cells;
      mask_ = fetch_mask(ctx, window + 1);  // used at the next call: the load has a whole window of time
    }
    std::size_t field = first;
    unsigned fields = cells;
    if constexpr (!F::l::params_in_cells && !F::plain) {
      const std::size_t runs = F::l::runs(w_.cols), run = window * F::window / F::quantizer::run;
      field = (tile_ * runs + run) * lanes;
      fields = static_cast<unsigned>(runs - run < F::runs ? runs - run : F::runs) * lanes;
    }
    if (lane == 0) {
      h->first = static_cast<std::uint32_t>(first);
      h->field = static_cast<std::uint32_t>(field);
      h->units = alive;
    }
    F::codes0::copy(ctx, buffer + F::at_codes0, stream_of(w_, stream::codes), first, cells);
    F::codes1::copy(ctx, buffer + F::at_codes1, stream_of(w_, stream::codes1), first, cells);
    F::codes2::copy(ctx, buffer + F::at_codes2, stream_of(w_, stream::codes2), first, cells);
    F::scales::copy(ctx, buffer + F::at_scales, stream_of(w_, stream::scale), field, fields);
    F::zeros::copy(ctx, buffer + F::at_zeros, stream_of(w_, stream::zero), field, fields);
    F::places::copy(ctx, buffer + F::at_places, stream_of(w_, stream::index), first, cells);
  }

 private:
  /// Block columns next_ .. next_ + 31 of the list, one in each lane; past the end a column that no window has.
  template <context Ctx>
  QUERN_HD void fetch_columns(Ctx& ctx) {
    cached_ = next_;
    column_ = ~0u;
    if (next_ >= end_) return;
    // No lane goes its own way: the shuffles that follow need all of them.
    const std::size_t mine = next_ + ctx.thread() % 32, i = mine < end_ ? mine : end_ - 1;
    const std::byte* index = stream_of(w_, stream::index);
    const int bytes = F::l::index_bytes(w_.cols);
    if (bytes == 1)
      column_ = ctx.load(reinterpret_cast<const std::uint8_t*>(index) + i);
    else if (bytes == 2)
      column_ = ctx.load(reinterpret_cast<const std::uint16_t*>(index) + i);
    else
      column_ = ctx.load(reinterpret_cast<const std::uint32_t*>(index) + i);
    column_ = mine < end_ ? column_ : ~0u;
  }
  /// The mask of row `lane` of the tile; 0 in lanes 16 .. 31 and past the last window.
  template <context Ctx>
  QUERN_HD std::uint32_t fetch_mask(Ctx& ctx, std::size_t window) const {
    const unsigned lane = ctx.thread() % 32;
    const std::size_t windows = F::l::mask_windows(w_.cols);
    if (lane >= lanes || window >= windows) return 0;
    constexpr unsigned blocks = F::l::blocks_per_tile;
    return ctx.load(reinterpret_cast<const std::uint16_t*>(stream_of(w_, stream::index)) +
                    (tile_ * windows + window) * blocks + lane / (lanes / blocks));
  }
  /// Writes what finds the cells of a window; returns their number.
  template <context Ctx>
  QUERN_HD unsigned stage_masks(Ctx& ctx, typename F::header* h, unsigned units) const {
    const unsigned lane = ctx.thread() % 32;
    if (lane < lanes) h->mask[lane] = static_cast<std::uint16_t>(mask_);
    if constexpr (!F::compact) {
      constexpr unsigned of = F::pattern::of, keep = F::pattern::keep;
      const unsigned rest = units % of;
      return (units / of * keep + (rest < keep ? rest : keep)) * lanes;
    } else {
      // Slot s holds the s-th survivor of every row that has as many.
      const unsigned mine = static_cast<unsigned>(std::popcount(mask_));
      unsigned cells = 0, base = 0;
      std::uint32_t rows = 0;
      for (unsigned s = 0; s < F::units; ++s) {
        const std::uint32_t have = ctx.ballot(mine > s);
        if (lane == s) {
          base = cells;
          rows = have;
        }
        cells += static_cast<unsigned>(std::popcount(have));
      }
      if (lane < lanes) h->slots[lane] = {static_cast<std::uint16_t>(base), static_cast<std::uint16_t>(rows)};
      return cells;
    }
  }

  packed_view w_;
  std::size_t tile_, next_ = 0, end_ = 0, cached_ = 0;
  std::uint32_t column_ = 0, mask_ = 0;
  bool alive_;
};

}  // namespace cuda
}  // namespace quern::inline v0
