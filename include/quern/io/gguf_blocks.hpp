// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto w = quern::dequantize(file, *file.find("blk.0.attn_q.weight"), pool);   // result<vector<float>>
// quern::dequantize_row(quern::gguf_type::q4_1, blocks, cols, row);            // unchecked inner call
// quern::gguf_codes c;                                                         // codes for lossless packing
// if (quern::gguf_block_codes(t.type, block, c)) use(c.code, c.scale, c.min);

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/executor.hpp>
#include <quern/core/half.hpp>
#include <quern/io/gguf.hpp>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// One block of 32 weights as integers: weight j is scale * (code[j] - zero) + min.
struct gguf_codes {
  std::uint8_t code[32];  ///< in the order of the weights
  int zero;               ///< 8 (Q4_0), 16 (Q5_0), 128 (Q8_0), 0 (Q4_1, Q5_1)
  int bits;               ///< 4, 5 or 8: codes are below 2^bits
  bool has_min;           ///< Q4_1 and Q5_1; elsewhere min is zero
  f16 scale, min;         ///< as stored
};

/// Whether gguf_block_codes knows the type.
constexpr bool gguf_has_codes(gguf_type t) {
  return t == gguf_type::q4_0 || t == gguf_type::q4_1 || t == gguf_type::q5_0 || t == gguf_type::q5_1 ||
         t == gguf_type::q8_0;
}

/// Whether dequantize_row knows the type.
constexpr bool gguf_has_floats(gguf_type t) {
  return gguf_has_codes(t) || t == gguf_type::f32 || t == gguf_type::f16 || t == gguf_type::bf16 ||
         (t >= gguf_type::q2_k && t <= gguf_type::q6_k);
}

namespace gguf_detail {
inline unsigned u8(const std::byte* p) { return std::to_integer<unsigned>(*p); }
inline f16 half_at(const std::byte* p) { return {byte_reader::load<std::uint16_t>(p)}; }
inline float float_at(const std::byte* p) { return to_float(half_at(p)); }
/// Multiplier j of the eight pairs of six-bit multipliers that Q4_K and Q5_K keep in 12 bytes.
struct pair6 {
  float scale, min;
};
inline pair6 pair6_at(const std::byte* q, unsigned j) {
  if (j < 4) return {static_cast<float>(u8(q + j) & 63), static_cast<float>(u8(q + j + 4) & 63)};
  return {static_cast<float>((u8(q + j + 4) & 15) | (u8(q + j - 4) >> 6) << 4),
          static_cast<float>(u8(q + j + 4) >> 4 | (u8(q + j) >> 6) << 4)};
}
}  // namespace gguf_detail

/// Reads the block at @p block (18 to 34 bytes, by type). @return false for types without such codes.
inline bool gguf_block_codes(gguf_type type, const std::byte* block, gguf_codes& out) {
  using namespace gguf_detail;
  if (!gguf_has_codes(type)) return false;
  out.scale = half_at(block);
  out.has_min = type == gguf_type::q4_1 || type == gguf_type::q5_1;
  out.min = out.has_min ? half_at(block + 2) : f16{0};
  const std::byte* codes = block + (out.has_min ? 4 : 2);
  if (type == gguf_type::q8_0) {
    out.zero = 128;
    out.bits = 8;
    for (unsigned j = 0; j < 32; ++j) out.code[j] = static_cast<std::uint8_t>(u8(codes + j) ^ 0x80u);
    return true;
  }
  // The low nibbles of 16 bytes are weights 0..15, the high ones 16..31. Five-bit types put 32 fifth bits
  // first.
  const bool five = type == gguf_type::q5_0 || type == gguf_type::q5_1;
  const std::uint32_t fifth = five ? byte_reader::load<std::uint32_t>(codes) : 0;
  if (five) codes += 4;
  out.bits = five ? 5 : 4;
  out.zero = out.has_min ? 0 : five ? 16 : 8;
  for (unsigned j = 0; j < 16; ++j) {
    out.code[j] = static_cast<std::uint8_t>((u8(codes + j) & 15) | (fifth >> j & 1) << 4);
    out.code[j + 16] = static_cast<std::uint8_t>(u8(codes + j) >> 4 | (fifth >> (j + 16) & 1) << 4);
  }
  return true;
}

namespace gguf_detail {

inline void q2_k(const std::byte* b, float* y) {
  const float d = float_at(b + 80), dmin = float_at(b + 82);
  for (unsigned i = 0; i < 256; ++i) {
    const unsigned scales = u8(b + i / 16);
    const unsigned code = u8(b + 16 + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    const float scale = d * static_cast<float>(scales & 15), min = dmin * static_cast<float>(scales >> 4);
    y[i] = scale * static_cast<float>(code) - min;
  }
}

inline void q3_k(const std::byte* b, float* y) {
  const std::byte *codes = b + 32, *scales = b + 96;
  const float d = float_at(b + 108);
  for (unsigned i = 0; i < 256; ++i) {
    const unsigned j = i / 16;
    const unsigned low = u8(scales + j % 8) >> (j / 8 * 4) & 15;
    const unsigned high = u8(scales + 8 + j % 4) >> (j / 4 * 2) & 3;
    const float scale = d * static_cast<float>(static_cast<int>(low | high << 4) - 32);
    const unsigned two = u8(codes + i / 128 * 32 + i % 32) >> (i % 128 / 32 * 2) & 3;
    const unsigned third = u8(b + i % 32) >> (i / 32) & 1;
    y[i] = scale * static_cast<float>(static_cast<int>(two | third << 2) - 4);
  }
}

/// Q4_K, and Q5_K where @p fifth holds 256 fifth bits.
inline void q45_k(const std::byte* b, const std::byte* fifth, const std::byte* codes, float* y) {
  const float d = float_at(b), dmin = float_at(b + 2);
  for (unsigned j = 0; j < 8; ++j) {
    const pair6 p = pair6_at(b + 4, j);
    const float scale = d * p.scale, min = dmin * p.min;
    for (unsigned l = 0; l < 32; ++l) {
      unsigned code = u8(codes + j / 2 * 32 + l) >> (j % 2 * 4) & 15;
      if (fifth != nullptr) code |= (u8(fifth + l) >> j & 1) << 4;
      y[j * 32 + l] = scale * static_cast<float>(code) - min;
    }
  }
}

inline void q6_k(const std::byte* b, float* y) {
  const std::byte *high = b + 128, *scales = b + 192;
  const float d = float_at(b + 208);
  for (unsigned i = 0; i < 256; ++i) {
    const unsigned half = i / 128, part = i % 128 / 32, l = i % 32;
    const unsigned four = u8(b + half * 64 + part % 2 * 32 + l) >> (part / 2 * 4) & 15;
    const unsigned two = u8(high + half * 32 + l) >> (part * 2) & 3;
    const float scale = d * static_cast<float>(static_cast<std::int8_t>(u8(scales + i / 16)));
    y[i] = scale * static_cast<float>(static_cast<int>(four | two << 4) - 32);
  }
}

inline void block_of_codes(gguf_type type, const std::byte* b, float* y) {
  gguf_codes c;
  gguf_block_codes(type, b, c);
  const float scale = to_float(c.scale), min = to_float(c.min);
  for (int j = 0; j < 32; ++j) {
    const float product = scale * static_cast<float>(static_cast<int>(c.code[j]) - c.zero);
    y[j] = c.has_min ? product + min : product;  // adding +0 would turn -0 into +0
  }
}

}  // namespace gguf_detail

/// y[n] = the weights of n / block blocks at @p blocks, where block divides n; both are the caller's to
/// check. Bit for bit what the Python package gguf computes: every product of a binary16 scale, its integer
/// multiplier and a code has at most 24 significant bits and so is exact (11 + 7 + 6 for Q6_K, whose
/// extremes -128 and -32 are powers of two), one addition rounds, and no FMA can change that.
/// @return false, writing nothing, for a type that gguf_has_floats() denies
inline bool dequantize_row(gguf_type type, const std::byte* blocks, std::size_t n, float* y) {
  using namespace gguf_detail;
  const auto each = [&](auto&& block) {
    const gguf_layout* layout = gguf_layout_of(type);
    for (std::size_t i = 0; i < n; i += layout->block, blocks += layout->bytes) block(blocks, y + i);
    return true;
  };
  switch (type) {
    case gguf_type::f32:
      return each([](const std::byte* b, float* o) { *o = byte_reader::load<float>(b); });
    case gguf_type::f16:
      return each([](const std::byte* b, float* o) { *o = float_at(b); });
    case gguf_type::bf16:
      return each(
          [](const std::byte* b, float* o) { *o = to_float(bf16{byte_reader::load<std::uint16_t>(b)}); });
    case gguf_type::q4_0:
    case gguf_type::q4_1:
    case gguf_type::q5_0:
    case gguf_type::q5_1:
    case gguf_type::q8_0:
      return each([&](const std::byte* b, float* o) { block_of_codes(type, b, o); });
    case gguf_type::q2_k:
      return each(q2_k);
    case gguf_type::q3_k:
      return each(q3_k);
    case gguf_type::q4_k:
      return each([](const std::byte* b, float* o) { q45_k(b, nullptr, b + 16, o); });
    case gguf_type::q5_k:
      return each([](const std::byte* b, float* o) { q45_k(b, b + 16, b + 48, o); });
    case gguf_type::q6_k:
      return each(q6_k);
    default:
      return false;
  }
}

/// out[rows x cols] = the weights of tensor @p t of @p file, row-major.
/// @param exec  splits the rows; the result does not depend on it
/// @return io_error if out.size() is not rows x cols, if the type cannot be dequantized, or if a weight is
///         infinite or NaN: it names the first row and column that is
template <class E = const serial>
requires executor<std::remove_cvref_t<E>> result<void> dequantize(const gguf_file& file, const gguf_tensor& t,
                                                                  std::span<float> out, E&& exec = E{}) {
  const std::size_t rows = t.rows(), cols = t.cols(), row_bytes = rows == 0 ? 0 : t.bytes / rows;
  const auto bad = [&](const auto&... why) {
    return io_error("quern::gguf: '", file.name(), "' offset ", t.offset, " (tensor '", std::string(t.name),
                    "'): ", why...);
  };
  if (!gguf_has_floats(t.type))
    return bad("type ", name_of(t.type), " cannot be dequantized; convert it to Q8_0 or F16");
  if (out.size() != rows * cols) return bad("has ", rows * cols, " weights, the output ", out.size());
  std::atomic<std::size_t> first_bad{out.size()};
  exec.parallel_for(rows, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      float* y = out.data() + r * cols;
      dequantize_row(t.type, file.data(t).data() + r * row_bytes, cols, y);
      std::size_t c = 0;
      while (c < cols && std::isfinite(y[c])) ++c;
      if (c == cols) continue;
      const std::size_t here = r * cols + c;
      std::size_t seen = first_bad.load();
      while (here < seen && !first_bad.compare_exchange_weak(seen, here)) {
      }
      return;
    }
  });
  const std::size_t at = first_bad.load();
  if (at != out.size())
    return bad("row ", at / cols, " column ", at % cols, " is infinite or not a number; the file is damaged");
  return {};
}

/// The same into a new vector.
template <class E = const serial>
requires executor<std::remove_cvref_t<E>> result<std::vector<float>> dequantize(const gguf_file& file,
                                                                                const gguf_tensor& t,
                                                                                E&& exec = E{}) {
  std::vector<float> out;
  if (gguf_has_floats(t.type)) out.resize(t.rows() * t.cols());
  if (auto r = dequantize(file, t, std::span<float>(out), exec); !r) return r.error();
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
