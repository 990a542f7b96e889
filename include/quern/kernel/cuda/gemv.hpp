// SPDX-License-Identifier: Apache-2.0
#pragma once
// using g = quern::cuda::gemv<quern::matrix_view<P, Q>, quern::f16, 1>;
// g::run(ctx, args);   // persistent blocks of whole warps, g::shared_bytes(cols, threads) of shared memory

#include <quern/kernel/cuda/work.hpp>
#include <quern/quant/scale.hpp>

namespace quern::inline v0 {
namespace cuda {

/// y [tokens x rows] = x [tokens x cols] W^T.
template <class T>
struct gemv_arguments {
  packed_view w;
  const T* x = nullptr;      ///< [tokens][x_stride], rows at 16-byte boundaries
  std::size_t x_stride = 0;  ///< elements; a multiple of 8 for more than one token
  std::size_t tokens = 0;    ///< at most the kernel's Tokens
  float* y = nullptr;        ///< [tokens][y_stride]
  std::size_t y_stride = 0;
  float* partial = nullptr;  ///< [warps of the grid][2][Tokens][16] sums of tiles that several warps share
  unsigned* counters = nullptr;  ///< [warps of the grid] zero before the first launch, and after each
  schedule how = schedule::tasks;
};

/// The product of a packed matrix with up to `Tokens` vectors, exact products, sums in float.
///
/// All inputs lie in shared memory. A warp owns a span of the matrix's surviving groups. It stages about 1 KB of
/// codes, scales and zeros at a time with 16-byte copies of consecutive bytes, whatever the pattern; other warps
/// multiply meanwhile. Then lane l takes row l % 16 of a tile and every second octet of codes, the first or second by
/// l / 16: codes are read from shared memory, become code - zero in registers, and are multiplied with the row's own
/// inputs; a run's sum is multiplied by its scale once per octet.
///
/// Bank conflicts: a slot's chunks are consecutive words in the order of the lanes, so codes and parameters have
/// none, and patterns whose rows share columns read one address of inputs. Rows of `group` and `group_nm` read the
/// inputs of their own groups: these meet in a bank by chance, and no order of a row's groups can prevent that.
///
/// Sums of activations per group, which zero points need elsewhere, are needed for `f16_offset` only: the
/// subtraction that makes a float of a code takes off the zero as well.
/// @tparam W       matrix_view<P, Q>
/// @tparam T       f16 or bf16
/// @tparam Tokens  vectors that a weight is multiplied with once it is decoded
template <class W, class T, int Tokens>
struct gemv {
  using F = gemv_format<W>;
  static_assert(F::supported,
                "quern::cuda::gemv: gemv_format<W>::why_not() says why this format is not taken");
  static_assert(Tokens >= 1 && Tokens <= 8, "quern::cuda::gemv: Tokens must be 1..8");
  using arguments = gemv_arguments<T>;
  using weights = W;
  using Q = typename F::quantizer;
  using l = typename F::l;
  using work = tile_work<W>;

  static constexpr std::size_t shared_bytes(std::size_t cols, unsigned threads) {
    return Tokens * F::padded_cols(cols) * sizeof(T) + threads / warp_size * F::stage_bytes;
  }
  static constexpr std::size_t partial_floats(unsigned warps) {
    return std::size_t{warps} * 2 * Tokens * lanes;
  }

  template <context Ctx>
  QUERN_HD static void run(Ctx& ctx, const arguments& args) {
    const unsigned padded = static_cast<unsigned>(F::padded_cols(args.w.cols));
    quad* const x = ctx.template shared<quad>(Tokens * padded / 8);
    unsigned char* const stages =
        ctx.template shared<unsigned char>(ctx.threads() / warp_size * F::stage_bytes);
    stage_inputs(ctx, args, padded, x);
    gemv self(ctx, args, padded, x, stages + ctx.thread() / warp_size * F::stage_bytes);
    self.walk(ctx, args);
  }

 private:
  static constexpr unsigned rows = lanes;

  template <context Ctx>
  QUERN_HD gemv(Ctx& ctx, const arguments& args, unsigned padded, const quad* x, unsigned char* stage)
      : w_(args.w),
        x_(x),
        padded_(padded),
        stage_(stage),
        lane_(ctx.thread() % warp_size),
        row_(lane_ % rows) {}

  /// Copies the vectors to shared memory, completed with zeros.
  template <context Ctx>
  QUERN_HD static void stage_inputs(Ctx& ctx, const arguments& args, unsigned padded, quad* x) {
    const unsigned pieces = padded / 8, cols = static_cast<unsigned>(args.w.cols);
    for (unsigned i = ctx.thread(); i < Tokens * pieces; i += ctx.threads()) {
      const unsigned token = i / pieces, first = i % pieces * 8;
      const unsigned left = token < args.tokens && first < cols ? cols - first : 0;
      const T* from = args.x + (left > 0 ? token * args.x_stride + first : 0);
      ctx.copy_async(x + i, from, (left < 8 ? left : 8) * static_cast<unsigned>(sizeof(T)));
    }
    ctx.commit_async();
    ctx.template wait_async<0>();
    ctx.sync();
  }

  /// All tiles of this warp's span.
  template <context Ctx>
  QUERN_HD void walk(Ctx& ctx, const arguments& args) {
    const unsigned warps = ctx.blocks() * (ctx.threads() / warp_size);
    const unsigned warp = ctx.block() * (ctx.threads() / warp_size) + ctx.thread() / warp_size;
    const unsigned tiles = work::tiles(w_), total = work::before(ctx, w_, tiles);
    const bool tasks = args.how == schedule::tasks;
    const unsigned span = (total + warps - 1) / warps, low = tasks ? warp * span : 0;
    if (low >= total) return;
    const unsigned high = tasks && total - low > span ? low + span : total;
    unsigned tile = tasks ? work::find(ctx, w_, low) : warp;
    for (; tile < tiles; tile += tasks ? 1 : warps) {
      const unsigned first = work::before(ctx, w_, tile), end = work::before(ctx, w_, tile + 1);
      if (first >= high) break;
      const unsigned from = low > first ? low - first : 0, to = (high < end ? high : end) - first;
      multiply(ctx, tile, from, to);
      finish(ctx, args, tile, first, end, span, warp);
    }
  }

  /// Sums of steps [from, to) of a tile, in units of work, into sum_.
  template <context Ctx>
  QUERN_HD void multiply(Ctx& ctx, unsigned tile, unsigned from, unsigned to) {
    for (int t = 0; t < Tokens; ++t) sum_[t] = 0;
    row_scale_ = 1;
    if constexpr (Q::row_scaled)
      row_scale_ = widen(
          ctx.load(reinterpret_cast<const f16*>(stream_of(w_, stream::row_scale)) + tile * rows + row_));
    if constexpr (F::kind == survivors::masked)
      multiply_windows(ctx, tile, from, to);
    else
      multiply_slots(ctx, tile, from, to);
  }

  /// Slots that all rows share: `all` and `listed`.
  template <context Ctx>
  QUERN_HD void multiply_slots(Ctx& ctx, unsigned tile, unsigned from, unsigned to) {
    constexpr unsigned parts = F::parts;
    unsigned block = 0, count = static_cast<unsigned>(l::cells_per_row(w_.cols)), part = tile % parts;
    if constexpr (F::kind == survivors::listed) {
      block = work::begin(ctx, w_, tile / parts);
      count = work::begin(ctx, w_, tile / parts + 1) - block;
    } else {
      block = tile * count;
    }
    to = to < count ? to : count;
    for (unsigned k = from; k < to; k += F::slots) {
      const unsigned n = to - k < F::slots ? to - k : F::slots;
      unsigned column = 0;  // of slot `lane`
      if constexpr (F::kind == survivors::listed)
        if (lane_ < n) column = block_column(ctx, block + k + lane_);
      const std::size_t first = (std::size_t{block + k} * parts + part) * rows;
      for (unsigned r = 0; r < F::regions; ++r)
        if (r < n || F::regions == 1)
          copy(ctx, r, first + r * parts * rows, F::regions == 1 ? n * rows : rows);
      land(ctx);
      for (unsigned s = 0; s < n; ++s) {
        const unsigned unit = F::kind == survivors::listed ? ctx.shuffle(column, s) : k + s;
        const unsigned region = F::regions == 1 ? 0 : s;
        multiply_cell(region, first + region * parts * rows, (s - region) * rows, rows, row_, unit, true);
      }
      ctx.sync_warp();  // before the buffer is written again
    }
  }

  /// Slots of `masked` patterns, window by window.
  template <context Ctx>
  QUERN_HD void multiply_windows(Ctx& ctx, unsigned tile, unsigned from, unsigned to) {
    using walk = mask_walk<W>;
    const unsigned windows = static_cast<unsigned>(l::mask_windows(w_.cols));
    const std::uint16_t* masks = walk::masks(w_, tile) + row_ / W::pattern::unit_rows;
    std::size_t first_cell;
    typename walk::position at{0, 0};
    if constexpr (F::compact) {
      first_cell = work::begin(ctx, w_, tile);
      if (from > 0) at = walk::find(ctx, w_, tile, from);
    } else {
      first_cell = std::size_t{tile} * rows * l::uniform_cells(w_.cols);
      at.window = from;
      at.cells = from * (l::window_units / W::pattern::of * W::pattern::keep) * rows;
    }
    std::uint32_t next = at.window < windows ? ctx.load(masks + at.window * walk::blocks) : 0u;
    while (at.window < windows && (F::compact ? at.cells : at.window) < to) {
      std::uint32_t left = next;
      if (at.window + 1 < windows) next = ctx.load(masks + (at.window + 1) * walk::blocks);
      while (true) {
        const unsigned mine = population(left);
        unsigned cells = 0;
        for (unsigned s = 0; s < F::slots; ++s) cells += population(ctx.ballot(mine > s) & 0xffffu);
        if (cells == 0) break;
        copy(ctx, 0, first_cell + at.cells, cells);
        land(ctx);
        unsigned before = 0;
        for (unsigned s = 0; s < F::slots; ++s) {
          const std::uint32_t have = ctx.ballot(left != 0) & 0xffffu;  // rows with a cell in this slot
          const unsigned count = population(have);
          // All lanes do the same; those whose row has run out take the first cell and add nothing.
          const bool mine_too = left != 0;
          const unsigned unit = at.window * l::window_units + (mine_too ? lowest(left) : 0);
          const unsigned rank = mine_too ? population(have & ((1u << row_) - 1)) : 0;
          if (count != 0) multiply_cell(0, first_cell + at.cells, before, count, rank, unit, mine_too);
          left &= left - 1;
          before += count;
        }
        ctx.sync_warp();  // before the buffer is written again
        at.cells += cells;
      }
      ++at.window;
    }
  }

  /// Block column @p j of the list.
  template <context Ctx>
  QUERN_HD unsigned block_column(Ctx& ctx, unsigned j) const {
    const std::byte* index = stream_of(w_, stream::index);
    const int bytes = l::index_bytes(w_.cols);
    if (bytes == 1) return ctx.load(reinterpret_cast<const std::uint8_t*>(index) + j);
    if (bytes == 2) return ctx.load(reinterpret_cast<const std::uint16_t*>(index) + j);
    return ctx.load(reinterpret_cast<const std::uint32_t*>(index) + j);
  }

  /// Asks for cells [first, first + count) of all streams, into region @p r of the buffer.
  template <context Ctx>
  QUERN_HD void copy(Ctx& ctx, unsigned r, std::size_t first, unsigned count) {
    unsigned char* to = stage_ + r * F::region_bytes;
    F::codes0::copy(ctx, to, stream_of(w_, stream::codes), first, count);
    F::codes1::copy(ctx, to + F::at_codes1, stream_of(w_, stream::codes1), first, count);
    F::codes2::copy(ctx, to + F::at_codes2, stream_of(w_, stream::codes2), first, count);
    F::scales::copy(ctx, to + F::at_scales, stream_of(w_, stream::scale), first, count);
    F::zeros::copy(ctx, to + F::at_zeros, stream_of(w_, stream::zero), first, count);
  }
  /// Waits until what the whole warp asked for is there.
  template <context Ctx>
  QUERN_HD void land(Ctx& ctx) {
    ctx.commit_async();
    ctx.template wait_async<0>();
    ctx.sync_warp();
  }

  /// Adds the products of this lane's octets of a cell.
  /// @param first  the cell with which the staged stretch begins
  /// @param base   the slot's first cell, counted from `first`; the cell is number @p rank of @p count in its slot
  /// @param counts  false: nothing is added
  QUERN_HD void multiply_cell(unsigned region, std::size_t first, unsigned base, unsigned count,
                              unsigned rank, unsigned unit, bool counts) {
    const unsigned char* from = stage_ + region * F::region_bytes;
    const auto at = [&](unsigned skew) {
      return cell{skew + base, static_cast<int>(count), static_cast<int>(rank)};
    };
    for (int step = 0; step < (F::octets + 1) / 2; ++step) {
      const int o = 2 * step + static_cast<int>(lane_ / rows);
      if (F::octets % 2 != 0 && o >= F::octets) break;
      const run_params p = params(from, first, base, count, rank, o * 8 / Q::run);
      const float minus = subtrahend(zero_);
      float dot[Tokens] = {}, inputs[Tokens] = {};
      for (int i = 0; i < 2; ++i) {
        // An octet of 8-bit codes is two chunks: the halves of the warp read them in opposite order, as the same one
        // of two neighbouring octets would lie in the same banks.
        const int half = Q::bits == 8 ? i ^ static_cast<int>(lane_ / rows) : i;
        std::uint32_t four = octet_plane<plane_width(Q::bits, 0), l::cell_codes>::four(
            from, at(F::codes0::skew(first)), o, half);
        if constexpr (plane_count(Q::bits) > 1)
          four |= octet_plane<plane_width(Q::bits, 1), l::cell_codes>::four(
                      from + F::at_codes1, at(F::codes1::skew(first)), o, half)
                  << plane_shift(Q::bits, 1);
        if constexpr (plane_count(Q::bits) > 2)
          four |= octet_plane<plane_width(Q::bits, 2), l::cell_codes>::four(
                      from + F::at_codes2, at(F::codes2::skew(first)), o, half)
                  << plane_shift(Q::bits, 2);
        float w[4];
        for (int j = 0; j < 4; ++j) w[j] = code_minus(four, j, minus);
        for (int t = 0; t < Tokens; ++t) {
          const std::uint32_t* x =
              x_[(t * padded_ + unit * l::cell_cols) / 8 + static_cast<unsigned>(o)].word + 2 * half;
          for (int j = 0; j < 4; ++j) {
            const float v = widen_half<T>(x[j / 2], j % 2);
            dot[t] += w[j] * v;
            if constexpr (F::has_offset) inputs[t] += v;
          }
        }
      }
      for (int t = 0; t < Tokens; ++t) {
        float sum = p.scale * dot[t];
        if constexpr (F::has_offset) sum += p.offset * inputs[t];
        sum_[t] += counts ? sum : 0;
      }
    }
  }

  /// The scale of a staged run, its offset (f16_offset), and in zero_ the code of zero.
  QUERN_HD run_params params(const unsigned char* from, std::size_t first, unsigned base, unsigned count,
                             unsigned rank, int run) {
    const auto place = [&](int width, unsigned skew) {
      return locate_param(width, l::runs_per_cell,
                          {skew + base, static_cast<int>(count), static_cast<int>(rank)}, run);
    };
    const field f = place(Q::scale_bits, F::scales::skew(first));
    const unsigned char* at = from + F::at_scales + f.byte;
    run_params p;
    if constexpr (Q::row_scaled)
      p.scale = row_scale_ * static_cast<float>(*at >> f.shift & 15);
    else if constexpr (std::same_as<typename Q::policy, scale_policy<bf16>>)
      p.scale = widen(bf16{*reinterpret_cast<const std::uint16_t*>(at)});
    else
      p.scale = widen(f16{*reinterpret_cast<const std::uint16_t*>(at)});
    if constexpr (F::has_offset) {
      p.offset = widen(f16{*reinterpret_cast<const std::uint16_t*>(from + F::at_zeros +
                                                                   place(16, F::zeros::skew(first)).byte)});
    } else if constexpr (Q::zero_bits > 0) {
      const field z = place(Q::zero_bits, F::zeros::skew(first));
      zero_ = static_cast<std::uint32_t>(from[F::at_zeros + z.byte]) >> z.shift & ((1u << Q::zero_bits) - 1);
    } else {
      zero_ = Q::zero;
    }
    return p;
  }

  /// Adds the halves of the rows' sums; writes them, or, where other warps have the rest of the tile, leaves them in
  /// the workspace. The last of these warps adds them up in the order of the spans, so the result does not depend
  /// on who is last.
  template <context Ctx>
  QUERN_HD void finish(Ctx& ctx, const arguments& args, unsigned tile, unsigned first, unsigned end,
                       unsigned span, unsigned warp) {
    for (int t = 0; t < Tokens; ++t) sum_[t] += ctx.shuffle_xor(sum_[t], rows);
    const bool begins = warp * span <= first;
    if (args.how == schedule::tasks && (!begins || warp * span + span < end)) {
      const unsigned first_warp = first / span, last_warp = (end - 1) / span;
      float* mine = args.partial + std::size_t{warp * 2 + (begins ? 1 : 0)} * Tokens * rows;
      if (lane_ < rows)
        for (int t = 0; t < Tokens; ++t) mine[t * rows + row_] = sum_[t];
      ctx.sync_warp();
      unsigned last = 0;
      if (lane_ == 0)
        last = ctx.last_to_arrive(args.counters + first_warp, last_warp - first_warp + 1) ? 1 : 0;
      if (ctx.shuffle(last, 0) == 0) return;
      for (int t = 0; t < Tokens; ++t) sum_[t] = 0;
      for (unsigned i = first_warp; i <= last_warp; ++i) {
        const float* theirs = args.partial + std::size_t{i * 2 + (i == first_warp ? 1 : 0)} * Tokens * rows;
        for (int t = 0; t < Tokens; ++t) sum_[t] += ctx.load_written(theirs + t * rows + row_);
      }
    }
    const std::size_t r = std::size_t{tile} * rows + row_;
    if (lane_ < rows && r < w_.rows)
      for (int t = 0; t < Tokens; ++t)
        if (static_cast<std::size_t>(t) < args.tokens)
          args.y[static_cast<std::size_t>(t) * args.y_stride + r] = sum_[t];
  }

  packed_view w_;
  const quad* x_;
  unsigned padded_;
  unsigned char* stage_;
  unsigned lane_, row_, zero_ = 0;
  float row_scale_ = 1;
  float sum_[Tokens];
};

}  // namespace cuda
}  // namespace quern::inline v0
