// SPDX-License-Identifier: Apache-2.0
// Operations on 16 lanes for 64-bit Arm, included inside the namespace and target region of an instruction set:
// what x86_512.inl is for x86, with four registers of 128 bits. Everything is forced inline, because a call would
// spill all of them.

/// 16 rows side by side: row 4 i + j in lane j of register i.
struct f32x16 {
  float32x4_t q[4];
};
struct i32x16 {
  int32x4_t q[4];
};
/// Bit r: row r.
using lane_mask = std::uint16_t;

[[gnu::always_inline]] inline f32x16 broadcast(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {{v, v, v, v}};
}
[[gnu::always_inline]] inline i32x16 broadcast(int x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {{v, v, v, v}};
}
[[gnu::always_inline]] inline f32x16 zero() { return broadcast(0.0f); }
[[gnu::always_inline]] inline i32x16 zero_int() { return broadcast(0); }
[[gnu::always_inline]] inline f32x16 load(const float* p) {
  return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}
[[gnu::always_inline]] inline i32x16 load(const int* p) {
  return {{vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}};
}
[[gnu::always_inline]] inline void store(float* p, f32x16 v) {
  vst1q_f32(p, v.q[0]), vst1q_f32(p + 4, v.q[1]), vst1q_f32(p + 8, v.q[2]), vst1q_f32(p + 12, v.q[3]);
}
[[gnu::always_inline]] inline void store(int* p, i32x16 v) {
  vst1q_s32(p, v.q[0]), vst1q_s32(p + 4, v.q[1]), vst1q_s32(p + 8, v.q[2]), vst1q_s32(p + 12, v.q[3]);
}

[[gnu::always_inline]] inline f32x16 add(f32x16 a, f32x16 b) {
  return {{vaddq_f32(a.q[0], b.q[0]), vaddq_f32(a.q[1], b.q[1]), vaddq_f32(a.q[2], b.q[2]),
           vaddq_f32(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline i32x16 add(i32x16 a, i32x16 b) {
  return {{vaddq_s32(a.q[0], b.q[0]), vaddq_s32(a.q[1], b.q[1]), vaddq_s32(a.q[2], b.q[2]),
           vaddq_s32(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline f32x16 multiply(f32x16 a, f32x16 b) {
  return {{vmulq_f32(a.q[0], b.q[0]), vmulq_f32(a.q[1], b.q[1]), vmulq_f32(a.q[2], b.q[2]),
           vmulq_f32(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline i32x16 multiply(i32x16 a, i32x16 b) {
  return {{vmulq_s32(a.q[0], b.q[0]), vmulq_s32(a.q[1], b.q[1]), vmulq_s32(a.q[2], b.q[2]),
           vmulq_s32(a.q[3], b.q[3])}};
}
/// a * b + c
[[gnu::always_inline]] inline f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) {
  return {{vfmaq_f32(c.q[0], a.q[0], b.q[0]), vfmaq_f32(c.q[1], a.q[1], b.q[1]),
           vfmaq_f32(c.q[2], a.q[2], b.q[2]), vfmaq_f32(c.q[3], a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline f32x16 negate(f32x16 a) {
  return {{vnegq_f32(a.q[0]), vnegq_f32(a.q[1]), vnegq_f32(a.q[2]), vnegq_f32(a.q[3])}};
}
[[gnu::always_inline]] inline i32x16 negate(i32x16 a) {
  return {{vnegq_s32(a.q[0]), vnegq_s32(a.q[1]), vnegq_s32(a.q[2]), vnegq_s32(a.q[3])}};
}
[[gnu::always_inline]] inline f32x16 to_float(i32x16 v) {
  return {{vcvtq_f32_s32(v.q[0]), vcvtq_f32_s32(v.q[1]), vcvtq_f32_s32(v.q[2]), vcvtq_f32_s32(v.q[3])}};
}
/// Rounded to nearest, ties to even.
[[gnu::always_inline]] inline i32x16 to_int(f32x16 v) {
  return {{vcvtnq_s32_f32(v.q[0]), vcvtnq_s32_f32(v.q[1]), vcvtnq_s32_f32(v.q[2]), vcvtnq_s32_f32(v.q[3])}};
}
[[gnu::always_inline]] inline f32x16 as_float(i32x16 v) {
  return {{vreinterpretq_f32_s32(v.q[0]), vreinterpretq_f32_s32(v.q[1]), vreinterpretq_f32_s32(v.q[2]),
           vreinterpretq_f32_s32(v.q[3])}};
}
[[gnu::always_inline]] inline i32x16 as_int(f32x16 v) {
  return {{vreinterpretq_s32_f32(v.q[0]), vreinterpretq_s32_f32(v.q[1]), vreinterpretq_s32_f32(v.q[2]),
           vreinterpretq_s32_f32(v.q[3])}};
}
[[gnu::always_inline]] inline i32x16 either(i32x16 a, i32x16 b) {
  return {{vorrq_s32(a.q[0], b.q[0]), vorrq_s32(a.q[1], b.q[1]), vorrq_s32(a.q[2], b.q[2]),
           vorrq_s32(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline i32x16 both(i32x16 a, int bits) {
  const int32x4_t b = vdupq_n_s32(bits);
  return {{vandq_s32(a.q[0], b), vandq_s32(a.q[1], b), vandq_s32(a.q[2], b), vandq_s32(a.q[3], b)}};
}
[[gnu::always_inline]] inline i32x16 flip(i32x16 a, i32x16 b) {
  return {{veorq_s32(a.q[0], b.q[0]), veorq_s32(a.q[1], b.q[1]), veorq_s32(a.q[2], b.q[2]),
           veorq_s32(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline i32x16 flip(i32x16 a, int bits) { return flip(a, broadcast(bits)); }
[[gnu::always_inline]] inline i32x16 largest(i32x16 a, i32x16 b) {
  return {{vmaxq_s32(a.q[0], b.q[0]), vmaxq_s32(a.q[1], b.q[1]), vmaxq_s32(a.q[2], b.q[2]),
           vmaxq_s32(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline int reduce_max(i32x16 v) {
  return vmaxvq_s32(vmaxq_s32(vmaxq_s32(v.q[0], v.q[1]), vmaxq_s32(v.q[2], v.q[3])));
}
[[gnu::always_inline]] inline int reduce_or(i32x16 v) {
  const int64x2_t all =
      vreinterpretq_s64_s32(vorrq_s32(vorrq_s32(v.q[0], v.q[1]), vorrq_s32(v.q[2], v.q[3])));
  const long long both = vgetq_lane_s64(all, 0) | vgetq_lane_s64(all, 1);
  return static_cast<int>(both | both >> 32);
}
[[gnu::always_inline]] inline int reduce_add(i32x16 v) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(v.q[0], v.q[1]), vaddq_s32(v.q[2], v.q[3])));
}
[[gnu::always_inline]] inline float reduce_add(f32x16 v) {
  return vaddvq_f32(vaddq_f32(vaddq_f32(v.q[0], v.q[1]), vaddq_f32(v.q[2], v.q[3])));
}

// Shifts. Operators, because both compilers turn a constant count into an immediate there.
[[gnu::always_inline]] inline i32x16 shift_left(i32x16 v, int n) {
  return {{v.q[0] << n, v.q[1] << n, v.q[2] << n, v.q[3] << n}};
}
[[gnu::always_inline]] inline int32x4_t shift_right(int32x4_t v, int n) {
  return vreinterpretq_s32_u32(vreinterpretq_u32_s32(v) >> static_cast<unsigned>(n));
}
[[gnu::always_inline]] inline i32x16 shift_right(i32x16 v, int n) {
  return {{shift_right(v.q[0], n), shift_right(v.q[1], n), shift_right(v.q[2], n), shift_right(v.q[3], n)}};
}
[[gnu::always_inline]] inline int32x4_t bits_of(int32x4_t v, int shift, int width) {
  const int32x4_t s = shift_right(v, shift);
  return shift + width == 32 ? s : vandq_s32(s, vdupq_n_s32((1 << width) - 1));
}
[[gnu::always_inline]] inline i32x16 bits_of(i32x16 v, int shift, int width) {
  return {{bits_of(v.q[0], shift, width), bits_of(v.q[1], shift, width), bits_of(v.q[2], shift, width),
           bits_of(v.q[3], shift, width)}};
}
/// v << n in every lane, n of that lane. The instruction takes the low byte of n, with a sign: 32 stands for all
/// counts that shift everything away.
[[gnu::always_inline]] inline int32x4_t shift_left_each(int32x4_t v, int32x4_t n) {
  const uint32x4_t count = vminq_u32(vreinterpretq_u32_s32(n), vdupq_n_u32(32));
  return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vreinterpretq_s32_u32(count)));
}
[[gnu::always_inline]] inline int32x4_t shift_right_each(int32x4_t v, int32x4_t n) {
  const uint32x4_t count = vminq_u32(vreinterpretq_u32_s32(n), vdupq_n_u32(32));
  return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(v), vnegq_s32(vreinterpretq_s32_u32(count))));
}
/// v >> n or v << n within every lane, n of that lane; 0 where n is not 0..31.
[[gnu::always_inline]] inline i32x16 shift_right_each(i32x16 v, i32x16 n) {
  return {{shift_right_each(v.q[0], n.q[0]), shift_right_each(v.q[1], n.q[1]),
           shift_right_each(v.q[2], n.q[2]), shift_right_each(v.q[3], n.q[3])}};
}
[[gnu::always_inline]] inline i32x16 shift_left_each(i32x16 v, i32x16 n) {
  return {{shift_left_each(v.q[0], n.q[0]), shift_left_each(v.q[1], n.q[1]), shift_left_each(v.q[2], n.q[2]),
           shift_left_each(v.q[3], n.q[3])}};
}
/// In every byte: the field of `width` bits at bit `from`, moved to bit `to`.
[[gnu::always_inline]] inline int32x4_t byte_fields(int32x4_t v, int from, int width, int to) {
  uint8x16_t b = vreinterpretq_u8_s32(v);
  if (from > to) b = b >> static_cast<std::uint8_t>(from - to);
  if (from < to) b = b << static_cast<std::uint8_t>(to - from);
  // Shifts of bytes fill with zeros: no mask where the field starts and ends at the borders of its byte.
  const bool whole = from < to ? from == 0 && to + width == 8 : to == 0 && from + width == 8;
  if (!whole) b = vandq_u8(b, vdupq_n_u8(static_cast<std::uint8_t>(((1 << width) - 1) << to)));
  return vreinterpretq_s32_u8(b);
}
[[gnu::always_inline]] inline i32x16 byte_fields(i32x16 v, int from, int width, int to) {
  return {{byte_fields(v.q[0], from, width, to), byte_fields(v.q[1], from, width, to),
           byte_fields(v.q[2], from, width, to), byte_fields(v.q[3], from, width, to)}};
}

[[gnu::always_inline]] inline float32x4_t half_to_float(uint16x4_t v) {
  return vcvt_f32_f16(vreinterpret_f16_u16(v));
}
[[gnu::always_inline]] inline f32x16 half_to_float(i32x16 v) {
  return {{half_to_float(vmovn_u32(vreinterpretq_u32_s32(v.q[0]))),
           half_to_float(vmovn_u32(vreinterpretq_u32_s32(v.q[1]))),
           half_to_float(vmovn_u32(vreinterpretq_u32_s32(v.q[2]))),
           half_to_float(vmovn_u32(vreinterpretq_u32_s32(v.q[3])))}};
}
/// 16 bytes at any address.
[[gnu::always_inline]] inline uint8x16_t load_quarter(const void* p) {
  return vld1q_u8(static_cast<const std::uint8_t*>(p));
}
/// 16 elements of Bytes bytes, zero-extended.
template <int Bytes>
[[gnu::always_inline]] inline i32x16 load_elements(const std::byte* p) {
  if constexpr (Bytes == 4) {
    return {{vreinterpretq_s32_u8(load_quarter(p)), vreinterpretq_s32_u8(load_quarter(p + 16)),
             vreinterpretq_s32_u8(load_quarter(p + 32)), vreinterpretq_s32_u8(load_quarter(p + 48))}};
  } else {
    uint16x8_t low, high;
    if constexpr (Bytes == 2) {
      low = vreinterpretq_u16_u8(load_quarter(p));
      high = vreinterpretq_u16_u8(load_quarter(p + 16));
    } else {
      const uint8x16_t v = load_quarter(p);
      low = vmovl_u8(vget_low_u8(v));
      high = vmovl_u8(vget_high_u8(v));
    }
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
             vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
             vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
             vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
  }
}
[[gnu::always_inline]] inline f32x16 load_half(const std::byte* p) {
  const uint16x8_t low = vreinterpretq_u16_u8(load_quarter(p));
  const uint16x8_t high = vreinterpretq_u16_u8(load_quarter(p + 16));
  return {{half_to_float(vget_low_u16(low)), half_to_float(vget_high_u16(low)),
           half_to_float(vget_low_u16(high)), half_to_float(vget_high_u16(high))}};
}

/// 4 index .. 4 index + 3 in the bytes of every lane.
[[gnu::always_inline]] inline uint8x16_t byte_index(int32x4_t index) {
  return vreinterpretq_u8_u32(
      vmlaq_n_u32(vdupq_n_u32(0x03020100u), vreinterpretq_u32_s32(index), 0x04040404u));
}
/// table[index] of every lane; anything where index is not 0..15.
[[gnu::always_inline]] inline i32x16 lookup(i32x16 table, i32x16 index) {
  const uint8x16_t at[4] = {byte_index(index.q[0]), byte_index(index.q[1]), byte_index(index.q[2]),
                            byte_index(index.q[3])};
#if defined(__GNUC__) && !defined(__clang__)
  // Written out, because g++ 12 puts four registers in a row by way of memory, once for every instruction.
  i32x16 out;
  register int32x4_t t0 __asm__("v16") = table.q[0];
  register int32x4_t t1 __asm__("v17") = table.q[1];
  register int32x4_t t2 __asm__("v18") = table.q[2];
  register int32x4_t t3 __asm__("v19") = table.q[3];
  __asm__(
      "tbl %0.16b, {v16.16b - v19.16b}, %4.16b\n\t"
      "tbl %1.16b, {v16.16b - v19.16b}, %5.16b\n\t"
      "tbl %2.16b, {v16.16b - v19.16b}, %6.16b\n\t"
      "tbl %3.16b, {v16.16b - v19.16b}, %7.16b"
      : "=&w"(out.q[0]), "=&w"(out.q[1]), "=&w"(out.q[2]), "=w"(out.q[3])
      : "w"(at[0]), "w"(at[1]), "w"(at[2]), "w"(at[3]), "w"(t0), "w"(t1), "w"(t2), "w"(t3));
  return out;
#else
  const uint8x16x4_t bytes = {{vreinterpretq_u8_s32(table.q[0]), vreinterpretq_u8_s32(table.q[1]),
                               vreinterpretq_u8_s32(table.q[2]), vreinterpretq_u8_s32(table.q[3])}};
  return {{vreinterpretq_s32_u8(vqtbl4q_u8(bytes, at[0])), vreinterpretq_s32_u8(vqtbl4q_u8(bytes, at[1])),
           vreinterpretq_s32_u8(vqtbl4q_u8(bytes, at[2])), vreinterpretq_s32_u8(vqtbl4q_u8(bytes, at[3]))}};
#endif
}
/// Whether a lookup costs less than a mask and a conversion: one instruction, but of several steps on most cores.
inline constexpr bool lookup_is_cheap = false;
[[gnu::always_inline]] inline f32x16 lookup(f32x16 table, i32x16 index) {
  return as_float(lookup(as_int(table), index));
}

[[gnu::always_inline]] inline lane_mask nonzero(i32x16 v) {
  const uint16x8_t low =
      vcombine_u16(vmovn_u32(vtstq_s32(v.q[0], v.q[0])), vmovn_u32(vtstq_s32(v.q[1], v.q[1])));
  const uint16x8_t high =
      vcombine_u16(vmovn_u32(vtstq_s32(v.q[2], v.q[2])), vmovn_u32(vtstq_s32(v.q[3], v.q[3])));
  const uint8x8_t weight = {1, 2, 4, 8, 16, 32, 64, 128};
  return static_cast<lane_mask>(vaddv_u8(vand_u8(vmovn_u16(low), weight)) |
                                vaddv_u8(vand_u8(vmovn_u16(high), weight)) << 8);
}
/// v in the lanes of m, 0 in the others.
[[gnu::always_inline]] inline i32x16 keep(i32x16 v, lane_mask m) {
  const uint32x4_t all = vdupq_n_u32(m),
                   row[4] = {
                       {1, 2, 4, 8}, {16, 32, 64, 128}, {256, 512, 1024, 2048}, {4096, 8192, 16384, 32768}};
  return {{vandq_s32(v.q[0], vreinterpretq_s32_u32(vtstq_u32(all, row[0]))),
           vandq_s32(v.q[1], vreinterpretq_s32_u32(vtstq_u32(all, row[1]))),
           vandq_s32(v.q[2], vreinterpretq_s32_u32(vtstq_u32(all, row[2]))),
           vandq_s32(v.q[3], vreinterpretq_s32_u32(vtstq_u32(all, row[3])))}};
}
[[gnu::always_inline]] inline f32x16 keep(f32x16 v, lane_mask m) { return as_float(keep(as_int(v), m)); }
[[gnu::always_inline]] inline int32x4_t lowest_bit(int32x4_t v) { return vandq_s32(v, vnegq_s32(v)); }
/// The lowest set bit of every lane alone.
[[gnu::always_inline]] inline i32x16 lowest_bit(i32x16 v) {
  return {{lowest_bit(v.q[0]), lowest_bit(v.q[1]), lowest_bit(v.q[2]), lowest_bit(v.q[3])}};
}
/// 15 - the number of the only set bit, of at most 16; lanes of zero give anything.
[[gnu::always_inline]] inline i32x16 mirrored_bit(i32x16 one) {
  const int32x4_t above = vdupq_n_s32(16);
  return {{vsubq_s32(vclzq_s32(one.q[0]), above), vsubq_s32(vclzq_s32(one.q[1]), above),
           vsubq_s32(vclzq_s32(one.q[2]), above), vsubq_s32(vclzq_s32(one.q[3]), above)}};
}
/// a where `pick` is not 0, else b.
[[gnu::always_inline]] inline i32x16 choose(i32x16 pick, i32x16 a, i32x16 b) {
  return {{vbslq_s32(vtstq_s32(pick.q[0], pick.q[0]), a.q[0], b.q[0]),
           vbslq_s32(vtstq_s32(pick.q[1], pick.q[1]), a.q[1], b.q[1]),
           vbslq_s32(vtstq_s32(pick.q[2], pick.q[2]), a.q[2], b.q[2]),
           vbslq_s32(vtstq_s32(pick.q[3], pick.q[3]), a.q[3], b.q[3])}};
}
/// In the lanes of m: how many lanes below are in m; 0 in the others.
[[gnu::always_inline]] inline i32x16 ranks(lane_mask m) {
  const uint8x16_t weight = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128}, none = vdupq_n_u8(0);
  const uint8x16_t bits = vcombine_u8(vdup_n_u8(static_cast<std::uint8_t>(m & 255)),
                                      vdup_n_u8(static_cast<std::uint8_t>(m >> 8)));
  const uint8x16_t in = vtstq_u8(bits, weight);
  // -1 for every lane below that is in m: sums of 1, 2, 4, 8, 16 neighbours.
  uint8x16_t sum = vextq_u8(none, in, 15);
  sum = vaddq_u8(sum, vextq_u8(none, sum, 15));
  sum = vaddq_u8(sum, vextq_u8(none, sum, 14));
  sum = vaddq_u8(sum, vextq_u8(none, sum, 12));
  sum = vaddq_u8(sum, vextq_u8(none, sum, 8));
  const uint8x16_t rank = vandq_u8(vsubq_u8(none, sum), in);
  const uint16x8_t low = vmovl_u8(vget_low_u8(rank)), high = vmovl_u8(vget_high_u8(rank));
  return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
           vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
           vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
           vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high)))}};
}

/// 16 bytes in each quarter.
[[gnu::always_inline]] inline i32x16 broadcast_quarter(const void* p) {
  const int32x4_t v = vreinterpretq_s32_u8(load_quarter(p));
  return {{v, v, v, v}};
}
/// 8 bytes in each half of every quarter.
[[gnu::always_inline]] inline i32x16 broadcast_eighth(const void* p) {
  const uint8x8_t half = vld1_u8(static_cast<const std::uint8_t*>(p));
  const int32x4_t v = vreinterpretq_s32_u8(vcombine_u8(half, half));
  return {{v, v, v, v}};
}
[[gnu::always_inline]] inline int32x4_t shuffle_bytes(int32x4_t v, int32x4_t control) {
  return vreinterpretq_s32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(v), vreinterpretq_u8_s32(control)));
}
/// Byte i of every quarter = byte (control, 0..15) of the same quarter of v.
[[gnu::always_inline]] inline i32x16 shuffle_bytes(i32x16 v, i32x16 control) {
  return {{shuffle_bytes(v.q[0], control.q[0]), shuffle_bytes(v.q[1], control.q[1]),
           shuffle_bytes(v.q[2], control.q[2]), shuffle_bytes(v.q[3], control.q[3])}};
}
/// The low byte of every lane, saturated from int.
[[gnu::always_inline]] inline void store_bytes(std::int8_t* p, i32x16 v) {
  const int16x8_t low = vcombine_s16(vqmovn_s32(v.q[0]), vqmovn_s32(v.q[1]));
  const int16x8_t high = vcombine_s16(vqmovn_s32(v.q[2]), vqmovn_s32(v.q[3]));
  vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}
/// c + a * b for whole numbers of at most 15 bits and sign.
[[gnu::always_inline]] inline i32x16 multiply_add_short(i32x16 a, i32x16 b, i32x16 c) {
  return {{vmlaq_s32(c.q[0], a.q[0], b.q[0]), vmlaq_s32(c.q[1], a.q[1], b.q[1]),
           vmlaq_s32(c.q[2], a.q[2], b.q[2]), vmlaq_s32(c.q[3], a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline int32x4_t add_bytes(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_u8(vaddq_u8(vreinterpretq_u8_s32(a), vreinterpretq_u8_s32(b)));
}
[[gnu::always_inline]] inline i32x16 add_bytes(i32x16 a, i32x16 b) {
  return {{add_bytes(a.q[0], b.q[0]), add_bytes(a.q[1], b.q[1]), add_bytes(a.q[2], b.q[2]),
           add_bytes(a.q[3], b.q[3])}};
}
[[gnu::always_inline]] inline int32x4_t multiply_words(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_u16(vmulq_u16(vreinterpretq_u16_s32(a), vreinterpretq_u16_s32(b)));
}
/// Low halves of the products of 16-bit words.
[[gnu::always_inline]] inline i32x16 multiply_words(i32x16 a, i32x16 b) {
  return {{multiply_words(a.q[0], b.q[0]), multiply_words(a.q[1], b.q[1]), multiply_words(a.q[2], b.q[2]),
           multiply_words(a.q[3], b.q[3])}};
}
/// Four bytes in every lane.
[[gnu::always_inline]] inline i32x16 broadcast_bytes(const std::int8_t* p) {
  int v;
  std::memcpy(&v, p, sizeof v);
  return broadcast(v);
}
[[gnu::always_inline]] inline int32x4_t dot_signed(int32x4_t d, int32x4_t w, int32x4_t s) {
  const int8x16_t a = vreinterpretq_s8_s32(w), b = vreinterpretq_s8_s32(s);
#if defined(__clang__) && __clang_major__ < 16
  return (int32x4_t)__builtin_neon_vdotq_v((int8x16_t)d, a, b, 34);  // its arm_neon.h hides vdotq_s32
#else
  return vdotq_s32(d, a, b);
#endif
}
/// d + the sum of four products of signed bytes, in every lane.
[[gnu::always_inline]] inline i32x16 dot_signed(i32x16 d, i32x16 w, i32x16 s) {
  return {{dot_signed(d.q[0], w.q[0], s.q[0]), dot_signed(d.q[1], w.q[1], s.q[1]),
           dot_signed(d.q[2], w.q[2], s.q[2]), dot_signed(d.q[3], w.q[3], s.q[3])}};
}
/// Tokens and registers of 16 rows that a batch keeps in registers at once: 16 of the 32 registers of 128 bits
/// hold sums of integers, 4 weights and 4 inputs.
inline constexpr int batch_tokens = 4, batch_vectors = 1;
[[gnu::always_inline]] inline void prefetch(const void* p) { __builtin_prefetch(p); }

#include <quern/kernel/cpu/isa/pack_by_lookup.inl>
