// SPDX-License-Identifier: Apache-2.0
#pragma once
// __global__ void run(float* y) { quern::cuda::device_context ctx; quern::cuda::reverse(ctx, y); }
// run<<<blocks, threads, shared_bytes, stream>>>(y);   // shared_bytes: the sum of what `shared` is asked for

#include <quern/kernel/cuda/context.hpp>

#if !defined(__CUDACC_RELAXED_CONSTEXPR__)
#error "quern: compile .cu files with nvcc --expt-relaxed-constexpr (the target quern::cuda does)"
#endif

namespace quern::inline v0 {
namespace cuda {

/// The context of a CUDA thread: every member is one instruction or intrinsic. See `context` for what they mean.
class device_context {
 public:
  static constexpr bool emulated = false;
  static constexpr unsigned all = 0xffffffffu;

  __device__ unsigned thread() const { return threadIdx.x; }
  __device__ unsigned threads() const { return blockDim.x; }
  __device__ unsigned block() const { return blockIdx.x; }
  __device__ unsigned block_y() const { return blockIdx.y; }
  __device__ unsigned block_z() const { return blockIdx.z; }
  __device__ unsigned blocks() const { return gridDim.x; }

  template <class T>
  __device__ T* shared(unsigned n) {
    extern __shared__ __align__(16) unsigned char quern_shared[];
    T* p = reinterpret_cast<T*>(quern_shared + used_);
    used_ += (n * static_cast<unsigned>(sizeof(T)) + 15u) / 16u * 16u;
    return p;
  }
  __device__ void sync() { __syncthreads(); }
  __device__ void sync_warp() { __syncwarp(); }
  template <class T>
  __device__ T shuffle(T v, unsigned lane) {
    return __shfl_sync(all, v, static_cast<int>(lane));
  }
  template <class T>
  __device__ T shuffle_xor(T v, unsigned mask) {
    return __shfl_xor_sync(all, v, static_cast<int>(mask));
  }
  template <class T>
  __device__ T shuffle_down(T v, unsigned n) {
    return __shfl_down_sync(all, v, n);
  }
  __device__ std::uint32_t ballot(bool condition) { return __ballot_sync(all, condition); }

  /// Not kept in L1: weights are read once.
  __device__ quad load16(const void* p) {
    quad q;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(q.word[0]), "=r"(q.word[1]), "=r"(q.word[2]), "=r"(q.word[3])
                 : "l"(p));
    return q;
  }
  template <class T>
  __device__ T load(const T* p) {
    return as<T>(load_bits<sizeof(T)>(p));
  }
  template <class T>
  __device__ T load_written(const T* p) {
    static_assert(sizeof(T) == 4, "quern::cuda: load_written reads 4 bytes");
    std::uint32_t v;
    asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
    return as<T>(v);
  }
  __device__ void copy_async(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(from)
                 : "memory");
  }
  __device__ void copy_async(void* to, const void* from, unsigned bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(from), "r"(bytes)
                 : "memory");
  }
  __device__ void commit_async() { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int N>
  __device__ void wait_async() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
  }
  __device__ void atomic_or(unsigned* p, unsigned bits) { atomicOr(p, bits); }
  __device__ bool last_to_arrive(unsigned* counter, unsigned n) {
    __threadfence();
    const bool last = atomicInc(counter, n - 1) == n - 1;
    __threadfence();
    return last;
  }

 private:
  template <std::size_t Bytes>
  __device__ static auto load_bits(const void* p) {
    if constexpr (Bytes == 1) {
      std::uint32_t v;
      asm volatile("ld.global.nc.u8 %0, [%1];" : "=r"(v) : "l"(p));
      return static_cast<std::uint8_t>(v);
    } else if constexpr (Bytes == 2) {
      std::uint16_t v;
      asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(v) : "l"(p));
      return v;
    } else if constexpr (Bytes == 4) {
      std::uint32_t v;
      asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(p));
      return v;
    } else {
      static_assert(Bytes == 8, "quern::cuda: load reads 1, 2, 4 or 8 bytes; use load16 for 16");
      std::uint64_t v;
      asm volatile("ld.global.nc.u64 %0, [%1];" : "=l"(v) : "l"(p));
      return v;
    }
  }
  template <class T, class Bits>
  __device__ static T as(Bits v) {
    static_assert(sizeof(T) == sizeof(Bits));
    T out;
    __builtin_memcpy(&out, &v, sizeof out);
    return out;
  }
  unsigned used_ = 0;
};
static_assert(context<device_context>);

}  // namespace cuda
}  // namespace quern::inline v0
