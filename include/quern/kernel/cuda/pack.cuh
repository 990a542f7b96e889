// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::select<quern::group<16>>(w, {}, 0.5, quern::scope::layer, alive, stream);   // w, alive: device memory
// auto d = quern::cuda::pack<quern::group<16>, quern::affine<4, 16>>(w, alive, stream);
//
// Not part of cuda.cuh: CUB costs each file that includes it seven seconds. And CUB has a namespace cuda of its own:
// such a file must not say `using namespace quern` in the global namespace or in an unnamed one.

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <quern/core/span2.hpp>
#include <quern/kernel/cuda/context.cuh>
#include <quern/kernel/cuda/matrix.cuh>
#include <quern/kernel/cuda/pack.hpp>
#include <quern/kernel/cuda/select.hpp>
#include <quern/pattern/select.hpp>

namespace quern::inline v0 {
namespace cuda {

template <sparsity_pattern P>
__global__ void __launch_bounds__(256) run_unit_scores(score_arguments a) {
  device_context ctx;
  unit_scores<P>(ctx, a);
}
/// A template for its linkage only: every file that includes this may define it.
template <int = 0>
__global__ void __launch_bounds__(256) run_keep_best(select_arguments a) {
  device_context ctx;
  keep_best(ctx, a);
}
template <int = 0>
__global__ void __launch_bounds__(256) run_mark_first(mark_arguments a, std::uint32_t* identity) {
  device_context ctx;
  if (identity == nullptr)
    mark_first(ctx, a);
  else
    for (std::size_t i = ctx.block() * 256u + ctx.thread(); i < a.count; i += ctx.blocks() * 256u)
      identity[i] = static_cast<std::uint32_t>(i);
}
template <sparsity_pattern P, quantizer Q>
__global__ void __launch_bounds__(256, 4) run_quantize(quantize_arguments<Q> a) {
  device_context ctx;
  quantize<P, Q>(ctx, a);
}
template <class W>
__global__ void __launch_bounds__(256, 4) run_count(typename packer<W>::arguments a) {
  device_context ctx;
  packer<W>::count(ctx, a);
}
template <class W>
__global__ void __launch_bounds__(256, 4) run_pack(typename packer<W>::arguments a) {
  device_context ctx;
  packer<W>::write(ctx, a);
}

namespace detail {

/// Not CUB's own sum: what CUB 3.0 is tuned to for that spills a register on sm_90.
struct add_counts {
  __device__ unsigned operator()(unsigned a, unsigned b) const { return a + b; }
};

/// Blocks of 256 threads for @p items that @p per_block of them take: kernels loop, so the number only fills the device.
inline unsigned blocks_for(std::size_t items, std::size_t per_block) {
  const std::size_t n = (items + per_block - 1) / per_block;
  return static_cast<unsigned>(n < 1 ? 1 : n > 4096 ? 4096 : n);
}
/// Raises what the kernels found wrong; waits for @p stream.
inline void raise_faults(const unsigned* device_word, const char* who, cudaStream_t stream) {
  unsigned faults = 0;
  check(cudaMemcpyAsync(&faults, device_word, sizeof faults, cudaMemcpyDeviceToHost, stream),
        "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  require((faults & not_finite) == 0, who, ": W or a score is NaN or infinite; check the weights");
  require((faults & too_large) == 0, who,
          ": a scale overflows its format; scale the weights, or choose a bf16 scale");
  require((faults & too_many) == 0, who,
          ": more units of a window survive than the pattern allows; use cuda::select");
}

}  // namespace detail

/// Chooses the units of W [rows x cols] (device memory, contiguous) that survive: those with the largest mean of |w|,
/// times the factor of its column where there are factors; of equal ones the one further up, then further left.
/// Patterns of fixed density keep N of M; the others round(density * units) of every row or of the whole matrix.
/// Allocates, and waits for @p stream.
/// @param factor  [cols] in device memory (Wanda: the norms of the inputs), or null
/// @param alive   [block rows][units] bytes of device memory: 1 for what survives
/// @throws shape_error (a NaN, a density that is not 0..1), cuda::error
template <sparsity_pattern P>
void select(span2<const float> w, const float* factor, double density, scope s, std::uint8_t* alive,
            cudaStream_t stream = nullptr) {
  static_assert(P::kind != survivors::all,
                "quern::cuda::select: dense keeps everything; there is nothing to choose");
  require(w.stride() == w.cols(), "quern::cuda::select: W must be contiguous; its rows are ", w.stride(),
          " elements apart and have ", w.cols());
  require(density >= 0 && density <= 1, "quern::cuda::select: the density is ", density, "; it must be 0..1");
  require(s != scope::row_block || P::of > 0,
          "quern::cuda::select: choose scope::row or scope::layer on the device; row_block is the CPU's");
  const std::size_t blocks = block_rows<P>(w.rows()), units = units_per_row<P>(w.cols()),
                    count = blocks * units;
  if (count == 0) return;
  require(count < std::size_t{1} << 31, "quern::cuda::select: W has more than 2^31 units; choose by parts");
  const device_buffer scores(count * sizeof(float)), fault_word(sizeof(unsigned));
  check(cudaMemsetAsync(fault_word.data(), 0, sizeof(unsigned), stream), "cudaMemsetAsync");
  float* const score = reinterpret_cast<float*>(scores.data());
  unsigned* const faults = reinterpret_cast<unsigned*>(fault_word.data());
  const unsigned grid = detail::blocks_for(count, 256);
  run_unit_scores<P><<<grid, 256, 0, stream>>>({w.data(), factor, score, w.rows(), w.cols()});
  check(cudaGetLastError(), "run_unit_scores");
  const bool whole = P::of == 0 && s == scope::layer;
  const std::size_t window = P::of > 0 ? P::of : units;
  const std::size_t keep =
      P::of > 0 ? static_cast<std::size_t>(P::keep) : keep_quota(density, 0, whole ? count : units);
  // For a whole matrix this looks for NaN only; what it marks is overwritten.
  run_keep_best<><<<grid, 256, 0, stream>>>({score, alive, blocks, units, whole ? 1 : window, keep, faults});
  check(cudaGetLastError(), "run_keep_best");
  if (whole) {
    const device_buffer sorted(count * sizeof(float)), before(count * 4), after(count * 4);
    std::uint32_t* const from = reinterpret_cast<std::uint32_t*>(before.data());
    std::uint32_t* const order = reinterpret_cast<std::uint32_t*>(after.data());
    const mark_arguments mark{order, alive, count, keep};
    run_mark_first<><<<grid, 256, 0, stream>>>(mark, from);
    std::size_t bytes = 0;
    const auto sort = [&](void* work) {  // stable: equal scores stay in their order
      check(cub::DeviceRadixSort::SortPairsDescending(work, bytes, score,
                                                      reinterpret_cast<float*>(sorted.data()), from, order,
                                                      static_cast<int>(count), 0, 32, stream),
            "cub::DeviceRadixSort::SortPairsDescending");
    };
    sort(nullptr);
    const device_buffer work(bytes);
    sort(work.data());
    run_mark_first<><<<grid, 256, 0, stream>>>(mark, nullptr);
    check(cudaGetLastError(), "run_mark_first");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");  // before the buffers are freed
  }
  detail::raise_faults(faults, "quern::cuda::select", stream);
}

/// Quantizes W [rows x cols] (device memory, contiguous) by rounding to nearest and packs it: the bytes of quern::pack.
/// Allocates, and waits for @p stream.
/// @param alive  [block rows][units] bytes of device memory, not 0: the unit survives; null for `dense`
/// @throws shape_error (a weight that is not finite, a mask that breaks the pattern), cuda::error
template <sparsity_pattern P, quantizer Q>
matrix<P, Q> pack(span2<const float> w, const std::uint8_t* alive, cudaStream_t stream = nullptr) {
  using kernel = packer<matrix_view<P, Q>>;
  using l = layout<P, Q>;
  require(w.stride() == w.cols(), "quern::cuda::pack: W must be contiguous; its rows are ", w.stride(),
          " elements apart and have ", w.cols());
  require((alive != nullptr) == (P::kind != survivors::all),
          "quern::cuda::pack: patterns need a byte for every unit that says whether it survives; dense takes "
          "none");
  const std::size_t rows = w.rows(), cols = w.cols(), lists = kernel::counted(rows);
  const device_buffer codes(rows * cols), params(rows * l::runs(cols) * sizeof(run_params)),
      scales(rows * sizeof(float));
  const device_buffer counts(lists * 4), fault_word(sizeof(unsigned));
  unsigned* const faults = reinterpret_cast<unsigned*>(fault_word.data());
  check(cudaMemsetAsync(faults, 0, sizeof(unsigned), stream), "cudaMemsetAsync");
  const quantize_arguments<Q> q{w.data(),
                                alive,
                                reinterpret_cast<std::uint8_t*>(codes.data()),
                                reinterpret_cast<run_params*>(params.data()),
                                reinterpret_cast<float*>(scales.data()),
                                faults,
                                rows,
                                cols};
  run_quantize<P, Q><<<detail::blocks_for(rows, 8), 256, 0, stream>>>(q);
  check(cudaGetLastError(), "run_quantize");
  typename kernel::arguments a;
  a.w.rows = rows;
  a.w.cols = cols;
  a.alive = alive;
  a.codes = q.codes;
  a.params = q.params;
  a.row_scale = q.row_scale;
  a.counts = reinterpret_cast<unsigned*>(counts.data());
  a.faults = faults;
  std::size_t survivors_in_data = 0;
  const device_buffer sums(lists * 4);
  if (lists > 0) {
    run_count<matrix_view<P, Q>><<<detail::blocks_for(lists, 8), 256, 0, stream>>>(a);
    check(cudaGetLastError(), "run_count");
    std::size_t bytes = 0;
    const auto scan = [&](void* work) {
      check(cub::DeviceScan::InclusiveScan(work, bytes, a.counts, reinterpret_cast<unsigned*>(sums.data()),
                                           detail::add_counts(), static_cast<int>(lists), stream),
            "cub::DeviceScan::InclusiveScan");
    };
    scan(nullptr);
    const device_buffer work(bytes);
    scan(work.data());
    unsigned last = 0;
    check(cudaMemcpyAsync(&last, sums.data() + (lists - 1) * 4, 4, cudaMemcpyDeviceToHost, stream),
          "cudaMemcpyAsync");
    check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    survivors_in_data = std::size_t{last} * (P::kind == survivors::listed ? P::unit_rows : 1);
  }
  detail::raise_faults(faults, "quern::cuda::pack", stream);
  matrix<P, Q> d(rows, cols, l::cells(rows, cols, survivors_in_data));
  check(cudaMemsetAsync(d.memory().data(), 0, d.memory().size(), stream), "cudaMemsetAsync");
  a.w = d.raw();
  if (lists > 0)
    check(cudaMemcpyAsync(const_cast<std::byte*>(a.w[quern::stream::begin]) + 4, sums.data(), lists * 4,
                          cudaMemcpyDeviceToDevice, stream),
          "cudaMemcpyAsync");
  run_pack<matrix_view<P, Q>><<<detail::blocks_for(l::tiles(rows), 8), 256, 0, stream>>>(a);
  check(cudaGetLastError(), "run_pack");
  detail::raise_faults(faults, "quern::cuda::pack", stream);
  return d;
}

}  // namespace cuda
}  // namespace quern::inline v0
