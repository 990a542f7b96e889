// SPDX-License-Identifier: Apache-2.0
#pragma once
// using codes = quern::cuda::staged_stream<64, 128>;   // up to 128 cells of 64 bits each
// codes::copy(ctx, buffer, quern::cuda::stream_of(w, stream::codes), first, count);
// // once the copies have been waited for, item first + i is item codes::skew(first) + i of buffer

#include <quern/format/matrix.hpp>
#include <quern/kernel/cuda/context.hpp>

namespace quern::inline v0 {
namespace cuda {

/// First byte of a stream, on the device as well.
QUERN_HD inline const std::byte* stream_of(const packed_view& w, stream s) {
  return w.at[static_cast<int>(s)];
}

/// A stretch of a stream that a warp stages in shared memory: items of `Bits` bits, up to `Items` of them from any
/// first one. Copies are of 16 bytes and begin at a 32-byte boundary of the stream, where a sector of memory does: from
/// the middle of one, every request of a warp would touch one sector more. Up to `granule - 1` items before the first
/// come along; streams are padded to 64 bytes, so the last copy stays inside.
template <int Bits, int Items>
struct staged_stream {
  /// A power of two: the items after which a 32-byte boundary recurs.
  static constexpr unsigned granule = Bits % 256 == 0 ? 1 : 256 / static_cast<unsigned>(Bits & -Bits);
  static constexpr unsigned bytes = Bits == 0 ? 0 : (Items + granule - 1) * Bits / 8 / 16 * 16 + 16;
  /// Items before item @p first in what is staged.
  QUERN_HD static constexpr unsigned skew(std::size_t first) {
    return static_cast<unsigned>(first % granule);
  }

  /// One warp stages items [first, first + count).
  template <context Ctx>
  QUERN_HD static void copy(Ctx& ctx, unsigned char* to, const std::byte* from, std::size_t first,
                            unsigned count) {
    if constexpr (Bits > 0) {
      const std::size_t begin = (first - skew(first)) * static_cast<std::size_t>(Bits) / 8;
      const unsigned end = ((skew(first) + count) * Bits + 7) / 8;
      for (unsigned i = ctx.thread() % 32 * 16; i < end; i += 32 * 16)
        ctx.copy_async(to + i, from + begin + i);
    }
  }
};

/// Four bytes picked from the eight of (low, high): nibble i of @p selector is the number of byte i (prmt).
QUERN_HD inline std::uint32_t pick_bytes(std::uint32_t low, std::uint32_t high, std::uint32_t selector) {
#if defined(__CUDA_ARCH__)
  return __byte_perm(low, high, selector);
#else
  const std::uint64_t all = static_cast<std::uint64_t>(high) << 32 | low;
  std::uint32_t out = 0;
  for (int i = 0; i < 4; ++i)
    out |= static_cast<std::uint32_t>(all >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return out;
#endif
}

}  // namespace cuda
}  // namespace quern::inline v0
