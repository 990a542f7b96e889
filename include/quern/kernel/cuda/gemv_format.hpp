// SPDX-License-Identifier: Apache-2.0
#pragma once
// static_assert(quern::cuda::gemv_format<quern::matrix_view<P, Q>>::supported);

#include <quern/kernel/cuda/staged_stream.hpp>

namespace quern::inline v0 {
namespace cuda {

/// How the GEMV kernel walks a packed matrix: what a warp stages at once, and where it lies in its buffer.
/// @tparam W  matrix_view<P, Q>
template <class W>
struct gemv_format {
  using pattern = typename W::pattern;
  using quantizer = typename W::quantizer;
  using l = layout<pattern, quantizer>;
  static constexpr survivors kind = pattern::kind;
  /// Slots of fewer than 16 cells, whose cells start anywhere.
  static constexpr bool compact = kind == survivors::masked && !l::uniform;
  static constexpr bool has_offset = [] {
    if constexpr (requires { quantizer::has_offset; })
      return quantizer::has_offset;
    else
      return false;
  }();

  /// Why the kernel cannot multiply this format; nullptr when it can.
  static constexpr const char* why_not() {
    if (kind == survivors::positions || (kind == survivors::masked && pattern::unit_cols == 1))
      return "quern::cuda: the GEMV kernel takes dense, group, group_nm and bsr; nm has the tensor core "
             "kernel";
    if (!requires { quantizer::top; })
      return "quern::cuda: the GEMV kernel takes affine and symmetric codes of 2 to 8 bits";
    return nullptr;
  }
  static constexpr bool supported = why_not() == nullptr;

  /// Tiles of a block of rows: their slots take turns.
  static constexpr int parts = pattern::unit_rows > lanes ? pattern::unit_rows / lanes : 1;
  static constexpr int octets = l::cell_codes / 8;  ///< a lane multiplies 8 codes of a cell at a time
  static constexpr int slot_bytes = lanes * l::cell_codes * quantizer::bits / 8;
  /// Slots that are staged at once: about 1 KB, so that 32 warps have what a multiprocessor must have on its way
  /// (3.35 TB/s * 700 ns / 132 = 18 KB on an H100) and a block of 16 warps leaves room for a second one.
  static constexpr int slots = slot_bytes > 512 ? 1 : 1024 / slot_bytes > 8 ? 8 : 1024 / slot_bytes;
  /// Stretches of the streams that hold them.
  static constexpr int regions = parts > 1 ? slots : 1;
  static constexpr int items = lanes * slots / regions;

  template <int Plane>
  static constexpr int plane_bits = Plane < plane_count(quantizer::bits)
                                        ? l::cell_codes* plane_width(quantizer::bits, Plane)
                                        : 0;
  using codes0 = staged_stream<plane_bits<0>, items>;
  using codes1 = staged_stream<plane_bits<1>, items>;
  using codes2 = staged_stream<plane_bits<2>, items>;
  using scales = staged_stream<quantizer::scale_bits * l::runs_per_cell, items>;
  using zeros = staged_stream<quantizer::zero_bits * l::runs_per_cell, items>;
  static constexpr unsigned at_codes1 = codes0::bytes;
  static constexpr unsigned at_codes2 = at_codes1 + codes1::bytes;
  static constexpr unsigned at_scales = at_codes2 + codes2::bytes;
  static constexpr unsigned at_zeros = at_scales + scales::bytes;
  static constexpr unsigned region_bytes = at_zeros + zeros::bytes;
  static constexpr unsigned stage_bytes = region_bytes * regions;

  /// Inputs in shared memory: completed to whole cells.
  QUERN_HD static constexpr std::size_t padded_cols(std::size_t cols) {
    return l::cells_per_row(cols) * static_cast<std::size_t>(l::cell_cols);
  }
};

}  // namespace cuda
}  // namespace quern::inline v0
