// SPDX-License-Identifier: Apache-2.0
// The public interface, instantiated: host code that is compiled here and run where there is a device.
#include <quern/cuda.cuh>
#include <quern/kernel/cuda/pack.cuh>

namespace quern_test {

using namespace quern;
namespace gpu = quern::cuda;  // CUB brings a namespace cuda of its own

template <class P, class Q>
quern::matrix<P, Q> every_call(const quern::matrix<P, Q>& w, span2<const f16> x, span2<float> y,
                               cudaStream_t stream) {
  const gpu::matrix<P, Q> d = gpu::upload(w, stream);
  const gpu::workspace work(stream);
  multiply(d, x, y, work, stream);
  multiply(d, x, y, stream);
  return gpu::download(d, stream);
}

gpu::matrix<group<16>, affine<4, 16>> pack_a_layer(span2<const float> w, std::uint8_t* alive) {
  gpu::select<group<16>>(w, nullptr, 0.5, scope::layer, alive);
  return gpu::pack<group<16>, affine<4, 16>>(w, alive);
}
void every_kernel(const quern::matrix<group<16>, affine<4, 16>>& a,
                  const quern::matrix<nm<2, 4>, symmetric<8, 64>>& b, span2<const f16> x,
                  span2<const std::int8_t> bytes, span2<const float> scale, span2<float> y) {
  every_call(a, x, y, nullptr);
  multiply(gpu::upload(b), bytes, scale, y);
}
void slorb(const gpu::gemm_arguments<f16>& w, const gpu::gemm_arguments<f16>& s,
           const gpu::pool_inputs<f16>::arguments& pool) {
  gpu::launch_pool_inputs<f16>(pool, nullptr);
  gpu::launch_gemm_with_side<matrix_view<nm<2, 4>, affine<4, 32>>, matrix_view<quern::dense, real<f16>>>(
      w, s, nullptr);
}

}  // namespace quern_test
