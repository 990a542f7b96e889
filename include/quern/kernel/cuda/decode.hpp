// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::uint32_t codes = quern::cuda::fragment_codes<4, 16>(column, word0, word1, j);   // 4 codes, one per byte
// quern::cuda::decoded<quern::f16, 4> d{zero};  registers<2> a = d(codes);             // (code - zero), exact

#include <quern/kernel/cuda/staged_stream.hpp>
#include <quern/kernel/cuda/tile.hpp>
#include <quern/quant/bits.hpp>

namespace quern::inline v0 {
namespace cuda {

/// The four columns of 4 bits of a chunk of 2 bytes, as bytes.
QUERN_HD constexpr std::uint32_t nibbles_to_bytes(std::uint32_t v) {
  v = (v | v << 8) & 0x00ff00ffu;
  return (v | v << 4) & 0x0f0f0f0fu;
}

/// Where the codes that one lane needs for a fragment stand in a plane of `Width` bits of a cell of `CellCodes`
/// codes (quant/bits.hpp). A fragment takes 16 consecutive codes of a row, codes 16 j ..; the lane of column c (lane
/// % 4) multiplies codes 2 c, 2 c + 1, 8 + 2 c and 9 + 2 c of them (fragment<16>::a). They lie in two chunks for
/// widths of 8 and 4 bits, in one for less.
template <int Width, int CellCodes>
struct fragment_plane {
  static_assert(Width == 1 || Width == 2 || Width == 4 || Width == 8 || Width == 16,
                "quern::cuda: planes of 1, 2, 4, 8 or 16 bits");
  static_assert(CellCodes % 16 == 0, "quern::cuda: a fragment takes 16 codes of a cell");
  static constexpr int chunk = chunk_bytes(Width, CellCodes);
  static constexpr int words = Width >= 4 ? 2 : 1;  ///< chunks that a lane reads
  /// Number, within the cell, of chunk @p i that the lane of column @p c reads for codes 16 @p j ..
  QUERN_HD static constexpr int chunk_at(int j, int c, int i) {
    if (Width == 16) return 8 * j + 4 * i + c;
    if (Width == 8) return 4 * j + 2 * i + c / 2;
    if (Width == 4) return 2 * j + i;
    return j * 16 * Width / (8 * chunk);
  }
  /// The four codes, one per byte, from the chunks; bits of other codes are cleared.
  QUERN_HD static std::uint32_t codes(int j, int c, std::uint32_t first, std::uint32_t second) {
    const std::uint32_t pair = c % 2 == 0 ? 0x5410u : 0x7632u;  // bytes 2 (c % 2) and the next, of both words
    if (Width == 8) return pick_bytes(first, second, pair);
    if (Width == 4) return pick_bytes(first, second, pair) >> 4 * (c / 2) & 0x0f0f0f0fu;
    // Code 4 f + i is field f of column i: those of this lane are fields f and f + 2.
    if (chunk == 2) first = nibbles_to_bytes(first);
    const int f = c / 2 + (chunk == 4 && Width == 1 ? j % 2 * 4 : 0);
    constexpr std::uint32_t low = Width == 2 ? 0x03030303u : 0x01010101u;
    return pick_bytes(first >> f * Width, first >> (f + 2) * Width, pair) & low;
  }
};

/// The same for fragments of bytes: the lane of column c multiplies codes 4 c .. 4 c + 3 of 16 (fragment<8>::a).
/// They lie in one chunk.
template <int Width, int CellCodes>
struct byte_plane {
  static_assert(CellCodes % 16 == 0, "quern::cuda: a fragment takes 16 codes of a cell");
  static constexpr int chunk = chunk_bytes(Width, CellCodes), per_chunk = chunk * 8 / Width;
  QUERN_HD static constexpr int chunk_at(int j, int c) { return (16 * j + 4 * c) / per_chunk; }
  QUERN_HD static std::uint32_t codes(int j, int c, std::uint32_t word) {
    if (chunk == 2) word = nibbles_to_bytes(word);
    // Code 4 f + i is field f of byte i.
    return word >> (16 * j + 4 * c) % per_chunk / 4 * Width & 0x01010101u * ((1u << Width) - 1);
  }
};

/// code - zero of four codes as signed bytes. Codes have at most 7 bits, or 8 with a zero of 128.
template <int Bits>
QUERN_HD constexpr std::uint32_t signed_codes(std::uint32_t codes, std::uint32_t zero) {
  if (Bits == 8) return codes ^ 0x80808080u;
  // The top bit of every byte keeps the subtraction within the byte and turns into the sign.
  return ((codes | 0x80808080u) - zero * 0x01010101u) ^ 0x80808080u;
}

/// Turns four codes (one per byte) into two registers of pairs of T: code - zero, exactly.
///
/// A byte b behind the upper byte of 1024 (f16) or 128 (bf16) is the number 1024 + b, or 128 + b for b < 128, so
/// that one prmt makes two numbers of two codes and one fma takes 1024 + zero off both (Kim et al., "Who says
/// elephants can't run", arXiv 2211.10017, for bytes). Codes of 8 bits do not fit the 7 bits of bf16:
/// their top bit is added as 128.
template <class T, int Bits>
class decoded {
 public:
  /// @param zero  the code that stands for 0, at most 2^Bits - 1
  QUERN_HD explicit decoded(std::uint32_t zero) {
    if constexpr (wide)
      minus_ = pair_of<T>(-static_cast<float>(zero), -static_cast<float>(zero));
    else
      minus_ = ((std::same_as<T, f16> ? 0xe400u : 0xc300u) | zero) * 0x10001u;
  }
  QUERN_HD registers<2> operator()(std::uint32_t codes) const {
    constexpr std::uint32_t upper = std::same_as<T, f16> ? 0x64646464u : 0x43434343u;
    constexpr std::uint32_t one = std::same_as<T, f16> ? 0x3c003c00u : 0x3f803f80u;
    if constexpr (wide) {
      constexpr std::uint32_t minus_128 = 0xc300c300u;
      const std::uint32_t low = codes & 0x7f7f7f7fu, top = (codes >> 7 & 0x01010101u) * 0x43u;
      registers<2> out;
      for (int i = 0; i < 2; ++i) {
        const std::uint32_t seven =
            fma_pair<T>(pick_bytes(low, upper, i == 0 ? 0x4140u : 0x4342u), one, minus_128);
        const std::uint32_t eighth = pick_bytes(top, 0, i == 0 ? 0x1404u : 0x3424u);  // 0 or 128
        out.word[i] = fma_pair<T>(fma_pair<T>(seven, one, eighth), one, minus_);
      }
      return out;
    } else {
      return {{fma_pair<T>(pick_bytes(codes, upper, 0x4140u), one, minus_),
               fma_pair<T>(pick_bytes(codes, upper, 0x4342u), one, minus_)}};
    }
  }

 private:
  static constexpr bool wide = std::same_as<T, bf16> && Bits == 8;
  std::uint32_t minus_;
};

/// The positions of 16 kept codes of a row (8 windows of 2:4), as the packed layout has them in one chunk, in the
/// order of the metadata of mma.sp: nibble w = positions of window w, the first in the lower two bits.
QUERN_HD constexpr std::uint32_t window_nibbles(std::uint32_t positions) {
  // Code 4 f + i is field f of byte i: window 2 f has bytes 0 and 1, window 2 f + 1 bytes 2 and 3. Two bytes at a
  // time, fields of two bits are spread to nibbles.
  const auto spread = [](std::uint32_t v) {
    v = (v | v << 4) & 0x0f0f0f0fu;
    return (v | v << 2) & 0x33333333u;
  };
  const std::uint32_t n = spread(positions & 0x00ff00ffu) | spread(positions >> 8 & 0x00ff00ffu) << 2;
  // Lower half: windows 0, 2, 4, 6; upper half: windows 1, 3, 5, 7. Interleave their nibbles.
  return nibbles_to_bytes(n & 0xffffu) | nibbles_to_bytes(n >> 16) << 4;
}

/// Metadata of a lane for mma_sparse, from the window nibbles of its rows r and r + 8.
QUERN_HD constexpr std::uint32_t metadata_of_halves(int lane, std::uint32_t upper_row,
                                                    std::uint32_t lower_row) {
  const int shift = lane % 4 % 2 * 16;
  return (upper_row >> shift & 0xffffu) | (lower_row >> shift) << 16;
}

}  // namespace cuda
}  // namespace quern::inline v0
