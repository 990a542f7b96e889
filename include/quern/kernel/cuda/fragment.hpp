// SPDX-License-Identifier: Apache-2.0
#pragma once
// constexpr quern::cuda::place p = quern::cuda::fragment<16>::a(lane, i);   // row and column of A that element i
//                                                                           // of a lane's registers holds

#include <cstdint>

namespace quern::inline v0 {
namespace cuda {

/// Row and column of an element of a matrix.
struct place {
  int row = -1, col = -1;
  friend constexpr bool operator==(place, place) = default;
};

/// Which elements of A [16 x K], B [K x 8] and C [16 x 8] the registers of a warp hold in mma.sync and mma.sp of
/// shape m16n8 (PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type", ".. mma.m16n8k32" for
/// bytes, and those of mma.sp). Elements are counted through the registers of a lane, lowest bits first.
///
/// All of these shapes are one rule: a register holds 32 / Bits neighbours of a row, four lanes side by side make
/// a stretch of 128 / Bits columns, and the registers of A alternate between the upper and the lower eight rows.
/// In mma.sp, A is the compressed matrix of kept elements, [16 x K / 2].
/// @tparam Bits  width of an element of A and B: 16 (f16, bf16; K = 16, sparse 32) or 8 (s8; K = 32, sparse 64)
template <int Bits>
struct fragment {
  static_assert(Bits == 16 || Bits == 8, "quern::cuda::fragment: Bits must be 16 or 8");
  static constexpr int per_register = 32 / Bits;    ///< elements
  static constexpr int stretch = 4 * per_register;  ///< columns that four lanes hold in one register each
  static constexpr int k = 2 * stretch;             ///< columns of A
  static constexpr int a_count = 4 * per_register;  ///< elements of A in a lane
  static constexpr int c_count = 4;
  static constexpr int b_count(bool sparse) { return (sparse ? 4 : 2) * per_register; }

  static constexpr place a(int lane, int i) {
    const int r = i / per_register;
    return {lane / 4 + r % 2 * 8, r / 2 * stretch + lane % 4 * per_register + i % per_register};
  }
  static constexpr place b(int lane, int i) {
    return {i / per_register * stretch + lane % 4 * per_register + i % per_register, lane / 4};
  }
  static constexpr place c(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

  /// Row and window of four columns whose two kept positions are nibble @p n of the metadata of a lane: lower two
  /// bits the first position, upper two the second, which must be larger (ordered_metadata). The sparsity selector
  /// is 0: of 16-bit elements lanes 0 and 1 of every four give the metadata, the others' is ignored ({-1, -1});
  /// of bytes all four do.
  static constexpr place metadata(int lane, int n) {
    const int g = lane / 4, t = lane % 4;
    if (Bits == 16) return t < 2 ? place{g + n / 4 * 8, t * 4 + n % 4} : place{};
    return {g + t % 2 * 8, t / 2 * 8 + n};
  }
};

/// The 16-bit elements of an 8 x 8 matrix that a lane gets from ldmatrix: i = 0, 1 are the lower and upper half of
/// its register. Row r of matrix m is the 16 bytes that lane 8 m + r points at.
struct loaded_matrix {
  static constexpr place at(int lane, int i) { return {lane / 4, lane % 4 * 2 + i}; }
};

/// Rows of a tile of 16 that rows r and r + 8 of a fragment stand for. The packed layout keeps the rows of a tile
/// side by side in 4-byte chunks: with neighbours in one lane, a lane reads 8 bytes at once. Rows of A may be
/// permuted freely as long as the rows of C are permuted alike.
constexpr int tile_row(int fragment_row) { return fragment_row % 8 * 2 + fragment_row / 8; }

namespace fragment_check {
/// Whether @p count elements of 32 lanes cover [rows x cols] exactly once.
template <int Rows, int Cols, class F>
constexpr bool covers(int count, F f) {
  bool seen[Rows][Cols] = {};
  int n = 0;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < count; ++i) {
      const place p = f(lane, i);
      if (p == place{}) continue;
      if (p.row < 0 || p.row >= Rows || p.col < 0 || p.col >= Cols || seen[p.row][p.col]) return false;
      seen[p.row][p.col] = true;
      ++n;
    }
  return n == Rows * Cols;
}
using half = fragment<16>;
using byte = fragment<8>;
static_assert(covers<16, 16>(half::a_count, half::a) && covers<16, 32>(byte::a_count, byte::a));
static_assert(covers<16, 8>(half::b_count(false), half::b) && covers<32, 8>(half::b_count(true), half::b));
static_assert(covers<32, 8>(byte::b_count(false), byte::b) && covers<64, 8>(byte::b_count(true), byte::b));
static_assert(covers<16, 8>(half::c_count, half::c));
static_assert(covers<16, 8>(8, half::metadata) && covers<16, 16>(8, byte::metadata));
static_assert(covers<8, 8>(2, loaded_matrix::at));
// ldmatrix of eight rows of eight 16-bit inputs each gives the lanes register j of B for inputs 8 j .. 8 j + 7.
static_assert([] {
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < half::b_count(true); ++i) {
      const place b = half::b(lane, i), m = loaded_matrix::at(lane, i % 2);
      if (b.row != i / 2 * 8 + m.col || b.col != m.row) return false;
    }
  return true;
}());
static_assert([] {
  bool seen[16] = {};
  for (int r = 0; r < 16; ++r) seen[tile_row(r)] = true;
  for (const bool s : seen)
    if (!s) return false;
  return tile_row(0) + 1 == tile_row(8) && tile_row(7) + 1 == tile_row(15);
}());
}  // namespace fragment_check

}  // namespace cuda
}  // namespace quern::inline v0
