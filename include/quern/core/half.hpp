// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::f16 h = quern::to_f16(0.1f);  float x = quern::to_float(h);

#include <bit>
#include <cstdint>
#include <quern/core/config.hpp>

namespace quern::inline v0 {

/// IEEE binary16, storage only; arithmetic is done in float.
struct f16 {
  std::uint16_t bits;
  friend constexpr bool operator==(f16, f16) = default;
};

/// bfloat16: the upper half of a float, storage only.
struct bf16 {
  std::uint16_t bits;
  friend constexpr bool operator==(bf16, bf16) = default;
};

inline namespace QUERN_BUILD {

/// Exact: every binary16 value is a float; a NaN keeps its payload.
QUERN_HD constexpr float to_float(f16 h) {
  const std::uint32_t sign = (h.bits & 0x8000u) << 16, magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // 2^-24, exact
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}
QUERN_HD constexpr float to_float(bf16 h) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(h.bits) << 16);
}
QUERN_HD constexpr float to_float(float x) { return x; }

/// Rounds to nearest, ties to even; overflow gives infinity; a NaN stays a (quiet) NaN.
QUERN_HD constexpr f16 to_f16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
  std::uint32_t out;
  if (a > 0x7f800000u)
    out = 0x7e00u | (a >> 13 & 0x1ffu);
  else if (a >= 0x477ff000u)  // 65520: halfway between the largest finite value and 2^16
    out = 0x7c00u;
  else if (a >= 0x38800000u)  // 2^-14, the smallest normal value
    out = (a - 0x38000000u + 0xfffu + (a >> 13 & 1u)) >> 13;
  else  // adding 0.5 aligns the subnormal's last place with the float's, so the addition itself rounds
    out = std::bit_cast<std::uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;
  return {static_cast<std::uint16_t>(sign | out)};
}
QUERN_HD constexpr bf16 to_bf16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>(u >> 16 | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
