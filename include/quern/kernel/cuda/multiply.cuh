// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::workspace work(stream);             // one per stream, once
// quern::multiply(d, x, y, work, stream);          // y [n x rows] = x [n x cols] W^T on the device
// quern::multiply(d, x, y, stream);                // without a workspace: whole rows per warp

#include <quern/core/span2.hpp>
#include <quern/kernel/cuda/context.cuh>
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

template <class P, class Q, class T>
void multiply(const matrix<P, Q>& w, span2<const T> x, span2<float> y, const architecture& a, std::byte* work,
              cudaStream_t stream) {
  using view = matrix_view<P, Q>;
  static_assert(gemv_format<view>::supported,
                "quern::cuda::multiply: no kernel takes this format; gemv_format<W>::why_not() says why");
  require(x.rows() == y.rows(), "quern::cuda::multiply: x and y must hold equally many vectors, got ",
          x.rows(), " and ", y.rows());
  if (w.rows() == 0 || x.rows() == 0) return;
  const gemv_tuning t = tune_gemv(a);
  const auto part = [&]<int Tokens>(std::size_t first, std::size_t n) {
    using kernel = gemv<view, T, Tokens>;
    typename kernel::arguments args{w.raw(), x.row(first), x.stride(), n, y.row(first), y.stride()};
    check_gemv<kernel>(a, t, args, x.cols(), y.cols());
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

}  // namespace quern::inline v0
