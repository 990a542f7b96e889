// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::activations x(hidden);                    // int8 per group of 32, once for all matrices that read it
// quern::multiply(w_gate, x.view(), gate, pool);
// quern::multiply(w_up, x.view(), up, pool);       // see kernel/cpu/prepare.hpp for the owning class

#include <bit>
#include <cstddef>
#include <cstdint>
#include <quern/core/half.hpp>
#include <quern/core/span2.hpp>
#include <quern/quant/bits.hpp>
#include <type_traits>

namespace quern::inline v0 {

/// Activation policies: what the kernels multiply the weights with. `float` is exact.
///
/// int8 with one scale per group of inputs (largest magnitude / 127, round to nearest even). Relative error on
/// Gaussian inputs .0054 (32), .0060 (64), .0065 (128); with 4 outlier channels of 100 times the size .012,
/// .017, .024, where one scale per token gives .109 (prototype, 22 November 2026).
template <int Group>
struct int8_groups {
  static_assert(Group == 32 || Group == 64 || Group == 128,
                "quern::int8_groups: Group must be 32, 64 or 128");
  static constexpr int group = Group;
};
/// int8 with one scale per token: the fastest batches, unsafe for models with outlier channels.
struct int8_per_token {
  static constexpr int group = 0;
};
template <class A>
inline constexpr bool is_int8 = requires {
  A::group;
};
/// Fixed point of 24 bits with one scale per 32 inputs (largest magnitude / 8355710), multiplied as three digits of
/// int8: as good as float and faster where bytes have dot products. Every input is within 2^-22 of the largest of its
/// 32, and products are summed without rounding: relative error of the outputs 1.7e-7 to 3.1e-7 where float had 1.6e-7
/// to 7.6e-7 (Gaussian inputs, 2048 columns, with and without channels 100 times as large). For vectors; groups of
/// inputs below 2^-100 are taken as 0.
struct int24 {
  static constexpr int digits = 3;
  static constexpr int inputs_per_scale = 32;
  /// The largest code. One step more, as scaling may round up to, still has digits of -128 .. 127.
  static constexpr float largest = 8355710;
};

/// Tables of units that prepared int8 vectors hold, one bit for each of activation_layout::units. Only patterns in which
/// every row has its own units read them (tables_of, int8_plan.hpp); filling all takes more time than the rest.
using unit_tables = unsigned;
inline constexpr unit_tables all_tables = 7;

/// Tokens that are multiplied as single vectors; more are cut into tiles of 12, 8 or 4.
inline constexpr std::size_t gemv_tokens = 4;

inline namespace QUERN_BUILD {

/// Where the arrays of prepared activations lie: every one starts at a multiple of 64 bytes.
///
/// Up to `gemv_tokens` tokens, per token: the codes in order, and once more as tables for patterns in which
/// every row has its own units of 16, 32 or 64 inputs: [window of 16 units][4-byte piece of a unit][16 units, the last one
/// first].
/// More tokens: tiles of `mr` = 12, 8 or 4 tokens (the last ones completed with zeros), [step of 4 inputs][mr][4].
/// Codes are completed with zeros to `stride`. Sums of codes are negated and kept for every 16, 32, 64 and 128
/// inputs, as a run of weights may need them.
struct activation_layout {
  std::size_t tokens = 0, cols = 0;
  int group = 32;                   ///< inputs per scale, 0: one per token
  unit_tables filled = all_tables;  ///< there is room for all of them

  static constexpr std::size_t up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }
  static constexpr int units[] = {16, 32, 64};
  static constexpr int sum_levels = 4;
  constexpr bool tiled() const { return tokens > gemv_tokens; }
  constexpr std::size_t stride() const { return up(cols, 128); }
  /// Tokens that are stored: completed to whole tiles.
  constexpr std::size_t stored_tokens() const { return tiled() ? up(tokens, 4) : tokens; }
  /// Parts that can be prepared side by side: single tokens, or whole tiles of 12 to 16 tokens (see tile_tokens: the
  /// last 13 to 16 are two tiles of 8).
  constexpr std::size_t parts() const { return tiled() ? (tokens + 7) / 12 : tokens; }
  /// The first token of part @p i; part_token(parts()) is the number of tokens.
  constexpr std::size_t part_token(std::size_t i) const {
    return i >= parts() ? tokens : tiled() ? 12 * i : i;
  }
  // Shifts, not divisions: kernels ask for every tile.
  constexpr std::size_t groups() const {
    return group == 0 ? 1 : stride() >> std::countr_zero(static_cast<unsigned>(group));
  }
  static constexpr std::size_t sum_width(int level) { return std::size_t{16} << level; }
  constexpr std::size_t sums(int level) const { return stride() >> (4 + level); }
  constexpr std::size_t windows(int unit) const {
    return (cols + 16 * static_cast<std::size_t>(unit) - 1) / (16 * static_cast<std::size_t>(unit));
  }
  /// Scales of a unit in a table.
  constexpr int unit_scales(int unit) const { return group == 0 || group >= unit ? 1 : unit / group; }

  // Offsets in bytes.
  constexpr std::size_t codes() const { return 0; }
  constexpr std::size_t scales() const { return codes() + up(stored_tokens() * stride(), 64); }
  constexpr std::size_t sums_at(int level) const {
    std::size_t at = scales() + up(stored_tokens() * groups() * sizeof(float), 64);
    for (int i = 0; i < level; ++i) at += up(stored_tokens() * sums(i) * sizeof(int), 64);
    return at;
  }
  /// Tiles of tokens: codes, then the scales [group][mr] and the sums [block][mr], times 128, of every tile.
  constexpr std::size_t tiles() const { return sums_at(sum_levels); }
  constexpr std::size_t tile_scales() const { return tiles() + up(stored_tokens() * stride(), 64); }
  constexpr std::size_t tile_sums(int level) const {
    std::size_t at = tile_scales() + up(stored_tokens() * groups() * sizeof(float), 64);
    for (int i = 0; i < level; ++i) at += up(stored_tokens() * sums(i) * sizeof(int), 64);
    return at;
  }
  /// Tables of units of 16, 32 and 64 inputs (u = 0, 1, 2): codes, then sums of 16, sums of units, scales.
  constexpr std::size_t table_bytes(int unit) const {
    const std::size_t per_window = 16 * static_cast<std::size_t>(unit) +
                                   64 * static_cast<std::size_t>(unit / 16 + 1 + unit_scales(unit));
    return windows(unit) * per_window;
  }
  constexpr std::size_t tables(int u) const {
    std::size_t at = sums_at(sum_levels);
    for (int i = 0; i < u; ++i) at += tokens * table_bytes(units[i]);
    return at;
  }
  constexpr std::size_t table(int u, std::size_t token) const {
    return tables(u) + token * table_bytes(units[u]);
  }
  /// 64 more, so that 16 bytes may be loaded at the last codes.
  constexpr std::size_t bytes() const { return 64 + (tiled() ? tile_sums(sum_levels) : tables(3)); }
};

/// Prepared activations in somebody's memory; trivially copyable. Made by `prepare`.
template <class A>
struct activation_view {
  activation_layout shape;
  span2<const float> source;    ///< the floats they were made from, [tokens x cols]; must outlive the view
  std::byte* memory = nullptr;  ///< shape.bytes() bytes at a 64-byte boundary

  std::size_t tokens() const { return shape.tokens; }
  std::size_t cols() const { return shape.cols; }
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory + offset);
  }
  /// Codes [stride] of a token.
  std::int8_t* codes(std::size_t t) const { return at<std::int8_t>(shape.codes()) + t * shape.stride(); }
  /// Scales [groups] of a token.
  float* scales(std::size_t t) const { return at<float>(shape.scales()) + t * shape.groups(); }
  /// Negated sums of the codes of every `sum_width(level)` inputs.
  int* sums(int level, std::size_t t) const { return at<int>(shape.sums_at(level)) + t * shape.sums(level); }
  /// Of the tile that starts at token @p first: codes [stride / 4][mr][4], scales [groups][mr], sums
  /// [sums(level)][mr] times 128.
  std::int8_t* tile(std::size_t first) const {
    return at<std::int8_t>(shape.tiles()) + first * shape.stride();
  }
  float* tile_scales(std::size_t first) const {
    return at<float>(shape.tile_scales()) + first * shape.groups();
  }
  int* tile_sums(int level, std::size_t first) const {
    return at<int>(shape.tile_sums(level)) + first * shape.sums(level);
  }
  /// What the kernels multiply with in place of source(t, c).
  float value(std::size_t t, std::size_t c) const {
    return static_cast<float>(codes(t)[c]) * scales(t)[A::group == 0 ? 0 : c / A::group];
  }
};
/// Activations rounded to bf16 (relative error .0017, outliers or not; subnormal inputs become 0), for GEMV: half of the
/// multiplications of float. Inputs 4i .. 4i + 3 are stored in the order 0, 2, 1, 3, as pairs for dot products; sums of the rounded
/// inputs are kept for every 16, 32, 64 and 128.
template <>
struct activation_view<bf16> {
  activation_layout shape;  ///< its `group` has no meaning
  span2<const float> source;
  std::byte* memory = nullptr;

  static constexpr std::size_t bytes(const activation_layout& s) {
    std::size_t n = activation_layout::up(s.tokens * s.stride() * 2, 64);
    for (int i = 0; i < activation_layout::sum_levels; ++i)
      n += activation_layout::up(s.tokens * s.sums(i) * sizeof(float), 64);
    return n;
  }
  std::size_t tokens() const { return shape.tokens; }
  std::size_t cols() const { return shape.cols; }
  std::uint16_t* codes(std::size_t t) const {
    return reinterpret_cast<std::uint16_t*>(memory) + t * shape.stride();
  }
  float* sums(int level, std::size_t t) const {
    std::size_t at = activation_layout::up(shape.tokens * shape.stride() * 2, 64);
    for (int i = 0; i < level; ++i)
      at += activation_layout::up(shape.tokens * shape.sums(i) * sizeof(float), 64);
    return reinterpret_cast<float*>(memory + at) + t * shape.sums(level);
  }
  float value(std::size_t t, std::size_t c) const {
    constexpr std::size_t place[] = {0, 2, 1, 3};
    return to_float(bf16{codes(t)[c / 4 * 4 + place[c % 4]]});
  }
};
/// Fixed point of 24 bits: code = digit 0 + 256 digit 1 + 65536 digit 2. Negated sums of codes, rounded to float,
/// are kept for every 16 and 32.
template <>
struct activation_view<int24> {
  activation_layout shape;  ///< its `group` is that of int24
  span2<const float> source;
  std::byte* memory = nullptr;

  static constexpr std::size_t scales_at(const activation_layout& s) {
    return activation_layout::up(int24::digits * s.tokens * s.stride(), 64);
  }
  static constexpr std::size_t sums_at(const activation_layout& s, int level) {
    std::size_t at = scales_at(s) + activation_layout::up(s.tokens * s.groups() * sizeof(float), 64);
    for (int i = 0; i < level; ++i) at += activation_layout::up(s.tokens * s.sums(i) * sizeof(float), 64);
    return at;
  }
  static constexpr std::size_t bytes(const activation_layout& s) { return sums_at(s, 2); }
  std::size_t tokens() const { return shape.tokens; }
  std::size_t cols() const { return shape.cols; }
  /// Digits [stride] of a token.
  std::int8_t* codes(std::size_t t, int digit) const {
    return reinterpret_cast<std::int8_t*>(memory) +
           (int24::digits * t + static_cast<std::size_t>(digit)) * shape.stride();
  }
  float* scales(std::size_t t) const {
    return reinterpret_cast<float*>(memory + scales_at(shape)) + t * shape.groups();
  }
  float* sums(int level, std::size_t t) const {
    return reinterpret_cast<float*>(memory + sums_at(shape, level)) + t * shape.sums(level);
  }
  float value(std::size_t t, std::size_t c) const {
    const int code = codes(t, 0)[c] + 256 * codes(t, 1)[c] + 65536 * codes(t, 2)[c];
    return static_cast<float>(code) * scales(t)[c / int24::inputs_per_scale];
  }
};
/// Exact activations.
template <>
struct activation_view<float> {
  span2<const float> source;
  std::size_t tokens() const { return source.rows(); }
  std::size_t cols() const { return source.cols(); }
  float value(std::size_t t, std::size_t c) const { return source(t, c); }
};

/// Bytes of memory that prepared activations need: the workspace of a multiplication.
template <class A>
constexpr std::size_t workspace_bytes(std::size_t tokens, std::size_t cols) {
  if constexpr (is_int8<A>)
    return activation_layout{tokens, cols, A::group}.bytes();
  else if constexpr (!std::is_same_v<A, float>)
    return activation_view<A>::bytes({tokens, cols, 32});
  else
    return 0;
}

/// Tokens of the tile that starts at token @p first of @p tokens: 12, or 8 and 4 so that few are completed.
constexpr std::size_t tile_tokens(std::size_t tokens, std::size_t first) {
  const std::size_t left = (tokens - first + 3) / 4;  // quarters of a dozen and a third: units of 4 tokens
  if (left == 1) return 4;
  if (left == 2 || left == 4) return 8;
  return 12;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
