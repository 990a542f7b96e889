// SPDX-License-Identifier: Apache-2.0
#pragma once
// using w = quern::cuda::gemm<quern::matrix_view<quern::nm<2, 4>, quern::affine<4, 32>>, quern::f16, 16>;
// using s = quern::cuda::gemm<quern::matrix_view<quern::dense, quern::real<quern::f16>>, quern::f16, 16>;
// quern::cuda::pool_inputs<quern::f16>::run(ctx, pool);          // p = the sums of every 16 inputs
// quern::cuda::gemm_with_side<w, s>::run(ctx, {args, side});     // y = W x + S p

#include <quern/kernel/cuda/gemm.hpp>

namespace quern::inline v0 {
namespace cuda {

/// Y = X W^T + P S^T in one launch: SLoRB (AST section 3.4), whose S [rows x groups] stands beside a sparse W, and P
/// [tokens x groups] holds the pooled inputs. The sums of the second product start from those of the first, in
/// registers, so y is written once and not read.
/// @tparam Main, Side  cuda::gemm with the same type of inputs, tokens and warps
template <class Main, class Side>
struct gemm_with_side {
  static_assert(
      Main::tiles == Side::tiles && Main::threads == Side::threads,
      "quern::cuda::gemm_with_side: both products need the same tokens and warps to a block; choose formats "
      "whose windows fit alike");
  struct arguments {
    typename Main::arguments main;
    typename Side::arguments side;  ///< y is not used
  };
  static constexpr unsigned threads = Main::threads;
  static constexpr unsigned input_bytes =
      Main::input_bytes > Side::input_bytes ? Main::input_bytes : Side::input_bytes;
  static constexpr unsigned weight_bytes =
      Main::weight_bytes > Side::weight_bytes ? Main::weight_bytes : Side::weight_bytes;
  static constexpr unsigned shared_bytes = input_bytes + weight_bytes;
  static constexpr unsigned blocks_per_multiprocessor = Main::blocks_per_multiprocessor;
  static constexpr unsigned blocks(std::size_t rows) { return Main::blocks(rows); }
  static constexpr unsigned blocks_y(std::size_t tokens) { return Main::blocks_y(tokens); }

  /// Why these arguments cannot be launched; nullptr when they can.
  static const char* refusal(const arguments& a) {
    if (a.main.w.rows != a.side.w.rows || a.main.tokens != a.side.tokens)
      return "quern::cuda::gemm_with_side: W and S must have equally many rows, x and p equally many tokens";
    if (const char* why = Main::refusal(a.main)) return why;
    typename Side::arguments side = a.side;
    side.y_stride = side.w.rows;
    return Side::refusal(side);
  }

  template <context Ctx>
  QUERN_HD static void run(Ctx& ctx, const arguments& args) {
    unsigned char* const x = ctx.template shared<unsigned char>(input_bytes);
    unsigned char* const w = ctx.template shared<unsigned char>(weight_bytes);
    float sum[Main::tiles][4] = {};
    Main::accumulate(ctx, args.main, x, w, sum);
    ctx.sync();  // the inputs of the second product take the place of the first one's
    Side::accumulate(ctx, args.side, x, w, sum);
    Main::store(ctx, args.main, sum);
  }
};

/// P [tokens x ceil(cols / k)]: the sums of every k inputs of a token, the last one of what is left (X x of AST eq. 5),
/// summed in float in ascending order and rounded to T once. One thread for each sum.
template <class T>
struct pool_inputs {
  struct arguments {
    const T* x = nullptr;  ///< [tokens][x_stride]
    std::size_t x_stride = 0, tokens = 0, cols = 0;
    unsigned k = 16;
    T* p = nullptr;  ///< [tokens][p_stride]
    std::size_t p_stride = 0;
  };
  static constexpr unsigned threads = 128;
  static constexpr std::size_t groups(const arguments& a) { return (a.cols + a.k - 1) / a.k; }
  static constexpr unsigned blocks(const arguments& a) {
    return static_cast<unsigned>((a.tokens * groups(a) + threads - 1) / threads);
  }

  template <context Ctx>
  QUERN_HD static void run(Ctx& ctx, const arguments& args) {
    const std::size_t n = groups(args), i = std::size_t{ctx.block()} * threads + ctx.thread();
    if (i >= args.tokens * n) return;
    const std::size_t token = i / n, group = i % n;
    float sum = 0;
    for (std::size_t c = group * args.k; c < args.cols && c < (group + 1) * args.k; ++c)
      sum += widen(ctx.load(args.x + token * args.x_stride + c));
    args.p[token * args.p_stride + group] = narrow<T>(sum);
  }
};

}  // namespace cuda
}  // namespace quern::inline v0
