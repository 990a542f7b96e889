// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::launch_gemm<quern::matrix_view<P, Q>>(args, stream);   // args: gemm_arguments<f16>, device pointers

#include <quern/core/error.hpp>
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/gemm.hpp>
#include <quern/kernel/cuda/matrix.cuh>

namespace quern::inline v0 {
namespace cuda {

template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads, Kernel::blocks_per_multiprocessor)
    run_gemm(typename Kernel::arguments args) {
  device_context ctx;
  Kernel::run(ctx, args);
}

/// Y = X W^T on tensor cores, asynchronously on @p stream; blocks of as many tokens as suit the batch. Allocates nothing
/// and waits for nothing. Needs compute capability 8.0.
/// @tparam W  matrix_view<P, Q> with gemm_format<W, T>::supported
/// @throws shape_error before the launch, cuda::error if it fails
template <class W, class T>
void launch_gemm(const gemm_arguments<T>& args, cudaStream_t stream) {
  if (args.w.rows == 0 || args.tokens == 0) return;
  const auto launch = [&]<int Tokens>() {
    using kernel = gemm<W, T, Tokens>;
    if (const char* why = kernel::refusal(args)) raise(shape_error(why));
    auto* const run = run_gemm<kernel>;
    if constexpr (kernel::shared_bytes > (48u << 10))
      check(cudaFuncSetAttribute(run, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(kernel::shared_bytes)),
            "cudaFuncSetAttribute");
    run<<<dim3(kernel::blocks(args.w.rows), kernel::blocks_y(args.tokens)), kernel::threads,
          kernel::shared_bytes, stream>>>(args);
    check(cudaGetLastError(), "run_gemm");
  };
  switch (gemm_block_tokens(args.tokens)) {
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

}  // namespace cuda
}  // namespace quern::inline v0
