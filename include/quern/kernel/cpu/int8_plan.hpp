// SPDX-License-Identifier: Apache-2.0
#pragma once
// static_assert(quern::int8_plan<P, Q, 32>::fits);   // there is an int8 kernel for this format

#include <quern/format/layout.hpp>
#include <quern/kernel/cpu/activations.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// How a format and activations with one scale per Group inputs (0: per token) are cut into sums of integers.
template <class P, class Q, int Group>
struct int8_plan {
  using l = layout<P, Q>;
  static constexpr bool linear = Q::run > 0 && Q::bits <= 8 && !requires { Q::table::values; };
  static constexpr int group = Group == 0 ? 1 << 20 : Group;
  static constexpr int least(int a, int b) { return a < b ? a : b; }
  static constexpr int run = linear ? Q::run : l::cell_cols;  // never 0, which would be divided by
  /// Inputs of a segment: one run of weights, one group of inputs, one cell.
  static constexpr int segment = least(least(run, group), l::cell_cols);
  /// Codes of a segment.
  static constexpr int segment_codes =
      P::kind == survivors::positions ? segment * P::keep / (P::of > 0 ? P::of : 1) : segment;
  /// Two-level scales are whole numbers: runs are added up as integers while the inputs keep their scale.
  static constexpr bool merged = Q::row_scaled && Q::run == segment;
  static constexpr int span = merged ? least(group, l::cell_cols) : segment;
  /// Level of the sums of inputs that a segment needs.
  static constexpr int level = segment == 16 ? 0 : segment == 32 ? 1 : segment == 64 ? 2 : 3;
  /// |code - zero| * |input| summed over a segment fits 16 bits.
  static constexpr bool short_sums = ((1 << Q::bits) - 1) * 127 * segment_codes < 1 << 15;
  // Batches: weights are decoded to signed bytes, the product of code - zero and a two-level multiplier where
  // that fits, and multiplied with many tokens.
  static constexpr int largest_step = requires { Q::zero; }
  ? 1 << (Q::bits - 1) : (1 << Q::bits) - 1;
  static constexpr bool premultiplied = merged && Q::zero_bits < 16 && largest_step * 15 <= 127;
  /// Inputs whose columns follow each other in a decoded panel.
  static constexpr int batch_segment = !premultiplied                 ? segment
                                       : P::kind == survivors::listed ? least(group, l::cell_cols)
                                                                      : least(group, 128);
  static constexpr int batch_level = batch_segment == 16   ? 0
                                     : batch_segment == 32 ? 1
                                     : batch_segment == 64 ? 2
                                                           : 3;
  /// What is left of a weight after its byte: an offset of its own.
  static constexpr bool batch_offset = Q::zero_bits == 16 || (Q::bits == 8 && Q::zero_bits > 0);
  /// An offset would reach the inputs between the codes of N:M, and sums of inputs are kept for 16 at least: such
  /// formats multiply batches as vectors.
  static constexpr bool batches = (P::kind != survivors::positions || !batch_offset) && batch_segment >= 16;

  /// Four codes of N:M lie within 16 inputs.
  static constexpr bool near() {
    if constexpr (P::kind == survivors::positions)
      for (int k = 0; k < l::cell_codes; k += 4)
        if (((k + 3) / P::keep - k / P::keep + 1) * P::of > 16) return false;
    return true;
  }
  static constexpr bool fits = [] {
    if (!linear) return false;
    if (P::kind != survivors::masked && 128 % l::cell_cols != 0) return false;  // prepared inputs end at 128
    if (P::kind == survivors::masked &&
        (l::window_units != 16 || (P::unit_cols != 16 && P::unit_cols != 32 && P::unit_cols != 64)))
      return false;
    if (P::kind == survivors::positions)
      return near() && segment_codes % 4 == 0 && l::cell_cols % segment == 0 &&
             (run % l::cell_cols == 0 || l::cell_cols % run == 0);
    const bool whole = segment == 16 || segment == 32 || segment == 64 || segment == 128;
    return whole && l::cell_cols % span == 0 && run % segment == 0 && group % segment == 0 &&
           (group % l::cell_cols == 0 || l::cell_cols % group == 0);
  }();
};

/// The tables of units that int8 vectors must hold to be multiplied with weights of patterns P ...: what prepare() and
/// activations::assign() take. 0 where rows share their columns, and for N:M.
template <class... P>
inline constexpr unit_tables tables_of = [] {
  unit_tables all = 0, one = 1;
  for ([[maybe_unused]] const int unit : activation_layout::units) {  // P may be empty
    if (((P::kind == survivors::masked && P::unit_cols == unit) || ...)) all |= one;
    one <<= 1;
  }
  return all;
}();

/// Whether int8 activations A can be multiplied as integers with P x Q; other formats take the floats that the
/// activations were made from.
template <class P, class Q, class A>
constexpr bool has_int8_kernel() {
  if constexpr (is_int8<A>)
    return int8_plan<P, Q, A::group>::fits;
  else
    return false;
}

/// Rows that share their columns in groups of 16, and whole-number codes in runs of 16 to 128 columns.
template <class P, class Q>
constexpr bool has_shared_runs() {
  return (P::kind == survivors::all || P::kind == survivors::listed) && !requires { Q::table::values; }
  &&(Q::run == 16 || Q::run == 32 || Q::run == 64 || Q::run == 128) && 128 % layout<P, Q>::cell_cols == 0;
}

/// Whether bf16 activations can be multiplied with P x Q: codes of 2 or 4 bits.
template <class P, class Q, class A>
constexpr bool has_bf16_kernel() {
  return std::is_same_v<A, bf16> && (Q::bits == 2 || Q::bits == 4) && has_shared_runs<P, Q>();
}

/// Whether activations of 24 bits can be multiplied with P x Q: codes of up to 7 bits, so that sums fit 32 bits and
/// instruction sets without products of whole bytes can multiply them.
template <class P, class Q, class A>
constexpr bool has_int24_kernel() {
  return std::is_same_v<A, int24> && Q::bits < 8 && has_shared_runs<P, Q>();
}

/// Whether an instruction set with dot products of bytes multiplies A with P x Q as integers.
template <class P, class Q, class A>
constexpr bool has_integer_kernel() {
  return has_int8_kernel<P, Q, A>() || has_int24_kernel<P, Q, A>();
}
/// Activations that such an instruction set prepares.
template <class A>
inline constexpr bool is_integer = is_int8<A> || std::is_same_v<A, int24>;

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
