// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::nm<2, 4>, quern::real<quern::f16>> w;   // pruned, not quantized

#include <bit>
#include <quern/core/half.hpp>
#include <quern/quant/concept.hpp>
#include <type_traits>

namespace quern::inline v0 {

/// No quantization: weights are stored as float, f16 or bf16; the "code" is the bit pattern. f32 is spelled
/// `float` in C++ and `f32` in names.
template <class T>
struct real {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, f16> || std::is_same_v<T, bf16>,
                "quern::real: T must be float, quern::f16 or quern::bf16");
  using code_type = std::conditional_t<std::is_same_v<T, float>, std::uint32_t, std::uint16_t>;
  static constexpr int bits = 8 * sizeof(T), run = 0, scale_bits = 0, zero_bits = 0;
  static constexpr bool row_scaled = false;
  [[gnu::always_inline]] static constexpr name label() {
    return name("real<", std::is_same_v<T, float> ? "f32" : std::is_same_v<T, f16> ? "f16" : "bf16", ">");
  }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params fit(float, float) { return {1, 0}; }
  [[gnu::always_inline]] QUERN_HD static constexpr float row_scale(float) { return 1; }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params stored(run_params, float) { return {1, 0}; }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t scale_code(run_params, float) { return 0; }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t zero_code(run_params) { return 0; }
  [[gnu::always_inline]] QUERN_HD static constexpr run_params params(std::uint32_t, std::uint32_t, float) {
    return {1, 0};
  }
  [[gnu::always_inline]] QUERN_HD static constexpr std::uint32_t encode(float w, run_params) {
    if constexpr (std::is_same_v<T, float>)
      return std::bit_cast<std::uint32_t>(w);
    else if constexpr (std::is_same_v<T, f16>)
      return to_f16(w).bits;
    else
      return to_bf16(w).bits;
  }
  [[gnu::always_inline]] QUERN_HD static constexpr float decode(std::uint32_t code, run_params) {
    if constexpr (std::is_same_v<T, float>)
      return std::bit_cast<float>(code);
    else
      return to_float(T{static_cast<std::uint16_t>(code)});
  }
};
static_assert(quantizer<real<float>> && quantizer<real<f16>> && quantizer<real<bf16>>);

}  // namespace quern::inline v0
