// SPDX-License-Identifier: Apache-2.0
#pragma once
// using q = quern::affine<4, 16>;                              // 4 bits, runs of 16 inputs
// const quern::run_params p = q::stored(q::fit(-1, 2), 1);
// float w = q::decode(q::encode(0.3f, p), p);                  // 0.3 to half a step of (2 - -1) / 15

#include <quern/quant/concept.hpp>
#include <quern/quant/scale.hpp>
#include <type_traits>

namespace quern::inline v0 {

/// Uniform codes with a zero point (GQSA section 3): w = scale * (code - zero), one (scale, zero) per Run
/// weights. The zero is a whole code, so 0 decodes to exactly 0 and a mask survives quantization. With
/// `f16_offset` it is stored as an fp16 offset instead (GGUF's Q4_1 and Q5_1); scales that `stored` returns
/// are then short enough for zero to stay exact, those read from a GGUF file are kept as they are.
/// @tparam Bits   2..8
/// @tparam Run    weights along the inputs that share scale and zero; a positive multiple of 8
/// @tparam Scale  f16, bf16, two_level or f16_offset
template <int Bits, int Run, class Scale = f16>
struct affine {
  static_assert(Bits >= 2 && Bits <= 8, "quern::affine: Bits must be 2..8");
  static_assert(Run > 0 && Run % 8 == 0, "quern::affine: Run must be a positive multiple of 8");
  static constexpr bool has_offset = std::is_same_v<Scale, f16_offset>;
  static_assert(
      !has_offset || Bits <= 5,
      "quern::affine: f16_offset is for 2..5 bits (Q4_1, Q5_1); use an f16 scale with a zero code above");
  using code_type = std::uint8_t;
  using policy = scale_policy<Scale>;
  static constexpr int bits = Bits, run = Run, scale_bits = policy::bits, top = (1 << Bits) - 1;
  static constexpr int zero_bits = has_offset ? 16 : Bits <= 2 ? 2 : Bits <= 4 ? 4 : 8;
  static constexpr bool row_scaled = policy::row_scaled;
  [[gnu::always_inline]] static constexpr name label() {
    return name("affine<", Bits, ",", Run, policy::label(), ">");
  }

  /// The whole code that stands for 0.
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t zero_point(run_params p) {
    if (p.scale == 0) return 0;
    const float z = -p.offset / p.scale + 0.5f;
    return z < 0 ? 0u : z > top ? static_cast<std::uint32_t>(top) : static_cast<std::uint32_t>(z);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params fit(float lo, float hi) {
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    return {(hi - lo) / static_cast<float>(top), lo};
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float largest) {
    return policy::row_scale(largest);
  }
  /// scale and offset as they come back from storage; the offset is a whole number of steps.
  [[gnu::always_inline]] QUERN_HD static constexpr run_params stored(run_params p, float row) {
    const float z = static_cast<float>(zero_point(p));
    float scale = policy::decode(policy::encode(p.scale, row), row);
    if constexpr (has_offset) {
      // z * scale must be an fp16 number (11 significant bits) for 0 to decode to 0: leave room for z's bits.
      scale = to_float(f16{static_cast<std::uint16_t>(short_scale(to_f16(scale).bits))});
      return {scale, to_float(to_f16(-scale * z))};  // infinite beyond fp16, which rounding reports
    }
    return {scale, -scale * z};
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t scale_code(run_params p, float row) {
    return policy::encode(p.scale, row);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t zero_code(run_params p) {
    if constexpr (has_offset) return to_f16(p.offset).bits;
    return zero_point(p);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params params(std::uint32_t scale_code,
                                                                     std::uint32_t zero_code, float row) {
    const float scale = policy::decode(scale_code, row);
    if constexpr (has_offset) return {scale, to_float(f16{static_cast<std::uint16_t>(zero_code)})};
    return {scale, -scale * static_cast<float>(zero_code)};
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float w, run_params p) {
    // No branch around the division, so that a loop of encode becomes vectors.
    const std::uint32_t code = clamp_code((w - p.offset) / (p.scale == 0 ? 1.0f : p.scale) + 0.5f, top);
    return p.scale == 0 ? 0u : code;
  }
  /// scale * code and scale * zero are exact in float (at most 15 + 8 significant bits), so this rounds at
  /// most once.
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, run_params p) {
    return p.scale * static_cast<float>(code) + p.offset;
  }

 private:
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t short_scale(std::uint32_t h) {
    if ((h & 0x7fffu) < 1u << (11 - Bits))
      return h;  // a multiple of 2^-24 so small that its multiples are exact
    const std::uint32_t drop = (1u << Bits) - 1;
    const std::uint32_t rounded = (h + (drop >> 1) + (h >> Bits & 1u)) & ~drop;
    return (rounded & 0x7c00u) == 0x7c00u ? h & ~drop : rounded;
  }
};
template <int Run>
using int4 = affine<4, Run>;
template <int Run>
using int3 = affine<3, Run>;
template <int Run>
using int2 = affine<2, Run>;
static_assert(quantizer<affine<4, 16>> && quantizer<affine<2, 16, two_level>> &&
              quantizer<affine<5, 32, f16_offset>>);

}  // namespace quern::inline v0
