// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::launch_gemm<quern::matrix_view<P, Q>>(args, stream);   // args: gemm_arguments<f16>, device pointers

#include <quern/core/error.hpp>
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/gemm_side.hpp>
#include <quern/kernel/cuda/matrix.cuh>

namespace quern::inline v0 {
namespace cuda {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, Kernel::blocks_per_multiprocessor)
    run_gemm(typename Kernel::arguments args) {
  device_context ctx;
  Kernel::run(ctx, args);
}

template <class T>
__global__ void __launch_bounds__(pool_inputs<T>::threads)
    run_pool_inputs(typename pool_inputs<T>::arguments args) {
  device_context ctx;
  pool_inputs<T>::run(ctx, args);
}

namespace detail {

/// Launches gemm<W, T, Tokens> or gemm_with_side after asking it whether it can run.
template <class Kernel>
void launch_tiles(const typename Kernel::arguments& args, std::size_t rows, std::size_t tokens,
                  cudaStream_t stream) {
  if (const char* why = Kernel::refusal(args)) raise(shape_error(why));
  auto* const run = run_gemm<Kernel>;
  if constexpr (Kernel::shared_bytes > (48u << 10))
    check(cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(Kernel::shared_bytes)),
          "cudaFuncSetAttribute");
  run<<<dim3(Kernel::blocks(rows), Kernel::blocks_y(tokens)), Kernel::threads, Kernel::shared_bytes,
        stream>>>(args);
  check(cudaGetLastError(), "run_gemm");
}

/// Calls launch.operator()<Tokens>() with the tokens of a block that suit a batch.
template <class F>
void with_block_tokens(std::size_t tokens, F&& launch) {
  switch (gemm_block_tokens(tokens)) {
    case 8:
      return launch.template operator()<8>();
    case 16:
      return launch.template operator()<16>();
    case 32:
      return launch.template operator()<32>();
    default:
      return launch.template operator()<64>();
  }
}

}  // namespace detail

/// Y = X W^T on tensor cores, asynchronously on @p stream; blocks of as many tokens as suit the batch. Allocates nothing
/// and waits for nothing. Needs compute capability 8.0.
/// @tparam W  matrix_view<P, Q> with gemm_format<W, T>::supported
/// @throws shape_error before the launch, cuda::error if it fails
template <class W, class T>
void launch_gemm(const gemm_arguments<T>& args, cudaStream_t stream) {
  if (args.w.rows == 0 || args.tokens == 0) return;
  detail::with_block_tokens(args.tokens, [&]<int Tokens>() {
    detail::launch_tiles<gemm<W, T, Tokens>>(args, args.w.rows, args.tokens, stream);
  });
}

/// Y = X W^T + P S^T in one launch (SLoRB, gemm_side.hpp); as launch_gemm. The y of @p side is not used.
/// @tparam W, S  matrix_view of W and of S, with gemm_format<.., T>::supported
template <class W, class S, class T>
void launch_gemm_with_side(const gemm_arguments<T>& args, const gemm_arguments<T>& side,
                           cudaStream_t stream) {
  if (args.w.rows == 0 || args.tokens == 0) return;
  detail::with_block_tokens(args.tokens, [&]<int Tokens>() {
    detail::launch_tiles<gemm_with_side<gemm<W, T, Tokens>, gemm<S, T, Tokens>>>({args, side}, args.w.rows,
                                                                                 args.tokens, stream);
  });
}

/// P = the sums of every k inputs of a token, asynchronously on @p stream.
/// @throws shape_error if k is 0, cuda::error if the launch fails
template <class T>
void launch_pool_inputs(const typename pool_inputs<T>::arguments& args, cudaStream_t stream) {
  require(args.k > 0, "quern::cuda::pool_inputs: k is 0; a group needs at least one input");
  if (args.tokens == 0 || args.cols == 0) return;
  run_pool_inputs<T><<<pool_inputs<T>::blocks(args), pool_inputs<T>::threads, 0, stream>>>(args);
  check(cudaGetLastError(), "run_pool_inputs");
}

}  // namespace cuda
}  // namespace quern::inline v0
