// SPDX-License-Identifier: Apache-2.0
#pragma once
// const std::uint32_t four = quern::cuda::octet_plane<4, 16>::four(plane, cell, 0, 1);   // codes 4 .. 7, one per byte
// float w = quern::cuda::code_minus(four, 2, quern::cuda::subtrahend(zero));   // code 2 of them minus zero

#include <bit>
#include <quern/kernel/cuda/staged_stream.hpp>

namespace quern::inline v0 {
namespace cuda {

/// One plane of the codes of a cell, as a lane reads it: eight codes at a time.
template <int Width, int CellCodes>
struct octet_plane {
  static constexpr int chunk = chunk_bytes(Width, CellCodes);
  static constexpr int codes = chunk * 8 / Width;  ///< codes of a chunk: 4 at least
  static constexpr int words = codes < 8 ? 2 : 1;  ///< chunks that hold an octet
  static constexpr std::uint32_t low = (1u << Width) - 1;

  /// Codes 8 o + 4 half .. 8 o + 4 half + 3 of a cell, one per byte.
  /// @param plane  the staged plane
  /// @param c      the cell, its number counted from the first of what is staged
  QUERN_HD static std::uint32_t four(const unsigned char* plane, cell c, int o, int half) {
    const int k = 8 * o + 4 * half;
    const unsigned char* p = plane + c.first * static_cast<std::size_t>(CellCodes * Width / 8) +
                             static_cast<std::size_t>((k / codes * c.count + c.rank) * chunk);
    const std::uint32_t v = load(p) >> k % codes / 4 * Width;
    // A chunk of c bytes has four columns of 2 c bits (quant/bits.hpp); shifted, each begins with its code.
    if constexpr (chunk == 4) return v & low * 0x01010101u;
    if constexpr (chunk == 2)
      return (v & low) | (v >> 4 & low) << 8 | (v >> 8 & low) << 16 | (v >> 12 & low) << 24;
    return (v & low) | (v >> 2 & low) << 8 | (v >> 4 & low) << 16 | (v >> 6 & low) << 24;
  }

 private:
  QUERN_HD static std::uint32_t load(const unsigned char* p) {
    if constexpr (chunk == 4) return *reinterpret_cast<const std::uint32_t*>(p);
    if constexpr (chunk == 2) return *reinterpret_cast<const std::uint16_t*>(p);
    return *p;
  }
};

/// What to hand to code_minus so that it subtracts @p zero: 2^23 + zero, exact for whole numbers.
QUERN_HD inline float subtrahend(std::uint32_t zero) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(0x4b000000u | zero);
#else
  return std::bit_cast<float>(0x4b000000u | zero);
#endif
}

/// Byte @p i of @p four minus what `subtrahend` was given, exactly. A byte b in the lowest place of the float 2^23
/// is 2^23 + b, so that a permutation and the subtraction, which takes the zero point off as well, do what would
/// else be a mask, a conversion (a quarter of the rate of an addition) and a subtraction.
QUERN_HD inline float code_minus(std::uint32_t four, int i, float minus) {
  const std::uint32_t v = pick_bytes(four, 0x4b000000u, 0x7650u + static_cast<std::uint32_t>(i));
#if defined(__CUDA_ARCH__)
  return __uint_as_float(v) - minus;
#else
  return std::bit_cast<float>(v) - minus;
#endif
}

/// The lower and upper half of @p pair, as float.
template <class T>
QUERN_HD inline float widen_half(std::uint32_t pair, int half) {
  if constexpr (std::same_as<T, bf16>) {
    // The other half is cut off, not converted: one operation.
    const std::uint32_t v = half == 0 ? pair << 16 : pair & 0xffff0000u;
#if defined(__CUDA_ARCH__)
    return __uint_as_float(v);
#else
    return std::bit_cast<float>(v);
#endif
  } else {
    return widen(T{static_cast<std::uint16_t>(pair >> 16 * half)});
  }
}

/// Bits set in @p v, and the number of the lowest one.
QUERN_HD inline unsigned population(std::uint32_t v) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__popc(static_cast<int>(v)));
#else
  return static_cast<unsigned>(std::popcount(v));
#endif
}
QUERN_HD inline unsigned lowest(std::uint32_t v) {
#if defined(__CUDA_ARCH__)
  return static_cast<unsigned>(__ffs(static_cast<int>(v))) - 1;
#else
  return static_cast<unsigned>(std::countr_zero(v));
#endif
}

}  // namespace cuda
}  // namespace quern::inline v0
