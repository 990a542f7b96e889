// SPDX-License-Identifier: Apache-2.0
#pragma once
// using g = quern::cuda::gemm<quern::matrix_view<P, Q>, quern::f16, 16>;   // 16 tokens to a block
// const char* no = g::refusal(args);                                        // nullptr: launch
// g::run(ctx, args);   // in a grid of g::blocks(rows) x g::blocks_y(tokens), g::threads, g::shared_bytes

#include <quern/kernel/cuda/gemm_stager.hpp>
#include <quern/kernel/cuda/gemm_window.hpp>
#include <quern/kernel/cuda/tile.hpp>

namespace quern::inline v0 {
namespace cuda {

/// Y [tokens x rows] = X [tokens x cols] W^T.
template <class T>
struct gemm_arguments {
  packed_view w;
  const T* x = nullptr;      ///< [tokens][x_stride], rows at 16-byte boundaries
  std::size_t x_stride = 0;  ///< elements; a multiple of 8 (of bytes: 16), at least cols
  std::size_t tokens = 0;
  float* y = nullptr;        ///< [tokens][y_stride]
  std::size_t y_stride = 0;  ///< elements, at least rows
  /// int8_t only: x is scale * code, one scale for every k inputs (32; for 2:4 64) of a token
  const float* scale = nullptr;  ///< [ceil(cols / k)][scale_stride], rows at 16-byte boundaries
  std::size_t scale_stride = 0;  ///< a multiple of 4, at least tokens
};

/// How much work a block takes on.
struct gemm_tuning {
  int warps = 4;   ///< each has one tile of 16 rows
  int stages = 4;  ///< steps of inputs in shared memory: one is multiplied, the others are on their way
  friend constexpr bool operator==(gemm_tuning, gemm_tuning) = default;
};

/// Tokens of a block for a batch of @p tokens: 8, 16, 32 or 64. A batch that fills no block of 64 should not pay for
/// one; beyond it, weights are decoded once for every 64 tokens.
constexpr int gemm_block_tokens(std::size_t tokens) {
  return tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
}

/// The product of a packed matrix with a batch of f16, bf16 or int8 vectors on tensor cores, sums in float.
///
/// A warp owns one tile of 16 rows and `Tokens` tokens. Inputs are staged by all warps, weights by each warp for
/// itself, both by asynchronous copies of 16 bytes. Codes become code - zero in registers, exactly; the sums of a
/// run of weights are multiplied by its scale in float (int8: exact sums of k products, times both scales). So the only roundings are those of the inputs (made by the
/// caller) and of the sums. Pruned blocks of `bsr` are neither loaded nor multiplied.
///
/// Bank conflicts: inputs are stored in columns of 16 bytes, [step / per_column][Tokens] and 64 bytes between columns, so
/// that the eight rows of an ldmatrix are 128 bytes in a row and the copies of two columns meet different banks;
/// lanes read neighbouring rows of weights. Only `group` has rows whose cells lie anywhere in a window, as dense
/// as their masks: there the reads of a warp may meet in a bank.
/// @tparam W       matrix_view<P, Q>
/// @tparam T       f16, bf16 or int8_t
/// @tparam Tokens  tokens of a block: 8, 16, 32 or 64
template <class W, class T, int Tokens>
struct gemm {
  static_assert(Tokens == 8 || Tokens == 16 || Tokens == 32 || Tokens == 64,
                "quern::cuda::gemm: Tokens must be 8, 16, 32 or 64");
  using F = gemm_format<W, T>;
  static_assert(F::supported,
                "quern::cuda::gemm: gemm_format<W, T>::why_not() says why this format is not taken");
  using arguments = gemm_arguments<T>;

  static constexpr unsigned per_column = 16 / sizeof(T);  ///< inputs of a token
  static constexpr unsigned column_bytes = Tokens * 16 + 64;
  static constexpr unsigned columns = F::step / per_column, fragments = F::step / F::k;
  static constexpr unsigned at_scales = columns * column_bytes;
  static constexpr unsigned step_bytes = at_scales + (F::bytes ? fragments * Tokens * 4 : 0);
  static constexpr unsigned buffers(gemm_tuning t) {
    return static_cast<unsigned>((t.stages - 1 + F::steps_per_window - 1) / F::steps_per_window + 1);
  }
  static constexpr unsigned bytes_of(gemm_tuning t) {
    return static_cast<unsigned>(t.stages) * step_bytes +
           static_cast<unsigned>(t.warps) * buffers(t) * F::window_bytes;
  }
  /// As many stages as leave room for two blocks in the 164 KiB of an sm_80 multiprocessor, and as many warps as the
  /// 99 KiB allow that a block can have on every architecture.
  static constexpr gemm_tuning tuning = [] {
    gemm_tuning t;
    while (bytes_of(t) > 81 * 1024 && t.stages > 2) --t.stages;
    while (bytes_of(t) > 99 * 1024 && t.warps > 1) t.warps /= 2;
    return t;
  }();
  static_assert(bytes_of(tuning) <= 99 * 1024, "quern::cuda::gemm: a window does not fit shared memory");
  static constexpr unsigned threads = 32 * static_cast<unsigned>(tuning.warps);
  static constexpr unsigned shared_bytes = bytes_of(tuning);
  /// For the launch bounds: ptxas left alone spills to fit more (nvcc 13.0, sm_90, bsr<16, 64> with 32 tokens).
  static constexpr unsigned blocks_per_multiprocessor = 2;
  static constexpr unsigned blocks(std::size_t rows) {
    return static_cast<unsigned>((F::l::tiles(rows) + tuning.warps - 1) / tuning.warps);
  }
  static constexpr unsigned blocks_y(std::size_t tokens) {
    return static_cast<unsigned>((tokens + Tokens - 1) / Tokens);
  }

  /// Why these arguments cannot be launched; nullptr when they can.
  static const char* refusal(const arguments& a) {
    if (reinterpret_cast<std::uintptr_t>(a.x) % 16 != 0)
      return "quern::cuda::gemm: x must start at a 16-byte boundary";
    if (a.x_stride % per_column != 0 || a.x_stride < a.w.cols)
      return "quern::cuda::gemm: the stride of x must be a multiple of 16 bytes, at least W.cols; pad its "
             "rows";
    if (F::bytes && (reinterpret_cast<std::uintptr_t>(a.scale) % 16 != 0 || a.scale_stride % 4 != 0 ||
                     a.scale_stride < a.tokens))
      return "quern::cuda::gemm: scales of x must start at a 16-byte boundary, with a stride of a multiple "
             "of 4 that is "
             "at least the number of tokens";
    if (a.y_stride < a.w.rows) return "quern::cuda::gemm: the stride of y must be at least W.rows";
    for (const std::byte* s : a.w.at)
      if (reinterpret_cast<std::uintptr_t>(s) % 16 != 0)
        return "quern::cuda::gemm: streams of W must start at 16-byte boundaries";
    if (blocks_y(a.tokens) > 65535)
      return "quern::cuda::gemm: too many tokens for one launch; split the batch";
    return nullptr;
  }

  static constexpr int tiles = Tokens / 8;
  static constexpr unsigned input_bytes = static_cast<unsigned>(tuning.stages) * step_bytes;
  static constexpr unsigned weight_bytes = shared_bytes - input_bytes;

  template <context Ctx>
  QUERN_HD static void run(Ctx& ctx, const arguments& args) {
    unsigned char* const x = ctx.template shared<unsigned char>(input_bytes);
    unsigned char* const w = ctx.template shared<unsigned char>(weight_bytes);
    float sum[tiles][4] = {};
    accumulate(ctx, args, x, w, sum);
    store(ctx, args, sum);
  }

  /// sum += the block's part of X W^T; the row scales of two-level scales included.
  /// @param x, w  [input_bytes], [weight_bytes] shared memory that nobody reads any more
  template <context Ctx>
  QUERN_HD static void accumulate(Ctx& ctx, const arguments& args, unsigned char* x, unsigned char* w,
                                  float (&sum)[tiles][4]) {
    constexpr unsigned stages = tuning.stages, spw = F::steps_per_window, ring = buffers(tuning);
    const unsigned warp = ctx.thread() / 32, lane = ctx.thread() % 32;
    unsigned char* const windows = w + warp * ring * F::window_bytes;
    const std::size_t token0 = std::size_t{ctx.block_y()} * Tokens;
    weight_stager<F> stage_window(ctx, args.w, tile_of(ctx));
    const unsigned steps = static_cast<unsigned>((args.w.cols + F::step - 1) / F::step);

    const auto stage = [&](unsigned s) {
      if (s < steps) {
        stage_inputs(ctx, args, token0, s, x + s % stages * step_bytes);
        if (s % spw == 0) stage_window(ctx, s / spw, windows + s / spw % ring * F::window_bytes);
      }
      ctx.commit_async();  // empty groups keep the count in step
    };
    for (unsigned s = 0; s + 1 < stages; ++s) stage(s);
    for (unsigned s = 0; s < steps; ++s) {
      ctx.template wait_async<stages - 2>();
      ctx.sync();  // step s is there for all, and all are done with step s - 1, whose place the next one takes
      stage(s + stages - 1);
      const unsigned char* const window = windows + s / spw % ring * F::window_bytes;
      if constexpr (F::bytes)
        multiply_bytes(ctx, window, x + s % stages * step_bytes, s % spw, lane, sum);
      else
        multiply_halves(ctx, window, x + s % stages * step_bytes, s % spw, lane, sum);
    }
    ctx.template wait_async<0>();
    if constexpr (F::quantizer::row_scaled)
      for (int i = 0; i < 4; ++i) {
        const std::size_t row = row_of(ctx, i);
        if (row >= args.w.rows) continue;
        const float scale =
            widen(ctx.load(reinterpret_cast<const f16*>(stream_of(args.w, stream::row_scale)) + row));
        for (int n = 0; n < tiles; ++n) sum[n][i] *= scale;
      }
  }

  /// Writes the block's outputs.
  template <context Ctx>
  QUERN_HD static void store(Ctx& ctx, const arguments& args, const float (&sum)[tiles][4]) {
    const std::size_t token0 = std::size_t{ctx.block_y()} * Tokens;
    for (int i = 0; i < 4; ++i) {
      const std::size_t row = row_of(ctx, i);
      if (row >= args.w.rows) continue;
      for (int n = 0; n < tiles; ++n) {
        const std::size_t token =
            token0 + static_cast<std::size_t>(n * 8 + fragment<16>::c(lane_of(ctx), i).col);
        if (token < args.tokens) args.y[token * args.y_stride + row] = sum[n][i];
      }
    }
  }

 private:
  template <context Ctx>
  QUERN_HD static std::size_t tile_of(Ctx& ctx) {
    return std::size_t{ctx.block()} * static_cast<std::size_t>(tuning.warps) + ctx.thread() / 32;
  }
  template <context Ctx>
  QUERN_HD static int lane_of(Ctx& ctx) {
    return static_cast<int>(ctx.thread() % 32);
  }
  /// Row of W of element @p i of a lane's sums.
  template <context Ctx>
  QUERN_HD static std::size_t row_of(Ctx& ctx, int i) {
    return tile_of(ctx) * lanes + static_cast<std::size_t>(tile_row(fragment<16>::c(lane_of(ctx), i).row));
  }

  /// Inputs step * s .. of the block's tokens; zeros past the last token and input.
  template <context Ctx>
  QUERN_HD static void stage_inputs(Ctx& ctx, const arguments& args, std::size_t token0, unsigned s,
                                    unsigned char* to) {
    for (unsigned i = ctx.thread(); i < columns * Tokens; i += threads) {
      // Two neighbouring lanes read the 32 bytes of one sector.
      const unsigned column = i / (2 * Tokens) * 2 + i % 2, token = i / 2 % Tokens;
      const std::size_t col = std::size_t{s} * F::step + column * per_column, t = token0 + token;
      const bool inside = t < args.tokens && col < args.w.cols;
      const std::size_t left = inside ? (args.w.cols - col) * sizeof(T) : 0;
      ctx.copy_async(to + column * column_bytes + token * 16,
                     inside ? args.x + t * args.x_stride + col : args.x,
                     left < 16 ? static_cast<unsigned>(left) : 16);
    }
    if constexpr (F::bytes)
      for (unsigned i = ctx.thread(); i < fragments * Tokens / 4; i += threads) {
        const std::size_t group = std::size_t{s} * fragments + i / (Tokens / 4),
                          t = token0 + i % (Tokens / 4) * 4;
        const bool inside = t < args.tokens && group * F::k < args.w.cols;
        const std::size_t left = inside ? (args.tokens - t) * 4 : 0;
        ctx.copy_async(to + at_scales + i * 16,
                       inside ? args.scale + group * args.scale_stride + t : args.scale,
                       left < 16 ? static_cast<unsigned>(left) : 16);
      }
  }

  /// sum += the weights of one step times its inputs.
  template <context Ctx>
  QUERN_HD static void multiply_halves(Ctx& ctx, const unsigned char* window, const unsigned char* x,
                                       unsigned sub, unsigned lane, float (&sum)[tiles][4]) {
    constexpr unsigned run = F::plain ? F::step : F::quantizer::run;
    // Lane l points at row l % 8 of the matrix of columns and tokens number l / 8 of an ldmatrix.
    const unsigned char* const row = x + (F::sparse ? lane / 8 : lane / 8 % 2) * column_bytes +
                                     (F::sparse || tiles == 1 ? 0 : lane / 16 * 128) + lane % 8 * 16;
    weight_window<F, T> w(window, lane);
    float part[tiles][4] = {}, scale[2] = {};
    const auto end_run = [&] {
      for (int n = 0; n < tiles; ++n)
        for (int i = 0; i < 4; ++i) {
          sum[n][i] += scale[i / 2] * part[n][i];
          part[n][i] = 0;
        }
    };
    repeat<fragments>([&](auto q) {
      const unsigned at = (F::steps_per_window > 1 ? sub * F::step : 0) + q * F::k, unit = at / F::unit;
      if (!w.has(unit)) return;
      if (q == 0 || at % F::unit == 0) w.enter(unit);
      if constexpr (!F::plain)
        if (q == 0 || at % run == 0) {
          if (q > 0) end_run();
          w.enter_run(F::l::params_in_cells ? at % F::unit / run : at / run, scale);
        }
      const registers<4> a = w.half_fragment(F::sparse ? 0 : static_cast<int>(at % F::unit / 16));
      float(&into)[tiles][4] = F::plain ? sum : part;
      const unsigned char* const own = row + q * (F::k / per_column) * column_bytes;
      if constexpr (F::sparse) {
        const std::uint32_t metadata = w.metadata();
        repeat<tiles>(
            [&](auto n) { mma_sparse<T>(ctx, into[n], a, load_matrices<4>(ctx, own + n * 128), metadata); });
      } else if constexpr (tiles == 1) {
        mma<T>(ctx, into[0], a, load_matrices<2>(ctx, own));
      } else {
        repeat<tiles / 2>([&](auto n) {
          const registers<4> b = load_matrices<4>(ctx, own + n * 256);
          mma<T>(ctx, into[2 * n], a, {{b.word[0], b.word[1]}});
          mma<T>(ctx, into[2 * n + 1], a, {{b.word[2], b.word[3]}});
        });
      }
    });
    if constexpr (!F::plain) end_run();
  }

  /// The same for bytes: exact sums of a fragment, scaled by both sides.
  template <context Ctx>
  QUERN_HD static void multiply_bytes(Ctx& ctx, const unsigned char* window, const unsigned char* x,
                                      unsigned sub, unsigned lane, float (&sum)[tiles][4]) {
    const unsigned char* const row = x + (F::sparse ? lane / 8 : lane / 8 % 2) * column_bytes + lane % 8 * 16;
    weight_window<F, T> w(window, lane);
    repeat<fragments>([&](auto q) {
      const unsigned at = (F::steps_per_window > 1 ? sub * F::step : 0) + q * F::k, unit = at / F::unit;
      if (!w.has(unit)) return;
      w.enter(unit);
      float scale[2];
      w.enter_run(F::l::params_in_cells ? at % F::unit / F::quantizer::run : at / F::quantizer::run, scale);
      const int j = F::sparse ? 0 : static_cast<int>(at % F::unit / 16);
      const registers<2> left = w.byte_fragment(j);
      registers<2> right{};
      std::uint32_t metadata = 0;
      if constexpr (F::sparse) {
        metadata = w.byte_metadata(unit);
        if (w.has(unit + 1)) {
          w.enter(unit + 1);
          right = w.byte_fragment(0);
        }
      } else {
        right = w.byte_fragment(j + 1);
      }
      const registers<4> a{{left.word[0], left.word[1], right.word[0], right.word[1]}};
      const float* const scales = reinterpret_cast<const float*>(x + at_scales) + q * Tokens + lane % 4 * 2;
      const unsigned char* const own = row + q * (F::k / per_column) * column_bytes;
      repeat<tiles>([&](auto n) {
        std::int32_t part[4] = {};
        if constexpr (F::sparse)
          mma_sparse_bytes(ctx, part, a, load_matrices<4>(ctx, own + n * 128), metadata);
        else
          mma_bytes(ctx, part, a, load_matrices<2>(ctx, own + n * 128));
        for (int i = 0; i < 4; ++i)
          sum[n][i] += scale[i / 2] * scales[n * 8 + i % 2] * static_cast<float>(part[i]);
      });
    });
  }
};

}  // namespace cuda
}  // namespace quern::inline v0
