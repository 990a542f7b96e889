// SPDX-License-Identifier: Apache-2.0
#pragma once
// using l = quern::layout<quern::bsr<16, 32>, quern::affine<4, 32>>;
// constexpr quern::storage s = l::bytes(4096, 4096, 4096 * 4096 / 2 / l::cell_codes);
// double b = s.bits_per_weight(4096, 4096);   // equals the bytes stored, in memory and in a file

#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/pattern/concept.hpp>
#include <quern/quant/bits.hpp>
#include <quern/quant/concept.hpp>

namespace quern::inline v0 {

/// The arrays of a packed matrix, in the order in which they are stored. An array a format does not need is
/// empty.
enum class stream {
  begin,      ///< u32 [block rows + 1 or tiles + 1] survivors before each
  index,      ///< u8, u16 or u32 block columns; u16 masks; or positions of N:M
  row_scale,  ///< fp16 [rows, padded to 16] of a two-level scale
  scale,      ///< scale of each run
  zero,       ///< zero code or offset of each run
  codes,      ///< plane 0 of the codes: the lowest bits
  codes1,     ///< plane 1
  codes2,     ///< plane 2: the highest bits
};
inline constexpr int stream_count = 8;
/// Name of a stream as it appears in files.
constexpr const char* stream_name(stream s) {
  constexpr const char* names[stream_count] = {"begin", "index", "row_scale", "scale",
                                               "zero",  "codes", "codes1",    "codes2"};
  return names[static_cast<int>(s)];
}

/// Bytes of every stream. Each is a multiple of 64, so that all of them start at 64-byte boundaries.
struct storage {
  std::size_t bytes[stream_count] = {};
  constexpr std::size_t operator[](stream s) const { return bytes[static_cast<int>(s)]; }
  [[gnu::always_inline]] constexpr std::size_t total() const {
    std::size_t t = 0;
    for (const std::size_t b : bytes) t += b;
    return t;
  }
  /// Stored bits per weight of W [rows x cols]: padding, indices, scales and zeros included.
  [[gnu::always_inline]] constexpr double bits_per_weight(std::size_t rows, std::size_t cols) const {
    if (rows == 0 || cols == 0) return 0;
    return 8.0 * static_cast<double>(total()) / (static_cast<double>(rows) * static_cast<double>(cols));
  }
};

inline namespace QUERN_BUILD {

/// How a pattern and a quantizer are laid out together: the geometry of cells, and which streams there are.
///
/// W is cut into tiles of 16 rows (the last one completed with zero rows). A cell is the smallest run of
/// codes of one row that is stored as a whole; the cells of a tile that are stored side by side form a slot
/// (see quant/bits.hpp).
///   all        slot u of a tile = inputs [u * cell_cols, ..) of 16 rows
///   listed     slot = the 16 rows of a tile in one surviving block; blocks of R rows hold R / 16 tiles one
///              by one
///   masked     slot s of a window = the s-th surviving unit of every row that has as many; rows that have
///              run out are left out, so a slot holds 1..16 cells. With `group_nm` every slot is full.
///   positions  slot = kept codes of 16 rows, completed to exactly N of M with zeros; their positions lie in
///              `index` in the same arrangement
/// Scales and zeros follow the cells (first run of every cell of the slot, then the second, ..) where a run
/// lies within a cell, so that a pruned unit drops them too; else they are kept for every run of every row:
/// [tile][run][16 rows].
template <sparsity_pattern P, quantizer Q>
struct layout {
  static_assert(!P::label().cut && !Q::label().cut,
                "quern::matrix: the name of a pattern or quantizer has more than 63 characters; files would "
                "not tell it from others, choose a shorter one (`text` of a codebook's table)");
  static constexpr int gcd16(int n) {
    return n % 16 == 0 ? 16 : n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : n % 2 == 0 ? 2 : 1;
  }
  /// N:M windows in a cell: as many as make the kept codes a multiple of 16.
  static constexpr int windows = P::kind == survivors::positions ? 16 / gcd16(P::keep) : 1;
  /// Codes in a cell. Without a pattern it is as many runs as make 64, so that the narrow parameters of a row
  /// stand together in whole bytes.
  static constexpr int cell_codes = P::kind == survivors::all         ? (Q::run == 0        ? 16
                                                                         : 64 % Q::run == 0 ? 64
                                                                                            : Q::run)
                                    : P::kind == survivors::positions ? P::keep * windows
                                                                      : P::unit_cols;
  /// Inputs that a cell spans.
  static constexpr int cell_cols = P::kind == survivors::positions ? P::of * windows : cell_codes;
  /// Bits of a position of N:M.
  static constexpr int position_bits = P::of <= 2 ? 1 : P::of <= 4 ? 2 : P::of <= 8 ? 3 : 4;
  /// Scales and zeros follow the cells.
  static constexpr bool params_in_cells = Q::run > 0 &&
                                          (P::kind == survivors::all || P::kind == survivors::listed ||
                                           (P::kind == survivors::masked && P::unit_cols > 1));
  static constexpr int runs_per_cell = params_in_cells && Q::run <= cell_cols ? cell_cols / Q::run : 1;
  /// Units per 16-bit mask (masked): a whole number of N:M windows.
  static constexpr int window_units = P::of > 0 ? 16 / P::of* P::of : 16;
  /// Every row of a tile has equally many survivors in every window.
  static constexpr bool uniform = P::kind == survivors::masked && P::of > 0;
  /// Masks or lists per tile.
  static constexpr int blocks_per_tile = P::unit_rows < lanes ? lanes / P::unit_rows : 1;

  /// Why the pair has no layout; nullptr when it has one.
  static constexpr const char* why_not() {
    if constexpr (params_in_cells) {
      if (Q::run > cell_cols || cell_cols % Q::run != 0)
        return "quern::matrix: the quantizer's run must divide the pattern's width, so that a pruned unit "
               "drops its scales too; choose a run that does";
    }
    if (P::kind == survivors::positions && Q::run > 0 && Q::run % (P::of > 0 ? P::of : 1) != 0)
      return "quern::matrix: the quantizer's run must be a multiple of M, so that no N:M window is split";
    return nullptr;
  }
  static constexpr bool supported = why_not() == nullptr;

  static constexpr std::size_t tiles(std::size_t rows) { return (rows + lanes - 1) / lanes; }
  /// Cells a row would have if nothing were pruned.
  static constexpr std::size_t cells_per_row(std::size_t cols) {
    return (cols + cell_cols - 1) / static_cast<std::size_t>(cell_cols);
  }
  static constexpr std::size_t runs(std::size_t cols) {
    if constexpr (Q::run > 0)
      return (cols + Q::run - 1) / Q::run;
    else
      return 0;
  }
  static constexpr std::size_t mask_windows(std::size_t cols) {
    return (cells_per_row(cols) + window_units - 1) / window_units;
  }
  /// Cells that survive in every row of a uniform pattern.
  static constexpr std::size_t uniform_cells(std::size_t cols) {
    if constexpr (P::of > 0) {
      const std::size_t units = cells_per_row(cols), rest = units % P::of;
      return units / P::of * P::keep + (rest < P::keep ? rest : P::keep);
    } else {
      return 0;
    }
  }
  /// Bytes of a block column index: as small as the shape allows.
  static constexpr int index_bytes(std::size_t cols) {
    const std::size_t n = cells_per_row(cols);
    return n <= 256 ? 1 : n <= 65536 ? 2 : 4;
  }
  /// Rows that are stored: completed to whole tiles and whole blocks.
  static constexpr std::size_t padded_rows(std::size_t rows) {
    constexpr std::size_t band = P::unit_rows > lanes ? P::unit_rows : lanes;
    return (rows + band - 1) / band * band;
  }
  /// Stored cells where the shape decides their number; @p survivors elsewhere.
  static constexpr std::size_t cells(std::size_t rows, std::size_t cols, std::size_t survivors_in_data) {
    if constexpr (uniform)
      return padded_rows(rows) * uniform_cells(cols);
    else if constexpr (P::kind == survivors::all || P::kind == survivors::positions)
      return padded_rows(rows) * cells_per_row(cols);
    else
      return survivors_in_data;
  }

  /// Bytes of every stream of W [rows x cols] with @p cell_count stored cells (`cells()`; blocks count
  /// unit_rows cells each). This is the one function for size: packing, files, reports and search budgets all
  /// call it.
  static constexpr storage bytes(std::size_t rows, std::size_t cols, std::size_t cell_count) {
    storage s;
    const auto set = [&](stream k, std::size_t n, bool compact = false) {
      // Slots of fewer than 16 cells start anywhere; 64 more bytes let a kernel load a whole register there.
      s.bytes[static_cast<int>(k)] = n == 0 ? 0 : (n + 63) / 64 * 64 + (compact ? 64 : 0);
    };
    constexpr bool compact = P::kind == survivors::masked && !uniform;
    const std::size_t tile_count = padded_rows(rows) / lanes;
    if constexpr (P::kind == survivors::listed) {
      set(stream::begin, (padded_rows(rows) / P::unit_rows + 1) * 4);
      set(stream::index, cell_count / P::unit_rows * static_cast<std::size_t>(index_bytes(cols)));
    } else if constexpr (P::kind == survivors::masked) {
      if (!uniform) set(stream::begin, (tile_count + 1) * 4);
      set(stream::index, tile_count * mask_windows(cols) * blocks_per_tile * 2);
    } else if constexpr (P::kind == survivors::positions) {
      set(stream::index, cell_count * cell_codes * position_bits / 8);
    }
    if (Q::row_scaled) set(stream::row_scale, tile_count * lanes * 2);
    const std::size_t fields = params_in_cells ? cell_count * runs_per_cell : tile_count * lanes * runs(cols);
    constexpr bool compact_params = compact && params_in_cells;
    set(stream::scale, field_bytes(Q::scale_bits, fields), compact_params);
    set(stream::zero, field_bytes(Q::zero_bits, fields), compact_params);
    for (int i = 0; i < plane_count(Q::bits); ++i)
      set(static_cast<stream>(static_cast<int>(stream::codes) + i),
          field_bytes(plane_width(Q::bits, i), cell_count * cell_codes), compact);
    return s;
  }
};

/// Whether matrix<P, Q> exists; ask before compressing.
template <sparsity_pattern P, quantizer Q>
constexpr bool is_supported() {
  return layout<P, Q>::supported;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
