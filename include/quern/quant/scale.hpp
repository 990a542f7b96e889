// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::affine<4, 16>                     // fp16 scale, whole-code zero
// quern::affine<4, 16, quern::bf16>        // bf16 scale
// quern::affine<4, 16, quern::two_level>   // 4-bit multiplier of the row's fp16 scale
// quern::affine<4, 32, quern::f16_offset>  // fp16 scale and fp16 offset: GGUF's Q4_1

#include <cstdint>
#include <quern/core/half.hpp>
#include <quern/core/name.hpp>

namespace quern::inline v0 {

/// Scale policy: a 4-bit multiplier 0..15 of one fp16 scale per row. Smaller than an fp16 scale per run, and
/// more exact at equal bits because the runs can be half as long (run 16: relative error .0786 at 4.25 bits
/// against .0857 at 4.5 bits for fp16 and run 32; Gaussian weights, 4 bits, prototype of 22 November 2026).
struct two_level {};
/// Scale policy: fp16 scale, and instead of a zero code an fp16 offset that need not be a whole code.
struct f16_offset {};

/// What a scale policy stores per run, and how. O(1) functions only.
template <class Policy>
struct scale_policy;

template <>
struct scale_policy<f16> {
  static constexpr int bits = 16;
  static constexpr bool row_scaled = false;
  [[gnu::always_inline]] static constexpr name label() { return name(); }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float scale, float /*row*/) {
    return to_f16(scale).bits;
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, float /*row*/) {
    return to_float(f16{static_cast<std::uint16_t>(code)});
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float /*largest*/) { return 1; }
};
template <>
struct scale_policy<f16_offset> : scale_policy<f16> {
  [[gnu::always_inline]] static constexpr name label() { return name(",f16_offset"); }
};
template <>
struct scale_policy<bf16> {
  static constexpr int bits = 16;
  static constexpr bool row_scaled = false;
  [[gnu::always_inline]] static constexpr name label() { return name(",bf16"); }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float scale, float /*row*/) {
    return to_bf16(scale).bits;
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, float /*row*/) {
    return to_float(bf16{static_cast<std::uint16_t>(code)});
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float /*largest*/) { return 1; }
};
template <>
struct scale_policy<two_level> {
  static constexpr int bits = 4, top = 15;
  static constexpr bool row_scaled = true;
  [[gnu::always_inline]] static constexpr name label() { return name(",two_level"); }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float scale, float row) {
    if (!(row > 0) || !(scale > 0)) return 0;
    const float m = scale / row + 0.5f;  // at least 1: a run with weights keeps a grid
    return m < 1 ? 1u : m > top ? static_cast<std::uint32_t>(top) : static_cast<std::uint32_t>(m);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, float row) {
    return row * static_cast<float>(code);
  }
  /// Rounded up to fp16, so that the largest scale of the row needs no multiplier above 15.
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float largest) {
    f16 h = to_f16(largest / top);
    if (to_float(h) * top < largest) ++h.bits;
    return to_float(h);
  }
};

}  // namespace quern::inline v0
