// SPDX-License-Identifier: Apache-2.0
#pragma once
// Where a code lies. Codes of 16 rows stand side by side in 4-byte chunks, so that one 64-byte load holds 16
// rows:
//
//   4 bits:  chunk t of a row = 4 bytes = inputs 8t .. 8t+7     byte i: low nibble 8t+i, high nibble 8t+4+i
//   2 bits:  chunk t of a row = 4 bytes = inputs 16t .. 16t+15  byte i: bits 2s, 2s+1 hold input 16t+4s+i
//   1 bit:   chunk t of a row = 4 bytes = inputs 32t .. 32t+31  byte i: bit s holds input 32t+4s+i
//   cell of 16 rows:  [chunk 0: row 0 | row 1 | .. | row 15] [chunk 1: row 0 | ..] ..
//
// Shifting a register right by one field width then yields four consecutive inputs of every row. Codes of 3,
// 5, 6 and 7 bits are split into planes of 4, 2 and 1 bits, lowest bits first; each plane is a stream of its
// own.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <quern/core/config.hpp>

namespace quern::inline v0 {

/// Rows that stand side by side in every layout that interleaves: one 512-bit register of 32-bit lanes.
inline constexpr int lanes = 16;

/// A cell is a run of `width` codes of one row that is stored or absent as a whole. The cells of up to 16
/// rows that are stored side by side form a slot: `count` cells, numbered from `first` in the order of the
/// whole matrix.
struct cell {
  std::size_t first = 0;  ///< number of the slot's first cell
  int count = lanes;      ///< cells in the slot
  int rank = 0;           ///< this cell's place in the slot, 0..count-1
};

/// A field of a byte stream: `width` bits at bit `shift` of byte `byte`, little endian when wider than a
/// byte.
struct field {
  std::size_t byte;
  int shift;
};

inline namespace QUERN_BUILD {

/// Planes of a code of @p bits bits: 1 for 1, 2, 4, 8, 16, 32; 2 or 3 otherwise.
QUERN_HD constexpr int plane_count(int bits) {
  if (bits >= 8) return 1;
  return (bits >> 2 & 1) + (bits >> 1 & 1) + (bits & 1);
}
/// Width in bits of plane @p i; planes go from the widest (the lowest bits of the code) to the narrowest.
QUERN_HD constexpr int plane_width(int bits, int i) {
  if (bits >= 8) return bits;
  for (int w = 4; w > 0; w >>= 1)
    if ((bits & w) != 0 && i-- == 0) return w;
  return 0;
}
/// Position of plane @p i inside the code.
QUERN_HD constexpr int plane_shift(int bits, int i) {
  int s = 0;
  for (int j = 0; j < i; ++j) s += plane_width(bits, j);
  return s;
}

/// Bytes per chunk: 4, or less for cells that do not fill whole chunks of 4 bytes (16 codes of 1 bit).
QUERN_HD constexpr int chunk_bytes(int width, int cell_codes) {
  const int bytes = cell_codes * width / 8;
  return bytes % 4 == 0 ? 4 : bytes % 2 == 0 ? 2 : 1;
}

/// Where code @p k of a cell lies in a plane of @p width bits whose cells hold @p cell_codes codes. Cells
/// smaller than a byte (the single weights of `bitmap`) are a plain sequence of fields.
QUERN_HD constexpr field locate(int width, int cell_codes, cell c, int k) {
  if (cell_codes * width < 8) {
    const std::size_t bit =
        (c.first + static_cast<std::size_t>(c.rank)) * static_cast<std::size_t>(cell_codes * width) +
        static_cast<std::size_t>(k * width);
    return {bit / 8, static_cast<int>(bit % 8)};
  }
  const int chunk = chunk_bytes(width, cell_codes), chunk_codes = chunk * 8 / width;
  const int t = k / chunk_codes, rest = k % chunk_codes;
  // Up to 8 bits: four columns of chunk * 2 bits; code 4j + i is the j-th field of column i.
  const int bit = width <= 8 ? rest % 4 * chunk * 2 + rest / 4 * width : rest * width;
  return {c.first * static_cast<std::size_t>(cell_codes * width / 8) +
              static_cast<std::size_t>((t * c.count + c.rank) * chunk + bit / 8),
          bit % 8};
}

/// Field @p i of a plain sequence of fields of @p width bits (2, 4, 8 or 16): the parameters of runs.
QUERN_HD constexpr field sequential(int width, std::size_t i) {
  const std::size_t bit = i * static_cast<std::size_t>(width);
  return {bit / 8, static_cast<int>(bit % 8)};
}

/// Where parameter @p run of @p runs of a cell lies, in fields of @p width bits. The fields of a cell that fill
/// whole bytes stand together, in chunks side by side like codes; others follow run by run.
QUERN_HD constexpr field locate_param(int width, int runs, cell c, int run) {
  if (width == 0 || width >= 8 || runs * width % 8 != 0)
    return sequential(
        width, c.first * static_cast<std::size_t>(runs) + static_cast<std::size_t>(run * c.count + c.rank));
  const int chunk = chunk_bytes(width, runs), per_chunk = chunk * 8 / width;
  const int bit = run % per_chunk * width;
  return {c.first * static_cast<std::size_t>(runs * width / 8) +
              static_cast<std::size_t>((run / per_chunk * c.count + c.rank) * chunk + bit / 8),
          bit % 8};
}

/// Bytes of @p count sequential fields.
QUERN_HD constexpr std::size_t field_bytes(int width, std::size_t count) {
  return (count * static_cast<std::size_t>(width) + 7) / 8;
}

QUERN_HD constexpr std::uint32_t get_field(const std::byte* p, int width, field f) {
  std::uint32_t v = 0;
  for (int i = 0; i < (width < 8 ? 1 : width / 8); ++i)
    v |= static_cast<std::uint32_t>(p[f.byte + static_cast<std::size_t>(i)]) << 8 * i;
  return width < 8 ? v >> f.shift & ((1u << width) - 1) : v;
}
/// Writes into zeroed memory.
QUERN_HD constexpr void put_field(std::byte* p, int width, field f, std::uint32_t v) {
  for (int i = 0; i < (width < 8 ? 1 : width / 8); ++i)
    p[f.byte + static_cast<std::size_t>(i)] |=
        static_cast<std::byte>((width < 8 ? v << f.shift : v >> 8 * i) & 0xffu);
}

static_assert(std::endian::native == std::endian::little, "quern: the packed layout is little-endian");

/// Bit of code @p i of a chunk, counted from the chunk's lowest bit.
template <int Width, int CellCodes>
constexpr int bit_in_chunk(int i) {
  const field f = locate(Width, CellCodes, {0, 0, 0}, i);
  return static_cast<int>(f.byte) * 8 + f.shift;
}

/// One plane of a cell, chunk by chunk: Store writes codes into zeroed memory, else they are read and or-ed
/// into `codes`. `Shift` is the plane's position inside the code.
template <bool Store, int Width, int Shift, int CellCodes, class Byte, class Code>
inline void transfer_plane(Byte* plane, cell c, Code* codes) {
  constexpr std::uint32_t low = Width == 32 ? ~0u : (1u << Width % 32) - 1;
  if constexpr (CellCodes * Width < 8) {
    for (int k = 0; k < CellCodes; ++k) {
      const field f = locate(Width, CellCodes, c, k);
      if constexpr (Store)
        put_field(plane, Width, f, codes[k] >> Shift & low);
      else
        codes[k] |= get_field(plane, Width, f) << Shift;
    }
  } else {
    constexpr int bytes = chunk_bytes(Width, CellCodes), n = bytes * 8 / Width;
    plane +=
        c.first * static_cast<std::size_t>(CellCodes * Width / 8) + static_cast<std::size_t>(c.rank * bytes);
    for (int t = 0; t < CellCodes / n; ++t, plane += c.count * bytes) {
      std::uint32_t v = 0;
      if constexpr (!Store) std::memcpy(&v, plane, bytes);
#pragma GCC unroll 32
      for (int i = 0; i < n; ++i) {
        constexpr auto position = [](int j) { return bit_in_chunk<Width, CellCodes>(j); };
        if constexpr (Store)
          v |= (codes[t * n + i] >> Shift & low) << position(i);
        else
          codes[t * n + i] |= (v >> position(i) & low) << Shift;
      }
      if constexpr (Store) {
        std::memcpy(plane, &v, bytes);
#if defined(__GNUC__)
        // Stores 64 bytes apart must not become scatter instructions: 4 times slower for 32-bit codes
        // (-O3 -march=native, Zen 4, 22 November 2026).
        __asm__ volatile("" : "+r"(plane));
#endif
      }
    }
  }
}

/// Writes the codes [CellCodes] of a cell into zeroed planes.
template <int Bits, int CellCodes>
inline void store_cell(std::byte* const (&plane)[3], cell c, const std::uint32_t* codes) {
  transfer_plane<true, plane_width(Bits, 0), 0, CellCodes>(plane[0], c, codes);
  if constexpr (plane_count(Bits) > 1)
    transfer_plane<true, plane_width(Bits, 1), plane_shift(Bits, 1), CellCodes>(plane[1], c, codes);
  if constexpr (plane_count(Bits) > 2)
    transfer_plane<true, plane_width(Bits, 2), plane_shift(Bits, 2), CellCodes>(plane[2], c, codes);
}

/// Reads the codes [CellCodes] of a cell.
template <int Bits, int CellCodes>
inline void load_cell(const std::byte* const (&plane)[3], cell c, std::uint32_t* codes) {
  for (int k = 0; k < CellCodes; ++k) codes[k] = 0;
  transfer_plane<false, plane_width(Bits, 0), 0, CellCodes>(plane[0], c, codes);
  if constexpr (plane_count(Bits) > 1)
    transfer_plane<false, plane_width(Bits, 1), plane_shift(Bits, 1), CellCodes>(plane[1], c, codes);
  if constexpr (plane_count(Bits) > 2)
    transfer_plane<false, plane_width(Bits, 2), plane_shift(Bits, 2), CellCodes>(plane[2], c, codes);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
