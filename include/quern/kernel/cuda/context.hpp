// SPDX-License-Identifier: Apache-2.0
#pragma once
// template <quern::cuda::context Ctx>
// QUERN_HD void reverse(Ctx& ctx, float* y) {        // one source: nvcc for the device, g++ for the tests
//   float* s = ctx.template shared<float>(ctx.threads());
//   s[ctx.thread()] = y[ctx.thread()];
//   ctx.sync();
//   y[ctx.thread()] = s[ctx.threads() - 1 - ctx.thread()];
// }

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <quern/core/half.hpp>

namespace quern::inline v0 {
namespace cuda {

/// Threads of a warp.
inline constexpr unsigned warp_size = 32;

/// What one thread loads or copies at once: 16 bytes, the widest access there is.
struct alignas(16) quad {
  std::uint32_t word[4];
};

/// What a kernel sees of the machine. Kernels take it as their first argument instead of using CUDA's builtins, so
/// that the tests can run them on a machine without a GPU; `device_context` (context.cuh) is the real one.
///
/// Laws the compiler cannot check: every thread of a block calls `sync` and `shared` at the same places in the
/// same order, every lane of a warp does so with `shuffle*`, `ballot`, `sync_warp`; arrays of `shared` start at 16
/// bytes and are not adjacent; what `copy_async` copies may be read by the copying thread after the `wait` that
/// covers it, and by others after a barrier behind that. `load*` reads memory that nobody writes while the kernel
/// runs.
///
///   thread, threads       index in the block, threads per block (blocks have one dimension)
///   block, blocks, block_y, block_z   indices in the grid; blocks along x
///   shared<T>(n)          [n] elements of this block's shared memory, contents unspecified
///   sync, sync_warp       barrier of the block, of the warp
///   shuffle(v, lane), shuffle_xor(v, mask), shuffle_down(v, n)   v of another lane
///   ballot(condition)     bit i = lane i's condition
///   load16(p), load(p)    16 bytes (at a 16-byte boundary), one scalar of 1, 2, 4 or 8 bytes
///   load_written(p)       a scalar that another block has written
///   copy_async(to, from)  16 bytes from global to shared memory, both at 16-byte boundaries
///   copy_async(to, from, bytes)   the same, but the last 16 - bytes of them become zeros and are not read
///   commit_async, wait_async<N>   closes a group of copies; waits until at most N groups are on their way
///   last_to_arrive(counter, n)    true for the n-th caller, for which writes of the others are visible; the
///                         counter, zero at first, is zero again after the n-th
///   atomic_or(p, bits)    sets bits of a word that other threads set bits of as well
///   emulated              whether the bodies of primitives for the host run (then there is `collective`)
template <class C>
concept context = requires(C& c, const quad* q, const float* p, void* s, unsigned* n, float v, unsigned i) {
  { c.thread() + c.threads() + c.block() + c.blocks() + c.block_y() + c.block_z() } -> std::same_as<unsigned>;
  { c.template shared<float>(i) } -> std::same_as<float*>;
  c.sync();
  c.sync_warp();
  { c.shuffle(v, i) } -> std::same_as<float>;
  { c.shuffle_xor(v, i) } -> std::same_as<float>;
  { c.shuffle_down(v, i) } -> std::same_as<float>;
  { c.ballot(true) } -> std::same_as<std::uint32_t>;
  { c.load16(q) } -> std::same_as<quad>;
  { c.load(p) } -> std::same_as<float>;
  { c.load_written(p) } -> std::same_as<float>;
  c.copy_async(s, q);
  c.copy_async(s, q, i);
  c.commit_async();
  c.template wait_async<1>();
  { c.last_to_arrive(n, i) } -> std::same_as<bool>;
  c.atomic_or(n, i);
  { C::emulated } -> std::convertible_to<bool>;
};

/// Exact: f16 and bf16 as float.
template <class T>
QUERN_HD inline float widen(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (std::same_as<T, f16>) {
    float out;
    asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x.bits));
    return out;
  }
#endif
  return to_float(x);
}

/// Rounds to nearest even (or, for float, not at all).
template <class T>
QUERN_HD inline T narrow(float x) {
  if constexpr (std::same_as<T, float>) {
    return x;
  } else {
#if defined(__CUDA_ARCH__)
    T out;
    if constexpr (std::same_as<T, f16>)
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
    else
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(x));
    return out;
#else
    if constexpr (std::same_as<T, f16>)
      return to_f16(x);
    else
      return to_bf16(x);
#endif
  }
}

}  // namespace cuda
}  // namespace quern::inline v0
