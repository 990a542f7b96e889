// SPDX-License-Identifier: Apache-2.0
// The GEMM kernels of the table under plain names: for ptxas's report, the disassembler and ptxsim.
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/gemm.hpp>

#include "../table.hpp"

using namespace quern_test::table;

template <class F, class T, int Tokens>
using gemm_of = quern::cuda::gemm<matrix_view<typename F::pattern, typename F::quantizer>, T, Tokens>;

#define QUERN_CUDA_X(name, F, T, Tokens)                                                         \
  extern "C" __global__ void __launch_bounds__(gemm_of<F, T, Tokens>::threads,                   \
                                               gemm_of<F, T, Tokens>::blocks_per_multiprocessor) \
      name(gemm_of<F, T, Tokens>::arguments args) {                                              \
    quern::cuda::device_context ctx;                                                             \
    gemm_of<F, T, Tokens>::run(ctx, args);                                                       \
  }
QUERN_CUDA_GEMM(QUERN_CUDA_X)
#undef QUERN_CUDA_X
