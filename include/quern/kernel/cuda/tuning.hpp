// SPDX-License-Identifier: Apache-2.0
#pragma once
// constexpr quern::cuda::architecture a100{.compute = 80, .multiprocessors = 108};
// constexpr quern::cuda::gemv_tuning t = quern::cuda::tune_gemv(a100);
// quern::cuda::check_gemv<W>(a100, args, threads);   // throws shape_error with a sentence

#include <cstdio>
#include <quern/core/error.hpp>
#include <quern/kernel/cuda/gemv.hpp>

namespace quern::inline v0 {
namespace cuda {

/// What a launch is cut to. The defaults are the smallest of the supported ones.
struct architecture {
  int compute = 80;  ///< 80 for compute capability 8.0
  int multiprocessors = 1;
  std::size_t shared_per_multiprocessor = std::size_t{100} << 10;
  std::size_t shared_per_block = std::size_t{99} << 10;
  friend constexpr bool operator==(const architecture&, const architecture&) = default;
};

/// Vectors that the GEMV kernel multiplies at once, more being the tensor core kernel's: as on the CPU.
inline constexpr int gemv_tokens = 4;

/// How the GEMV kernel is launched.
struct gemv_tuning {
  unsigned threads =
      512;  ///< per block; the inputs lie in shared memory once per block, so large blocks save it
  unsigned blocks_per_multiprocessor =
      2;  ///< at least: what registers are bounded for (1024 of 2048 threads)
  schedule how = schedule::tasks;
  friend constexpr bool operator==(const gemv_tuning&, const gemv_tuning&) = default;
  friend int print(std::FILE* f, const gemv_tuning& t) {
    return std::fprintf(f, "{.threads = %u, .blocks_per_multiprocessor = %u, .how = schedule::%s}", t.threads,
                        t.blocks_per_multiprocessor, t.how == schedule::tasks ? "tasks" : "rows");
  }
};

/// The tuning for an architecture. Derived from occupancy (docs/design.md), not measured on hardware: 1536 threads
/// fit a multiprocessor of sm_86, sm_89 and sm_120, 2048 one of sm_80, sm_90 and sm_100.
constexpr gemv_tuning tune_gemv(const architecture& a) {
  gemv_tuning t;
  const bool large = a.compute == 80 || a.compute == 90 || a.compute == 100 || a.compute == 103;
  if (!large) t.threads = 384;  // two blocks are half of 1536
  return t;
}

/// Grid and shared memory of one launch of gemv<W, T, Tokens>.
struct gemv_plan {
  unsigned blocks = 0, threads = 0;
  std::size_t shared_bytes = 0;
  friend constexpr bool operator==(const gemv_plan&, const gemv_plan&) = default;
};
/// Slots of work in a matrix, counted for the grid only.
template <class W>
constexpr std::size_t work_slots(const packed_view& w) {
  return w.cells / lanes + layout<typename W::pattern, typename W::quantizer>::tiles(w.rows);
}
/// Persistent blocks: as many as run at once, fewer where a warp would have less than one stage of work.
template <class Kernel>
constexpr gemv_plan plan_gemv(const architecture& a, const gemv_tuning& t, const packed_view& w) {
  gemv_plan p{0, t.threads, Kernel::shared_bytes(w.cols, t.threads)};
  const std::size_t system_bytes = 1024;  // that the driver takes of every block's shared memory
  std::size_t resident = a.shared_per_multiprocessor / (p.shared_bytes + system_bytes);
  if (resident > t.blocks_per_multiprocessor) resident = t.blocks_per_multiprocessor;
  if (resident == 0) resident = 1;
  const std::size_t warps = t.threads / warp_size, stage = Kernel::F::slots;
  const std::size_t full = resident * static_cast<std::size_t>(a.multiprocessors);
  std::size_t useful = t.how == schedule::tasks
                           ? (work_slots<typename Kernel::weights>(w) + warps * stage - 1) / (warps * stage)
                           : (Kernel::l::tiles(w.rows) + warps - 1) / warps;
  if (useful == 0) useful = 1;
  p.blocks = static_cast<unsigned>(useful < full ? useful : full);
  return p;
}

/// Warps that are resident at once, at most.
constexpr std::size_t resident_warps(const architecture& a) {
  const gemv_tuning t = tune_gemv(a);
  return t.threads / warp_size * t.blocks_per_multiprocessor * static_cast<std::size_t>(a.multiprocessors);
}
/// Bytes of workspace for every matrix that runs on @p a: partial sums and counters of all resident warps.
constexpr std::size_t workspace_bytes(const architecture& a) {
  return resident_warps(a) * (2 * gemv_tokens * lanes * sizeof(float) + sizeof(unsigned));
}

/// Refuses, before anything is launched, a product whose shapes do not fit or a device that lacks what all kernels need.
/// @throws shape_error with a sentence
inline void check_shapes(const architecture& a, const packed_view& w, std::size_t x_rows, std::size_t x_cols,
                         std::size_t y_rows, std::size_t y_cols) {
  require(a.compute >= 80,
          "quern::cuda::multiply: needs compute capability 8.0 (asynchronous copies, bf16), this is ",
          a.compute / 10, ".", a.compute % 10);
  require(x_cols == w.cols, "quern::cuda::multiply: x must have W.cols = ", w.cols, " columns, got ", x_cols);
  require(y_cols == w.rows, "quern::cuda::multiply: y must have W.rows = ", w.rows, " columns, got ", y_cols);
  require(x_rows == y_rows, "quern::cuda::multiply: x and y must hold equally many vectors, got ", x_rows,
          " and ", y_rows);
}

/// Refuses what the GEMV kernel cannot do.
/// @throws shape_error with a sentence
template <class Kernel>
void check_gemv(const architecture& a, const gemv_tuning& t, const typename Kernel::arguments& g) {
  require(reinterpret_cast<std::uintptr_t>(g.x) % 16 == 0 && (g.tokens <= 1 || g.x_stride % 8 == 0),
          "quern::cuda::multiply: every row of x must start at a multiple of 16 bytes; pad its stride to 8 "
          "elements");
  require(reinterpret_cast<std::uintptr_t>(g.y) % alignof(float) == 0,
          "quern::cuda::multiply: y must be aligned to 4 bytes");
  for (int i = 0; i < stream_count; ++i)
    require(reinterpret_cast<std::uintptr_t>(g.w.at[i]) % 16 == 0, "quern::cuda::multiply: stream '",
            stream_name(static_cast<stream>(i)),
            "' of W must start at a multiple of 16 bytes; use cuda::upload");
  const std::size_t bytes = Kernel::shared_bytes(g.w.cols, t.threads);
  require(bytes <= a.shared_per_block, "quern::cuda::multiply: W has ", g.w.cols, " columns; with ", g.tokens,
          " vectors they need ", bytes, " bytes of shared memory and a block has ", a.shared_per_block,
          "; multiply fewer vectors at once, or split W by columns");
  require(g.w.cells + lanes * (Kernel::l::tiles(g.w.rows) + 1) < std::size_t{1} << 31 &&
              Kernel::l::tiles(g.w.rows) * (Kernel::l::cells_per_row(g.w.cols) + 1) < std::size_t{1} << 31,
          "quern::cuda::multiply: W has more than 2^31 stored groups; split it by rows");
}

}  // namespace cuda
}  // namespace quern::inline v0
