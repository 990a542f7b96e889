// SPDX-License-Identifier: Apache-2.0
// Choosing, quantizing and packing under plain names. Bounds as in pack.cuh.
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/pack.hpp>
#include <quern/kernel/cuda/select.hpp>

#include "../table.hpp"

using namespace quern_test::table;

#define QUERN_CUDA_X(suffix, F)                                                \
  extern "C" __global__ void __launch_bounds__(256, 4)                         \
      quantize_##suffix(quern::cuda::quantize_arguments<F::quantizer> a) {     \
    quern::cuda::device_context ctx;                                           \
    quern::cuda::quantize<F::pattern, F::quantizer>(ctx, a);                   \
  }                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 4)                         \
      count_##suffix(quern::cuda::pack_arguments<F::quantizer> a) {            \
    quern::cuda::device_context ctx;                                           \
    quern::cuda::packer<matrix_view<F::pattern, F::quantizer>>::count(ctx, a); \
  }                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 4)                         \
      pack_##suffix(quern::cuda::pack_arguments<F::quantizer> a) {             \
    quern::cuda::device_context ctx;                                           \
    quern::cuda::packer<matrix_view<F::pattern, F::quantizer>>::write(ctx, a); \
  }
QUERN_CUDA_PACK(QUERN_CUDA_X)
#undef QUERN_CUDA_X

extern "C" __global__ void __launch_bounds__(256) select_scores(quern::cuda::score_arguments a) {
  quern::cuda::device_context ctx;
  quern::cuda::unit_scores<group16_w4::pattern>(ctx, a);
}
extern "C" __global__ void __launch_bounds__(256) select_keep_best(quern::cuda::select_arguments a) {
  quern::cuda::device_context ctx;
  quern::cuda::keep_best(ctx, a);
}
extern "C" __global__ void __launch_bounds__(256) select_mark_first(quern::cuda::mark_arguments a) {
  quern::cuda::device_context ctx;
  quern::cuda::mark_first(ctx, a);
}
