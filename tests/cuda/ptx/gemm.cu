// SPDX-License-Identifier: Apache-2.0
// The GEMM kernels of the table under plain names: for ptxas's report, the disassembler and ptxsim.
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/gemm_side.hpp>

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

using sparse_with_side = quern::cuda::gemm_with_side<gemm_of<nm_w4, f16, 16>, gemm_of<dense_f16, f16, 16>>;
extern "C" __global__ void __launch_bounds__(sparse_with_side::threads,
                                             sparse_with_side::blocks_per_multiprocessor)
    sparse_w4_slorb_16(sparse_with_side::arguments args) {
  quern::cuda::device_context ctx;
  sparse_with_side::run(ctx, args);
}

extern "C" __global__ void __launch_bounds__(quern::cuda::pool_inputs<f16>::threads)
    pool_inputs_16(quern::cuda::pool_inputs<f16>::arguments args) {
  quern::cuda::device_context ctx;
  quern::cuda::pool_inputs<f16>::run(ctx, args);
}
