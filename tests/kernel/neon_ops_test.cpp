// SPDX-License-Identifier: Apache-2.0
// The operations of arm.inl whose corner cases the sweeps over formats do not reach.
#include <doctest/doctest.h>

#include <bit>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <quern/core/isa.hpp>

#if defined(__aarch64__)
#include <arm_neon.h>

#if defined(__clang__)
QUERN_TARGET_BEGIN("dotprod")
#else
QUERN_TARGET_BEGIN("arch=armv8.2-a+dotprod")
#endif
namespace {
namespace ops {
#include <quern/kernel/cpu/isa/arm.inl>

// Plain functions on arrays of 16, because operations can be inlined in this region only.
void ranks_of(unsigned m, int* out) { store(out, ranks(static_cast<lane_mask>(m))); }
void kept(const int* v, unsigned m, int* out) { store(out, keep(load(v), static_cast<lane_mask>(m))); }
unsigned nonzero_of(const int* v) { return nonzero(load(v)); }
void shifted(const int* v, const int* n, int* left, int* right) {
  store(left, shift_left_each(load(v), load(n)));
  store(right, shift_right_each(load(v), load(n)));
}
void fields(const int* v, int from, int width, int to, int* out) {
  store(out, byte_fields(load(v), from, width, to));
}
void bits(const int* v, int shift, int width, int* out) { store(out, bits_of(load(v), shift, width)); }
void packed(const int* v, unsigned m, int* out) {
  store(out, pack_lanes(load(v), static_cast<lane_mask>(m)));
}
void spread_out(const float* v, unsigned m, float* out) {
  store(out, spread_lanes(load(v), static_cast<lane_mask>(m)));
}
void lowest(const int* v, int* mirrored, int* rest) {
  const i32x16 one = lowest_bit(load(v));
  store(mirrored, mirrored_bit(one));
  store(rest, flip(load(v), one));
}
void bytes_of(const int* v, std::int8_t* out) { store_bytes(out, load(v)); }
void rounded(const float* v, int* out) { store(out, to_int(load(v))); }
void chosen(const int* pick, const int* a, const int* b, int* out) {
  store(out, choose(load(pick), load(a), load(b)));
}
void looked_up(const int* table, const int* index, int* out) { store(out, lookup(load(table), load(index))); }

}  // namespace ops
}  // namespace
QUERN_TARGET_END

namespace {
bool missing() {
  if (quern::isa::neon_dot::available()) return false;
  MESSAGE("SKIP: this CPU has no dot products");
  return true;
}
}  // namespace

TEST_CASE("NEON masks of lanes") {
  if (missing()) return;
  const int v[16] = {1, -2, 3, -4, 5, -6, 7, -8, 9, INT_MIN, 11, -12, 13, -14, 15, -16};
  float f[16];
  for (int i = 0; i < 16; ++i) f[i] = static_cast<float>(i + 1);
  std::size_t wrong = 0;
  for (unsigned m = 0; m < 1u << 16; ++m) {
    int rank[16], kept[16], packed[16];
    float spread[16];
    ops::ranks_of(m, rank);
    ops::kept(v, m, kept);
    ops::packed(v, m, packed);
    ops::spread_out(f, m, spread);
    int below = 0;
    for (int i = 0; i < 16; ++i) {
      const bool in = (m >> i & 1) != 0;
      if (rank[i] != (in ? below : 0) || kept[i] != (in ? v[i] : 0)) ++wrong;
      if (spread[i] != (in ? f[below] : 0) || (in && packed[below] != v[i])) ++wrong;
      below += in;
    }
    if (ops::nonzero_of(kept) != m) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("NEON shifts of lanes give 0 where the count is not 0 .. 31") {
  if (missing()) return;
  for (const int value : {1, -1, 0x5a5a5a5a, INT_MIN})
    for (const int count : {0,   1,   8,    31,      32, 33, 64,  127, 128,  224,  255,
                            256, 257, 4096, INT_MAX, -1, -8, -32, -96, -255, -256, INT_MIN}) {
      int v[16], n[16], left[16], right[16];
      for (int i = 0; i < 16; ++i) v[i] = value, n[i] = i % 3 == 0 ? count : 0;
      ops::shifted(v, n, left, right);
      CAPTURE(value);
      CAPTURE(count);
      const auto u = static_cast<unsigned>(value);
      const bool in = count >= 0 && count < 32;
      for (int i = 0; i < 16; ++i) {
        REQUIRE(static_cast<unsigned>(left[i]) == (i % 3 != 0 ? u : in ? u << count : 0));
        REQUIRE(static_cast<unsigned>(right[i]) == (i % 3 != 0 ? u : in ? u >> count : 0));
      }
    }
}

TEST_CASE("NEON fields of bits and bytes") {
  if (missing()) return;
  int v[16], out[16];
  for (int i = 0; i < 16; ++i) v[i] = static_cast<int>(0x9e3779b9u * static_cast<unsigned>(i + 1));
  for (int width : {1, 2, 4, 8})
    for (int from = 0; from + width <= 8; ++from)
      for (int to = 0; to + width <= 8; ++to) {
        ops::fields(v, from, width, to, out);
        for (int i = 0; i < 16; ++i) {
          unsigned expected = 0;
          for (int b = 0; b < 32; b += 8)
            expected |= (static_cast<unsigned>(v[i]) >> (b + from) & ((1u << width) - 1)) << (b + to);
          REQUIRE(static_cast<unsigned>(out[i]) == expected);
        }
      }
  for (int width : {1, 2, 4, 8, 16, 32})
    for (int shift = 0; shift + width <= 32; ++shift) {
      ops::bits(v, shift, width, out);
      for (int i = 0; i < 16; ++i)
        REQUIRE(static_cast<unsigned>(out[i]) == (static_cast<unsigned>(v[i]) >> shift &
                                                  static_cast<unsigned>((std::uint64_t{1} << width) - 1)));
    }
  int mirrored[16], rest[16];
  for (int i = 0; i < 16; ++i) v[i] = static_cast<int>(0x80000000u | 0xffffu << i);
  ops::lowest(v, mirrored, rest);
  for (int i = 0; i < 16; ++i) {
    CHECK(mirrored[i] == 15 - i);
    CHECK(rest[i] == (v[i] & (v[i] - 1)));
  }
}

TEST_CASE("NEON conversions and choices") {
  if (missing()) return;
  const int wide[16] = {0,   1,    -1,    127,   128,    -128,  -129,    255,
                        256, -256, 32767, 32768, -32769, 70000, INT_MAX, INT_MIN};
  const int narrow[16] = {0, 1, -1, 127, 127, -128, -128, 127, 127, -128, 127, 127, -128, 127, 127, -128};
  std::int8_t bytes[16];
  ops::bytes_of(wide, bytes);
  for (int i = 0; i < 16; ++i) CHECK(bytes[i] == narrow[i]);

  const float halves[16] = {0.5f,  1.5f,   2.5f,   -0.5f,   -1.5f, -2.5f, 0.49f, 0.51f,
                            3.49f, 126.5f, 127.0f, -127.5f, -0.0f, 99.9f, -3.2f, 4194303.0f};
  const int even[16] = {0, 2, 2, 0, -2, -2, 0, 1, 3, 126, 127, -128, 0, 100, -3, 4194303};
  int out[16], pick[16], index[16];
  ops::rounded(halves, out);
  for (int i = 0; i < 16; ++i) CHECK(out[i] == even[i]);

  for (int i = 0; i < 16; ++i) pick[i] = i % 3 == 0 ? 0 : i << 24 | i % 2, index[i] = (5 * i + 3) % 16;
  ops::chosen(pick, wide, narrow, out);
  for (int i = 0; i < 16; ++i) CHECK(out[i] == (pick[i] != 0 ? wide[i] : narrow[i]));
  ops::looked_up(wide, index, out);
  for (int i = 0; i < 16; ++i) CHECK(out[i] == wide[(5 * i + 3) % 16]);
}
#else
TEST_CASE("NEON operations") { MESSAGE("SKIP: not a 64-bit Arm CPU"); }
#endif
