// SPDX-License-Identifier: Apache-2.0
// The kernels of the table under plain names: for ptxas's report, the disassembler and ptxsim. Bounds as run_gemv's.
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/gemv.hpp>

#include "../table.hpp"

using namespace quern_test::table;

#define QUERN_CUDA_X(name, F, T, Tokens)                                                          \
  extern "C" __global__ void __launch_bounds__(512, 2)                                            \
      name(quern::cuda::gemv<matrix_view<F::pattern, F::quantizer>, T, Tokens>::arguments args) { \
    quern::cuda::device_context ctx;                                                              \
    quern::cuda::gemv<matrix_view<F::pattern, F::quantizer>, T, Tokens>::run(ctx, args);          \
  }
QUERN_CUDA_GEMV(QUERN_CUDA_X)
#undef QUERN_CUDA_X
