// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto f = llama::find_facts("group<16>", "affine<4,16>").value();   // an error that says what is wrong with
// a name std::size_t cells = f.cells_at(4096, 4096, 0.5); double b = f.bytes(4096, 4096,
// cells).bits_per_weight(4096, 4096);

#include <cstddef>
#include <quern/core/error.hpp>
#include <quern/format/layout.hpp>
#include <string>
#include <vector>

namespace llama {

/// Whether one instruction set multiplies a format.
struct isa_facts {
  std::string name;
  bool supported;  ///< the kernel is written for the format
  bool available;  ///< this CPU has the instructions
};

/// What quern::layout and the kernels say of one pair of a pattern and a quantizer, without its types. The
/// catalogue is wider than llama::all_formats(): facts cost no kernels.
struct format_facts {
  std::string pattern, quantizer;
  const char* why_not = nullptr;  ///< why the pair cannot exist; nullptr where it can
  int unit_rows = 1, unit_cols = 1, keep = 0, of = 0;
  quern::survivors kind = quern::survivors::all;
  int bits = 0, run = 0, scale_bits = 0, zero_bits = 0, position_bits = 0;
  bool row_scaled = false, params_in_cells = false;
  std::vector<isa_facts> isas;  ///< in the order in which they are tried
  std::size_t (*cells)(std::size_t rows, std::size_t cols, std::size_t survivors) = nullptr;
  std::size_t (*cells_per_row)(std::size_t cols) = nullptr;
  int (*index_bytes)(std::size_t cols) = nullptr;
  quern::storage (*bytes)(std::size_t rows, std::size_t cols, std::size_t cells) = nullptr;

  /// Whether the density is a property of the data, not of the pattern.
  bool free_density() const { return kind != quern::survivors::all && of == 0; }
  /// Stored cells where @p density of the units of every row survive; patterns that fix it do not look.
  std::size_t cells_at(std::size_t rows, std::size_t cols, double density) const;
  /// Weights of W [rows x cols] that survive at most, completed rows and columns not counted.
  double kept(std::size_t rows, std::size_t cols, double density) const;
  /// Bytes a stream would have if rows and columns needed no completion and no alignment: the rest is
  /// padding.
  double payload(quern::stream s, std::size_t rows, std::size_t cols, double density) const;
};

/// The facts of a pair by its names. @returns an error for a name that is no type of the library (and why),
/// or one that this program does not know; pairs that cannot exist are found, with `why_not`
quern::result<format_facts> find_facts(const std::string& pattern, const std::string& quantizer);

/// The compiled formats that come closest, nearest first: same pattern and quantizer before same families,
/// then bits. @returns at most @p count names "pattern quantizer"
std::vector<std::string> closest_formats(const std::string& pattern, const std::string& quantizer,
                                         std::size_t count);

}  // namespace llama
