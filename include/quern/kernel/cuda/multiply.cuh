// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::workspace work(stream);             // one per stream, once
// quern::multiply(d, x, y, work, stream);          // y [n x rows] = x [n x cols] W^T on the device
// quern::multiply(d, x, y, stream);                // without a workspace: whole rows per warp

#include <quern/core/span2.hpp>
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/gemm.cuh>
#include <quern/kernel/cuda/matrix.cuh>
#include <quern/kernel/cuda/tuning.hpp>

namespace quern::inline v0 {
namespace cuda {

/// What the current device is. @throws cuda::error
inline architecture current_architecture() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const auto get = [&](cudaDeviceAttr what) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, what, device), "cudaDeviceGetAttribute");
    return value;
  };
  architecture a;
  a.compute = get(cudaDevAttrComputeCapabilityMajor) * 10 + get(cudaDevAttrComputeCapabilityMinor);
  a.multiprocessors = get(cudaDevAttrMultiProcessorCount);
  a.shared_per_multiprocessor = static_cast<std::size_t>(get(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
  a.shared_per_block = static_cast<std::size_t>(get(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  return a;
}

/// Device memory in which warps leave the sums of tiles that they share, and what the device is. Products that use one
/// workspace must follow each other on one stream. Kernels leave it as they found it.
class workspace {
 public:
  /// Allocates and clears it on @p stream. @throws cuda::error
  explicit workspace(cudaStream_t stream = nullptr) : workspace(current_architecture(), stream) {}
  workspace(const architecture& a, cudaStream_t stream) : device_(a), memory_(workspace_bytes(a)) {
    check(cudaMemsetAsync(memory_.data(), 0, memory_.size(), stream), "cudaMemsetAsync");
  }
  const architecture& device() const { return device_; }
  std::size_t bytes() const { return memory_.size(); }
  std::byte* data() const { return memory_.data(); }

 private:
  architecture device_;
  device_buffer memory_;
};

/// The kernel of an architecture; two blocks of 512 threads bound the registers to 64, half of the threads that a
/// multiprocessor of sm_80 and sm_90 can hold.
template <class Kernel>
__global__ void __launch_bounds__(512, 2) run_gemv(typename Kernel::arguments args) {
  device_context ctx;
  Kernel::run(ctx, args);
}

namespace detail {

template <class Kernel>
void launch_gemv(const architecture& a, gemv_tuning t, typename Kernel::arguments args, std::byte* work,
                 cudaStream_t stream) {
  t.how = work != nullptr ? t.how : schedule::rows;
  const gemv_plan plan = plan_gemv<Kernel>(a, t, args.w);
  args.how = t.how;
  args.counters = reinterpret_cast<unsigned*>(work);
  args.partial = reinterpret_cast<float*>(work + resident_warps(a) * sizeof(unsigned));
  auto* const kernel = run_gemv<Kernel>;
  if (plan.shared_bytes > (48u << 10))
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(plan.shared_bytes)),
          "cudaFuncSetAttribute");
  kernel<<<plan.blocks, plan.threads, plan.shared_bytes, stream>>>(args);
  check(cudaGetLastError(), "run_gemv");
}

/// The one place where a kernel is chosen: vectors go to the GEMV kernel, batches to the tensor cores; formats that
/// one of the two does not take go to the other.
template <class P, class Q, class T>
void multiply(const matrix<P, Q>& w, span2<const T> x, span2<float> y, const architecture& a, std::byte* work,
              cudaStream_t stream) {
  using view = matrix_view<P, Q>;
  constexpr bool has_gemv = gemv_format<view>::supported, has_gemm = gemm_format<view, T>::supported;
  static_assert(
      has_gemv || has_gemm,
      "quern::cuda::multiply: no kernel takes this format; gemv_format<W> and gemm_format<W, T> say why "
      "(why_not)");
  check_shapes(a, w.raw(), x.rows(), x.cols(), y.rows(), y.cols());
  if (w.rows() == 0 || x.rows() == 0) return;
  if constexpr (has_gemm)
    if (!has_gemv || x.rows() > gemv_tokens)
      return launch_gemm<view>(
          gemm_arguments<T>{w.raw(), x.data(), x.stride(), x.rows(), y.data(), y.stride()}, stream);
  if constexpr (has_gemv) {
    const gemv_tuning t = tune_gemv(a);
    const auto part = [&]<int Tokens>(std::size_t first, std::size_t n) {
      using kernel = gemv<view, T, Tokens>;
      typename kernel::arguments args{w.raw(), x.row(first), x.stride(), n, y.row(first), y.stride()};
      check_gemv<kernel>(a, t, args);
      launch_gemv<kernel>(a, t, args, work, stream);
    };
    for (std::size_t first = 0; first < x.rows(); first += gemv_tokens) {
      const std::size_t n = x.rows() - first;
      if (n == 1)
        part.template operator()<1>(first, 1);
      else
        part.template operator()<gemv_tokens>(first, n < gemv_tokens ? n : gemv_tokens);
    }
  }
}

}  // namespace detail
}  // namespace cuda

/// y [n x rows] = x [n x cols] W^T on the device, as multiply on the CPU does it: inputs f16 or bf16, exact products,
/// sums in float. Asynchronous on @p stream; allocates nothing and waits for nothing, so it can be captured into a
/// graph. x and y lie in device memory and must not overlap.
/// @param work  of this stream
/// @throws shape_error before the launch: lengths, alignment, a K or a device that the kernel cannot take;
///         cuda::error if the launch fails
template <class P, class Q, class T>
void multiply(const cuda::matrix<P, Q>& w, span2<const T> x, span2<float> y, const cuda::workspace& work,
              cudaStream_t stream = nullptr) {
  cuda::detail::multiply(w, x, y, work.device(), work.data(), stream);
}
/// The same without a workspace: rows are not cut, so a matrix whose rows differ in length takes as long as its
/// longest tiles.
template <class P, class Q, class T>
void multiply(const cuda::matrix<P, Q>& w, span2<const T> x, span2<float> y, cudaStream_t stream = nullptr) {
  cuda::detail::multiply(w, x, y, cuda::current_architecture(), nullptr, stream);
}

/// int8 inputs: x is scale * code, with one scale for every 32 inputs of a token (2:4: 64), exact sums in between.
/// @param x      [n x cols], rows at 16-byte boundaries
/// @param scale  [ceil(cols / 32) x n] (2:4: 64), its stride a multiple of 4
template <class P, class Q>
void multiply(const cuda::matrix<P, Q>& w, span2<const std::int8_t> x, span2<const float> scale,
              span2<float> y, cudaStream_t stream = nullptr) {
  using view = matrix_view<P, Q>;
  using format = cuda::gemm_format<view, std::int8_t>;
  static_assert(format::supported,
                "quern::cuda::multiply: no kernel takes this format with int8 inputs; gemm_format<W, "
                "int8_t>::why_not() "
                "says why");
  cuda::check_shapes(cuda::current_architecture(), w.raw(), x.rows(), x.cols(), y.rows(), y.cols());
  constexpr std::size_t k = format::k;
  require(scale.rows() == (w.cols() + k - 1) / k && scale.cols() == x.rows(),
          "quern::cuda::multiply: scale must be [", (w.cols() + k - 1) / k, " x ", x.rows(),
          "], one for every ", k, " inputs of a token");
  if (w.rows() == 0 || x.rows() == 0) return;
  cuda::launch_gemm<view>(cuda::gemm_arguments<std::int8_t>{w.raw(), x.data(), x.stride(), x.rows(), y.data(),
                                                            y.stride(), scale.data(), scale.stride()},
                          stream);
}

}  // namespace quern::inline v0
