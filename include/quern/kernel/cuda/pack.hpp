// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::count_survivors<W>(ctx, args);   // counts of each tile or block row; their prefix sums are `begin`
// quern::cuda::pack_tiles<W>(ctx, args);        // one warp per tile: every stream but `begin`, into zeroed memory

#include <quern/kernel/cuda/gemv_codes.hpp>
#include <quern/kernel/cuda/quantize.hpp>

namespace quern::inline v0 {
namespace cuda {

template <quantizer Q>
struct pack_arguments {
  packed_view w;                        ///< streams are written, `begin` is read
  const std::uint8_t* alive = nullptr;  ///< [block rows][units]; `dense` does not look
  const std::uint8_t* codes = nullptr;  ///< [rows][cols]
  const run_params* params = nullptr;   ///< [rows][runs]
  const float* row_scale = nullptr;     ///< [rows]
  unsigned* counts = nullptr;           ///< count_survivors: [tiles or block rows]
  unsigned* faults = nullptr;
};

/// Packing on the device, bit for bit as quern::pack on the CPU. Survivors of each tile are counted, prefix sums say
/// where a tile's cells begin, then every warp writes a tile.
template <class W>
struct packer {
  using P = typename W::pattern;
  using Q = typename W::quantizer;
  using l = layout<P, Q>;
  static_assert(
      Q::run > 0 && l::params_in_cells && P::kind != survivors::positions,
      "quern::cuda::packer: takes dense, group, group_nm and bsr with affine, symmetric or codebook codes");
  using arguments = pack_arguments<Q>;
  static constexpr unsigned rows = lanes;

  /// Entries of `begin` but the last: tiles, or block rows of `listed`; 0 where the shape says it all.
  QUERN_HD static constexpr std::size_t counted(std::size_t matrix_rows) {
    if (P::kind == survivors::listed) return l::padded_rows(matrix_rows) / P::unit_rows;
    return P::kind == survivors::masked && !l::uniform ? l::tiles(matrix_rows) : 0;
  }

  /// One warp per tile or block row.
  template <context Ctx>
  QUERN_HD static void count(Ctx& ctx, const arguments& a) {
    const std::size_t lists = counted(a.w.rows), units = l::cells_per_row(a.w.cols);
    constexpr std::size_t blocks = P::kind == survivors::listed ? 1 : l::blocks_per_tile;
    const std::size_t all = (a.w.rows + P::unit_rows - 1) / P::unit_rows;
    for_each_warp(ctx, lists, [&](std::size_t list) {
      const std::size_t first = list * blocks, end = first + blocks < all ? first + blocks : all;
      unsigned sum = 0;
      for (std::size_t i = first * units + ctx.thread() % warp_size; i < end * units; i += warp_size)
        sum += ctx.load(a.alive + i) != 0 ? 1 : 0;
      for (unsigned m = warp_size / 2; m > 0; m /= 2) sum += ctx.shuffle_xor(sum, m);
      if (ctx.thread() % warp_size == 0)
        a.counts[list] = sum * (P::kind == survivors::listed ? 1 : static_cast<unsigned>(P::unit_rows));
    });
  }

  /// One warp per tile.
  template <context Ctx>
  QUERN_HD static void write(Ctx& ctx, const arguments& a) {
    for_each_warp(ctx, l::tiles(a.w.rows), [&](std::size_t tile) {
      const unsigned lane = ctx.thread() % warp_size, row = lane % rows;
      const std::size_t r = tile * rows + row;
      if constexpr (Q::row_scaled)
        if (lane < rows && r < a.w.rows)
          reinterpret_cast<std::uint16_t*>(writable(a, stream::row_scale))[r] = to_f16(a.row_scale[r]).bits;
      if constexpr (P::kind == survivors::masked)
        write_windows(ctx, a, tile, lane);
      else
        write_slots(ctx, a, tile, lane);
    });
  }

 private:
  template <context Ctx, class F>
  QUERN_HD static void for_each_warp(Ctx& ctx, std::size_t n, F f) {
    const std::size_t per_block = ctx.threads() / warp_size;
    for (std::size_t i = ctx.block() * per_block + ctx.thread() / warp_size; i < n;
         i += ctx.blocks() * per_block)
      f(i);
  }
  QUERN_HD static std::byte* writable(const arguments& a, stream s) {
    return const_cast<std::byte*>(stream_of(a.w, s));
  }

  /// `all` and `listed`.
  template <context Ctx>
  QUERN_HD static void write_slots(Ctx& ctx, const arguments& a, std::size_t tile, unsigned lane) {
    constexpr std::size_t parts = P::unit_rows > lanes ? P::unit_rows / lanes : 1;
    const std::size_t units = l::cells_per_row(a.w.cols);
    if constexpr (P::kind == survivors::all) {
      for (std::size_t u = 0; u < units; ++u)
        write_cell(ctx, a, tile, {(tile * units + u) * rows, rows, static_cast<int>(lane % rows)}, lane, u);
    } else {
      const std::size_t block = tile / parts, part = tile % parts;
      std::size_t at = reinterpret_cast<const std::uint32_t*>(stream_of(a.w, stream::begin))[block];
      for (std::size_t base = 0; base < units; base += warp_size) {
        const std::size_t mine = base + lane;
        const bool survives = mine < units && ctx.load(a.alive + block * units + mine) != 0;
        const std::uint32_t set = ctx.ballot(survives);
        if (survives && part == 0) put_column(a, at + population(set & ((1u << lane) - 1)), mine);
        for (std::uint32_t left = set; left != 0; left &= left - 1, ++at)
          write_cell(ctx, a, tile, {(at * parts + part) * rows, rows, static_cast<int>(lane % rows)}, lane,
                     base + lowest(left));
      }
    }
  }
  QUERN_HD static void put_column(const arguments& a, std::size_t j, std::size_t unit) {
    std::byte* index = writable(a, stream::index);
    const int bytes = l::index_bytes(a.w.cols);
    if (bytes == 1)
      reinterpret_cast<std::uint8_t*>(index)[j] = static_cast<std::uint8_t>(unit);
    else if (bytes == 2)
      reinterpret_cast<std::uint16_t*>(index)[j] = static_cast<std::uint16_t>(unit);
    else
      reinterpret_cast<std::uint32_t*>(index)[j] = static_cast<std::uint32_t>(unit);
  }

  template <context Ctx>
  QUERN_HD static void write_windows(Ctx& ctx, const arguments& a, std::size_t tile, unsigned lane) {
    const unsigned row = lane % rows;
    const std::size_t units = l::cells_per_row(a.w.cols), windows = l::mask_windows(a.w.cols);
    const std::size_t block = (tile * rows + row) / P::unit_rows;
    std::size_t first;
    if constexpr (l::uniform)
      first = tile * rows * l::uniform_cells(a.w.cols);
    else
      first = reinterpret_cast<const std::uint32_t*>(stream_of(a.w, stream::begin))[tile];
    for (std::size_t window = 0; window < windows; ++window) {
      const std::uint32_t mask = window_mask(ctx, a, block, window, units);
      if (lane < rows && row % P::unit_rows == 0)
        reinterpret_cast<std::uint16_t*>(
            writable(a, stream::index))[(tile * windows + window) * l::blocks_per_tile + row / P::unit_rows] =
            static_cast<std::uint16_t>(mask);
      // How many cells every row has, known to all lanes, so that each finds its own without the others: slot s holds
      // the rows that have more than s.
      const unsigned mine = population(mask);
      std::uint32_t counts[4] = {};
      for (unsigned other = 0; other < rows; ++other)
        counts[other / 4] |= ctx.shuffle(mine, other) << other % 4 * 8;
      std::size_t before = 0;
      std::uint32_t left = mask;
      for (unsigned slot = 0; slot < l::window_units; ++slot, left &= left - 1) {
        unsigned have = 0, rank = 0;
        for (unsigned other = 0; other < rows; ++other) {
          const bool has = (counts[other / 4] >> other % 4 * 8 & 255) > slot;
          have += has ? 1 : 0;
          rank += has && other < row ? 1 : 0;
        }
        if (left != 0)
          write_cell(ctx, a, tile, {first + before, static_cast<int>(have), static_cast<int>(rank)}, lane,
                     window * l::window_units + lowest(left));
        before += have;
      }
      first += before;
    }
  }
  /// The units of a window that survive; N:M windows are completed to N with the first that are free.
  template <context Ctx>
  QUERN_HD static std::uint32_t window_mask(Ctx& ctx, const arguments& a, std::size_t block,
                                            std::size_t window, std::size_t units) {
    std::uint32_t mask = 0;
    const std::size_t first = window * l::window_units;
    for (std::size_t i = 0; i < l::window_units && first + i < units; ++i)
      if (block * P::unit_rows < a.w.rows && ctx.load(a.alive + block * units + first + i) != 0)
        mask |= 1u << i;
    if constexpr (P::of > 0)
      for (std::size_t i = 0; i < l::window_units && first + i < units; i += P::of) {
        const unsigned width = units - first - i < P::of ? static_cast<unsigned>(units - first - i) : P::of;
        const unsigned want = width < P::keep ? width : P::keep;
        unsigned have = population(mask >> i & ((1u << P::of) - 1));
        if (have > want) ctx.atomic_or(a.faults, too_many);
        for (unsigned j = 0; j < width && have < want; ++j)
          if ((mask >> (i + j) & 1) == 0) {
            mask |= 1u << (i + j);
            ++have;
          }
      }
    return mask;
  }

  /// Codes and parameters of one cell; the two lanes of a row share its chunks. Completed rows stay zero.
  template <context Ctx>
  QUERN_HD static void write_cell(Ctx& ctx, const arguments& a, std::size_t tile, cell c, unsigned lane,
                                  std::size_t unit) {
    const std::size_t r = tile * rows + lane % rows, first = unit * l::cell_cols;
    if (r >= a.w.rows) return;
    write_plane<0>(ctx, a, c, lane / rows, r, first);
    if constexpr (plane_count(Q::bits) > 1) write_plane<1>(ctx, a, c, lane / rows, r, first);
    if constexpr (plane_count(Q::bits) > 2) write_plane<2>(ctx, a, c, lane / rows, r, first);
    for (int j = static_cast<int>(lane / rows); j < l::runs_per_cell; j += 2) {
      const std::size_t run = first / Q::run + static_cast<std::size_t>(j);
      if (run >= l::runs(a.w.cols)) break;
      const run_params p = a.params[r * l::runs(a.w.cols) + run];
      put(ctx, writable(a, stream::scale), Q::scale_bits, locate_param(Q::scale_bits, l::runs_per_cell, c, j),
          Q::scale_code(p, a.row_scale[r]));
      if constexpr (Q::zero_bits > 0)
        put(ctx, writable(a, stream::zero), Q::zero_bits, locate_param(Q::zero_bits, l::runs_per_cell, c, j),
            Q::zero_code(p));
    }
  }
  template <int Plane, context Ctx>
  QUERN_HD static void write_plane(Ctx& ctx, const arguments& a, cell c, unsigned half, std::size_t r,
                                   std::size_t first) {
    constexpr int width = plane_width(Q::bits, Plane), shift = plane_shift(Q::bits, Plane);
    constexpr int chunk = chunk_bytes(width, l::cell_codes), codes = chunk * 8 / width;
    std::byte* plane = writable(a, static_cast<stream>(static_cast<int>(stream::codes) + Plane));
    for (int t = static_cast<int>(half); t < l::cell_codes / codes; t += 2) {
      std::uint32_t v = 0;
      for (int i = 0; i < codes; ++i) {
        const std::size_t col = first + static_cast<std::size_t>(t * codes + i);
        const std::uint32_t code = col < a.w.cols ? ctx.load(a.codes + r * a.w.cols + col) : 0u;
        const field f = locate(width, l::cell_codes, {0, 0, 0}, i);
        v |= (code >> shift & ((1u << width) - 1)) << (static_cast<int>(f.byte) * 8 + f.shift);
      }
      std::byte* at = plane + locate(width, l::cell_codes, c, t * codes).byte;
      if constexpr (chunk == 4)
        *reinterpret_cast<std::uint32_t*>(at) = v;
      else if constexpr (chunk == 2)
        *reinterpret_cast<std::uint16_t*>(at) = static_cast<std::uint16_t>(v);
      else
        *at = static_cast<std::byte>(v);
    }
  }
  /// A field of a plain sequence; those of less than a byte share their word with other rows and warps.
  template <context Ctx>
  QUERN_HD static void put(Ctx& ctx, std::byte* p, int width, field f, std::uint32_t v) {
    if (width == 16)
      *reinterpret_cast<std::uint16_t*>(p + f.byte) = static_cast<std::uint16_t>(v);
    else if (width == 8)
      p[f.byte] = static_cast<std::byte>(v);
    else if (v != 0)
      ctx.atomic_or(reinterpret_cast<unsigned*>(p + f.byte / 4 * 4),
                    v << (f.byte % 4 * 8 + static_cast<unsigned>(f.shift)));
  }
};

}  // namespace cuda
}  // namespace quern::inline v0
