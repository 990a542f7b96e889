// SPDX-License-Identifier: Apache-2.0
// Quantizing and packing under plain names, and the host code around them, which is compiled here and nowhere run.
#include <quern/kernel/cuda/pack.cuh>

#include "../table.hpp"

using namespace quern_test::table;

#define QUERN_CUDA_X(suffix, F)                                                                \
  extern "C" __global__ void __launch_bounds__(256, 4)                                         \
      quantize_##suffix(quern::cuda::quantize_arguments<F::quantizer> a) {                     \
    quern::cuda::device_context ctx;                                                           \
    quern::cuda::quantize<F::pattern, F::quantizer>(ctx, a);                                   \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(256, 4)                                         \
      pack_##suffix(quern::cuda::packer<matrix_view<F::pattern, F::quantizer>>::arguments a) { \
    quern::cuda::device_context ctx;                                                           \
    quern::cuda::packer<matrix_view<F::pattern, F::quantizer>>::write(ctx, a);                 \
  }
QUERN_CUDA_PACK(QUERN_CUDA_X)
#undef QUERN_CUDA_X

/// Instantiates the host code.
quern::cuda::matrix<group<16>, affine<4, 16>> pack_a_layer(span2<const float> w, std::uint8_t* alive) {
  quern::cuda::select<group<16>>(w, nullptr, 0.5, scope::layer, alive);
  return quern::cuda::pack<group<16>, affine<4, 16>>(w, alive);
}
