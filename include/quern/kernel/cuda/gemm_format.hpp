// SPDX-License-Identifier: Apache-2.0
#pragma once
// static_assert(quern::cuda::gemm_format<quern::matrix_view<P, Q>, quern::f16>::supported);

#include <concepts>
#include <quern/kernel/cuda/staged_stream.hpp>
#include <quern/quant/real.hpp>

namespace quern::inline v0 {
namespace cuda {

/// How the tensor core kernel walks a packed matrix.
///
/// A fragment takes 16 stored codes of each of 16 rows (32 of bytes). Weights are staged by windows: one or more whole units of a
/// tile, whose stored cells lie side by side in every stream. The inputs are staged by steps; a window has one or
/// more. Rows of `masked` patterns have survivors of their own, the tensor core wants columns that all rows share:
/// what is stored is read once, pruned units of a row become zeros in registers, and only units that no row of
/// the tile has are skipped (load as sparse, compute as dense: Flash-LLM, SpInfer).
/// @tparam W  matrix_view<P, Q>
/// @tparam T  type of the inputs: f16, bf16 or int8_t (with a scale for every `k` inputs of a token)
template <class W, class T>
struct gemm_format {
  using pattern = typename W::pattern;
  using quantizer = typename W::quantizer;
  using l = layout<pattern, quantizer>;
  static constexpr survivors kind = pattern::kind;
  static constexpr bool sparse = kind == survivors::positions;  ///< 2:4, multiplied with mma.sp
  static constexpr bool plain = quantizer::run == 0;            ///< elements instead of codes
  static constexpr bool bytes = std::same_as<T, std::int8_t>;
  static constexpr int k = bytes ? (sparse ? 64 : 32) : sparse ? 32 : 16;  ///< inputs of a fragment
  static constexpr bool compact = kind == survivors::masked && !l::uniform;

 private:
  static constexpr bool is_linear() {
    if constexpr (requires { quantizer::has_offset; })
      return !quantizer::has_offset;
    else
      return requires { quantizer::top; };
  }
  static constexpr const char* check() {
    if (!std::same_as<T, f16> && !std::same_as<T, bf16> && !bytes)
      return "quern::cuda: inputs must be f16, bf16 or int8_t";
    if (plain ? !std::same_as<quantizer, real<T>> : !is_linear())
      return "quern::cuda: the GEMM kernel takes affine and symmetric codes, and real<T> of the inputs' type";
    if (sparse && (pattern::keep != 2 || pattern::of != 4)) return "quern::cuda: tensor cores know 2:4 only";
    if (sparse && !plain && quantizer::run != 32 && quantizer::run % 64 != 0)
      return "quern::cuda: the GEMM kernel for 2:4 needs runs of 32 inputs or a multiple of 64";
    if (!sparse && !plain && quantizer::run % 16 != 0)
      return "quern::cuda: the GEMM kernel needs runs of a multiple of 16 inputs";
    if (!sparse && l::cell_codes % 16 != 0)
      return "quern::cuda: the GEMM kernel needs units of a multiple of 16 inputs";
    if (bytes && !plain && (quantizer::run % k != 0 || (!sparse && l::cell_codes % 32 != 0)))
      return "quern::cuda: with int8 inputs the GEMM kernel needs units and runs of a multiple of 32 inputs "
             "(2:4: 64)";
    if (bytes && quantizer::bits == 8 && quantizer::zero_bits > 0)
      return "quern::cuda: code - zero of 8-bit affine codes is no byte; use symmetric<8, Run> or f16 inputs";
    return nullptr;
  }

 public:
  /// Why the kernel cannot multiply this format; nullptr when it can.
  static constexpr const char* why_not() { return check(); }
  static constexpr bool supported = check() == nullptr;

  static constexpr int unit = l::cell_cols;  ///< inputs of a cell
  static constexpr int parts = pattern::unit_rows > lanes ? pattern::unit_rows / lanes : 1;
  /// Units of a window. Blocks of more than 16 rows interleave the slots of their tiles: one at a time, so that no
  /// warp reads what another needs.
  static constexpr int units = kind == survivors::masked ? l::window_units
                               : parts > 1 || unit >= 64 ? 1
                                                         : (64 + unit - 1) / unit;
  static constexpr int window = units * unit;  ///< inputs
  /// Inputs that are staged at once.
  static constexpr int step = [] {
    if (window <= 128) return window;
    int s = 64;
    while (window % s != 0) s -= k;
    return s;
  }();
  static constexpr int steps_per_window = window / (step > 0 ? step : 1);
  static constexpr int runs =
      !l::params_in_cells && !plain && window > quantizer::run ? window / quantizer::run : 1;

  static constexpr int cells = lanes * units;  ///< most cells of a window
  template <int Plane>
  static constexpr int plane_bits = Plane < plane_count(quantizer::bits)
                                        ? l::cell_codes* plane_width(quantizer::bits, Plane)
                                        : 0;
  /// The parameters follow the cells, or (2:4) are one for every run of every row.
  static constexpr int param_items = l::params_in_cells ? cells : lanes * runs;
  using codes0 = staged_stream<plane_bits<0>, cells>;
  using codes1 = staged_stream<plane_bits<1>, cells>;
  using codes2 = staged_stream<plane_bits<2>, cells>;
  using scales = staged_stream<quantizer::scale_bits * l::runs_per_cell, param_items>;
  using zeros = staged_stream<quantizer::zero_bits * l::runs_per_cell, param_items>;
  using places = staged_stream<sparse ? 32 : 0, cells>;  ///< positions of 16 kept codes

  /// What the staging warp tells itself about a window.
  struct header {
    std::uint32_t first = 0;  ///< number of the first cell (its lower 32 bits)
    std::uint32_t field = 0;  ///< number of the first parameter
    std::uint32_t units = 0;  ///< bit u: unit u of the window survives in some row
    std::uint32_t unused = 0;
    std::uint16_t mask[lanes] = {};  ///< masked: units that survive in each row
    /// compact: of slot s, its first cell relative to `first`, and bit r: row r has a cell in it
    struct slot {
      std::uint16_t base, rows;
    } slots[lanes] = {};
  };
  static constexpr unsigned at_codes0 = sizeof(header);
  static constexpr unsigned at_codes1 = at_codes0 + codes0::bytes;
  static constexpr unsigned at_codes2 = at_codes1 + codes1::bytes;
  static constexpr unsigned at_scales = at_codes2 + codes2::bytes;
  static constexpr unsigned at_zeros = at_scales + scales::bytes;
  static constexpr unsigned at_places = at_zeros + zeros::bytes;
  static constexpr unsigned window_bytes = at_places + places::bytes;
};

}  // namespace cuda
}  // namespace quern::inline v0
