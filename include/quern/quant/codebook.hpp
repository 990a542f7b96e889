// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::dense, quern::codebook<quern::nf4, 64>> w;

#include <quern/quant/concept.hpp>
#include <quern/quant/scale.hpp>
#include <type_traits>

namespace quern::inline v0 {

/// NormalFloat 4 (QLoRA, arXiv 2305.14314, appendix E): quantiles of a normal distribution, scaled to
/// [-1, 1].
struct nf4 {
  static constexpr float largest = 1;
  static constexpr const char* text = "nf4";
  static constexpr float values[16] = {-1.0f,
                                       -0.6961928009986877f,
                                       -0.5250730514526367f,
                                       -0.39491748809814453f,
                                       -0.28444138169288635f,
                                       -0.18477343022823334f,
                                       -0.09105003625154495f,
                                       0.0f,
                                       0.07958029955625534f,
                                       0.16093020141124725f,
                                       0.24611230194568634f,
                                       0.33791524171829224f,
                                       0.44070982933044434f,
                                       0.5626170039176941f,
                                       0.7229568362236023f,
                                       1.0f};
};
/// fp4, E2M1 (OCP Microscaling formats 1.0, section 5.3.3): sign, two exponent bits, one mantissa bit.
struct fp4 {
  static constexpr float largest = 6;
  static constexpr const char* text = "fp4";
  static constexpr float values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
};

/// Codes that index a table of 16 values: w = scale * Table::values[code].
/// @tparam Table  nf4 or fp4, or any type with `values` (0 among them), `largest` magnitude and `text`
/// @tparam Run    weights along the inputs that share a scale; a positive multiple of 8
/// @tparam Scale  f16, bf16 or two_level
template <class Table, int Run, class Scale = f16>
struct codebook {
  static_assert(Run > 0 && Run % 8 == 0, "quern::codebook: Run must be a positive multiple of 8");
  static_assert(!std::is_same_v<Scale, f16_offset>, "quern::codebook: has no offset; use an f16 scale");
  using code_type = std::uint8_t;
  using policy = scale_policy<Scale>;
  using table = Table;
  static constexpr int bits = 4, run = Run, scale_bits = policy::bits, zero_bits = 0;
  static constexpr bool row_scaled = policy::row_scaled;
  [[gnu::always_inline]] static constexpr name label() {
    return name("codebook<", Table::text, ",", Run, policy::label(), ">");
  }

  [[gnu::always_inline]] QUERN_HD static constexpr run_params fit(float lo, float hi) {
    return {(hi > -lo ? hi : -lo) / Table::largest, 0};
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float largest) {
    return policy::row_scale(largest);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params stored(run_params p, float row) {
    return {policy::decode(policy::encode(p.scale, row), row), 0};
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t scale_code(run_params p, float row) {
    return policy::encode(p.scale, row);
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t zero_code(run_params) { return 0; }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params params(std::uint32_t scale_code, std::uint32_t,
                                                                     float row) {
    return {policy::decode(scale_code, row), 0};
  }
  /// The nearest entry; of two equally near ones the first. Ties of +0 and -0 go to the first zero.
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float w, run_params p) {
    const float target = p.scale == 0 ? 0 : w / p.scale;
    std::uint32_t best = 0;
    float least = 3.4e38f;
    for (std::uint32_t i = 0; i < 16; ++i) {
      const float d = Table::values[i] < target ? target - Table::values[i] : Table::values[i] - target;
      if (d < least) {
        least = d;
        best = i;
      }
    }
    return best;
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, run_params p) {
    return p.scale * Table::values[code & 15];
  }
};
static_assert(quantizer<codebook<nf4, 64>> && quantizer<codebook<fp4, 32, bf16>>);

}  // namespace quern::inline v0
