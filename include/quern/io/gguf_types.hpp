// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::gguf_layout* layout = quern::gguf_layout_of(type);   // null: a type this library cannot size
// row_bytes = cols / layout->block * layout->bytes;

#include <array>
#include <cstdint>
#include <quern/core/config.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// How the elements of a GGUF tensor are stored; the numbers are those of the file.
// clang-format off
enum class gguf_type : std::uint32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14,
  iq2_xxs = 16, iq2_xs = 17, iq3_xxs = 18, iq1_s = 19, iq4_nl = 20, iq3_s = 21, iq2_s = 22, iq4_xs = 23,
  i8 = 24, i16 = 25, i32 = 26, i64 = 27, f64 = 28, iq1_m = 29, bf16 = 30,
  tq1_0 = 34, tq2_0 = 35, mxfp4 = 39, nvfp4 = 40, q1_0 = 41
};
// clang-format on

/// A row is a whole number of blocks.
struct gguf_layout {
  gguf_type type;
  const char* name;
  std::uint32_t block;  ///< elements of a block
  std::uint32_t bytes;  ///< bytes of a block
};

/// Sizes as in the PyPI package gguf 0.19.0 (GGML_QUANT_SIZES). Absent on purpose: 4, 5, 31-33 and 36-38,
/// which ggml removed; 9 and 15, which it uses in memory only; and whatever is newer.
constexpr std::array<gguf_layout, 32> gguf_layouts{{
    {gguf_type::f32, "F32", 1, 4},
    {gguf_type::f16, "F16", 1, 2},
    {gguf_type::q4_0, "Q4_0", 32, 18},
    {gguf_type::q4_1, "Q4_1", 32, 20},
    {gguf_type::q5_0, "Q5_0", 32, 22},
    {gguf_type::q5_1, "Q5_1", 32, 24},
    {gguf_type::q8_0, "Q8_0", 32, 34},
    {gguf_type::q2_k, "Q2_K", 256, 84},
    {gguf_type::q3_k, "Q3_K", 256, 110},
    {gguf_type::q4_k, "Q4_K", 256, 144},
    {gguf_type::q5_k, "Q5_K", 256, 176},
    {gguf_type::q6_k, "Q6_K", 256, 210},
    {gguf_type::iq2_xxs, "IQ2_XXS", 256, 66},
    {gguf_type::iq2_xs, "IQ2_XS", 256, 74},
    {gguf_type::iq3_xxs, "IQ3_XXS", 256, 98},
    {gguf_type::iq1_s, "IQ1_S", 256, 50},
    {gguf_type::iq4_nl, "IQ4_NL", 32, 18},
    {gguf_type::iq3_s, "IQ3_S", 256, 110},
    {gguf_type::iq2_s, "IQ2_S", 256, 82},
    {gguf_type::iq4_xs, "IQ4_XS", 256, 136},
    {gguf_type::i8, "I8", 1, 1},
    {gguf_type::i16, "I16", 1, 2},
    {gguf_type::i32, "I32", 1, 4},
    {gguf_type::i64, "I64", 1, 8},
    {gguf_type::f64, "F64", 1, 8},
    {gguf_type::iq1_m, "IQ1_M", 256, 56},
    {gguf_type::bf16, "BF16", 1, 2},
    {gguf_type::tq1_0, "TQ1_0", 256, 54},
    {gguf_type::tq2_0, "TQ2_0", 256, 66},
    {gguf_type::mxfp4, "MXFP4", 32, 17},
    {gguf_type::nvfp4, "NVFP4", 64, 36},
    {gguf_type::q1_0, "Q1_0", 128, 18},
}};

/// The layout of a type, or null for a number that gguf_type does not name.
constexpr const gguf_layout* gguf_layout_of(gguf_type type) {
  for (const gguf_layout& l : gguf_layouts)
    if (l.type == type) return &l;
  return nullptr;
}

/// The name of a type as GGUF tools write it, or "unknown".
constexpr const char* name_of(gguf_type type) {
  const gguf_layout* layout = gguf_layout_of(type);
  return layout == nullptr ? "unknown" : layout->name;
}

/// What a metadata value is; the numbers are those of the file.
// clang-format off
enum class gguf_value_type : std::uint32_t {
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9, u64 = 10, i64 = 11,
  f64 = 12
};
// clang-format on

/// Bytes of one value; 0 for strings, arrays and unknown types.
constexpr std::uint32_t bytes_of(gguf_value_type type) {
  constexpr std::uint32_t sizes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto i = static_cast<std::uint32_t>(type);
  return i < 13 ? sizes[i] : 0;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
