// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::dense, quern::symmetric<4, 32>> w;   // holds the codes and scales of GGUF's Q4_0

#include <quern/quant/concept.hpp>
#include <quern/quant/scale.hpp>
#include <type_traits>

namespace quern::inline v0 {

/// Uniform codes without a zero point: w = scale * (code - 2^(Bits-1)). The scale is signed, so that the
/// extreme of the larger magnitude lands on the one code that has no mirror image (Q4_0's rule); a two-level
/// scale cannot be negative and leaves that code unused unless the negative side is the longer one.
/// @tparam Bits   2..8
/// @tparam Run    weights along the inputs that share a scale; a positive multiple of 8
/// @tparam Scale  f16, bf16 or two_level
template <int Bits, int Run, class Scale = f16>
struct symmetric {
  static_assert(Bits >= 2 && Bits <= 8, "quern::symmetric: Bits must be 2..8");
  static_assert(Run > 0 && Run % 8 == 0, "quern::symmetric: Run must be a positive multiple of 8");
  static_assert(!std::is_same_v<Scale, f16_offset>,
                "quern::symmetric: has no offset; use affine<Bits, Run, f16_offset>");
  using code_type = std::uint8_t;
  using policy = scale_policy<Scale>;
  static constexpr int bits = Bits, run = Run, scale_bits = policy::bits, zero_bits = 0;
  static constexpr int top = (1 << Bits) - 1, zero = 1 << (Bits - 1);
  static constexpr bool row_scaled = policy::row_scaled;
  [[gnu::always_inline]] static constexpr name label() {
    return name("symmetric<", Bits, ",", Run, policy::label(), ">");
  }

  [[gnu::always_inline]] QUERN_HD static constexpr run_params fit(float lo, float hi) {
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    constexpr float below = zero, above = zero - 1;
    if constexpr (row_scaled) {
      const float a = hi / above, b = -lo / below;
      return with_scale(a > b ? a : b);
    } else {
      return with_scale(hi > -lo ? hi / -below : -lo / below);
    }
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float largest) {
    return policy::row_scale(largest);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params stored(run_params p, float row) {
    return with_scale(policy::decode(policy::encode(p.scale, row), row));
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t scale_code(run_params p, float row) {
    return policy::encode(p.scale, row);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t zero_code(run_params) { return 0; }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params params(std::uint32_t scale_code, std::uint32_t,
                                                                     float row) {
    return with_scale(policy::decode(scale_code, row));
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float w, run_params p) {
    // No branch around the division, so that a loop of encode becomes vectors.
    const std::uint32_t code = clamp_code((w - p.offset) / (p.scale == 0 ? 1.0f : p.scale) + 0.5f, top);
    return p.scale == 0 ? static_cast<std::uint32_t>(zero) : code;
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, run_params p) {
    return p.scale * static_cast<float>(code) + p.offset;
  }

 private:
  [[gnu::always_inline]] QUERN_HD static constexpr run_params with_scale(float s) {
    return {s, -s * static_cast<float>(zero)};
  }
};
static_assert(quantizer<symmetric<4, 32>> && quantizer<symmetric<8, 32, two_level>>);

}  // namespace quern::inline v0
