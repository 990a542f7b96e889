// SPDX-License-Identifier: Apache-2.0
// Operations on 16 lanes for 256-bit x86: two registers each. Included inside the namespace and target region of
// an instruction set. docs/adding_an_isa.md lists what every such file must provide.

/// 16 rows side by side: rows 0..7 and rows 8..15.
struct f32x16 {
  __m256 low, high;
};
struct i32x16 {
  __m256i low, high;
};
using lane_mask = std::uint16_t;

inline f32x16 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline i32x16 zero_int() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline f32x16 broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline i32x16 broadcast(int x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline f32x16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline __m128i load_64(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
inline __m128i load_128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i load_256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline i32x16 load(const int* p) { return {load_256(p), load_256(p + 8)}; }
inline void store(float* p, f32x16 v) {
  _mm256_storeu_ps(p, v.low);
  _mm256_storeu_ps(p + 8, v.high);
}
inline void store(int* p, i32x16 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), v.high);
}
inline f32x16 add(f32x16 a, f32x16 b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline i32x16 add(i32x16 a, i32x16 b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline f32x16 multiply(f32x16 a, f32x16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline i32x16 multiply(i32x16 a, i32x16 b) {
  return {_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high)};
}
inline f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline f32x16 negate(f32x16 a) {
  return {_mm256_sub_ps(_mm256_setzero_ps(), a.low), _mm256_sub_ps(_mm256_setzero_ps(), a.high)};
}
inline i32x16 negate(i32x16 a) {
  return {_mm256_sub_epi32(_mm256_setzero_si256(), a.low), _mm256_sub_epi32(_mm256_setzero_si256(), a.high)};
}
inline f32x16 to_float(i32x16 v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }
/// Rounded to nearest, ties to even.
inline i32x16 to_int(f32x16 v) { return {_mm256_cvtps_epi32(v.low), _mm256_cvtps_epi32(v.high)}; }
inline f32x16 as_float(i32x16 v) { return {_mm256_castsi256_ps(v.low), _mm256_castsi256_ps(v.high)}; }
inline i32x16 as_int(f32x16 v) { return {_mm256_castps_si256(v.low), _mm256_castps_si256(v.high)}; }
inline i32x16 shift_left(i32x16 v, int n) {
  const __m128i count = _mm_cvtsi32_si128(n);
  return {_mm256_sll_epi32(v.low, count), _mm256_sll_epi32(v.high, count)};
}
inline i32x16 shift_right(i32x16 v, int n) {
  const __m128i count = _mm_cvtsi32_si128(n);
  return {_mm256_srl_epi32(v.low, count), _mm256_srl_epi32(v.high, count)};
}
inline i32x16 either(i32x16 a, i32x16 b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
inline i32x16 both(i32x16 a, int bits) {
  const __m256i mask = _mm256_set1_epi32(bits);
  return {_mm256_and_si256(a.low, mask), _mm256_and_si256(a.high, mask)};
}
inline i32x16 flip(i32x16 a, i32x16 b) {
  return {_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)};
}
inline i32x16 flip(i32x16 a, int bits) { return flip(a, broadcast(bits)); }
inline i32x16 largest(i32x16 a, i32x16 b) {
  return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
}
inline int reduce_max(i32x16 v) {
  const __m256i eight = _mm256_max_epi32(v.low, v.high);
  __m128i top = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0x4e));  // the other two lanes
  top = _mm_max_epi32(top, _mm_shuffle_epi32(top, 0xb1));  // the neighbour
  return _mm_cvtsi128_si32(top);
}
inline int reduce_or(i32x16 v) {
  const __m256i eight = _mm256_or_si256(v.low, v.high);
  __m128i all = _mm_or_si128(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  all = _mm_or_si128(all, _mm_shuffle_epi32(all, 0x4e));
  all = _mm_or_si128(all, _mm_shuffle_epi32(all, 0xb1));
  return _mm_cvtsi128_si32(all);
}
inline int reduce_add(i32x16 v) {
  const __m256i eight = _mm256_add_epi32(v.low, v.high);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return _mm_cvtsi128_si32(sum);
}
inline float reduce_add(f32x16 v) {
  const __m256 eight = _mm256_add_ps(v.low, v.high);
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));  // the other two lanes
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
inline i32x16 bits_of(i32x16 v, int shift, int width) {
  if (shift != 0) v = shift_right(v, shift);
  return width == 32 || shift + width == 32 ? v : both(v, (1 << width) - 1);
}
/// v >> n or v << n within every lane, n of that lane; 0 where n is not 0..31.
inline i32x16 shift_right_each(i32x16 v, i32x16 n) {
  return {_mm256_srlv_epi32(v.low, n.low), _mm256_srlv_epi32(v.high, n.high)};
}
inline i32x16 shift_left_each(i32x16 v, i32x16 n) {
  return {_mm256_sllv_epi32(v.low, n.low), _mm256_sllv_epi32(v.high, n.high)};
}
/// In every byte: the field of `width` bits at bit `from`, moved to bit `to`.
inline i32x16 byte_fields(i32x16 v, int from, int width, int to) {
  const __m128i count = _mm_cvtsi32_si128(from > to ? from - to : to - from);
  if (from > to) v = {_mm256_srl_epi16(v.low, count), _mm256_srl_epi16(v.high, count)};
  if (from < to) v = {_mm256_sll_epi16(v.low, count), _mm256_sll_epi16(v.high, count)};
  if (width == 8) return v;
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(((1 << width) - 1) << to));
  return {_mm256_and_si256(v.low, mask), _mm256_and_si256(v.high, mask)};
}
inline f32x16 half_to_float(i32x16 v) {
  // Packing interleaves the quarters of its operands; the permutation puts them in order.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(v.low, v.high), 0xd8);
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(words)),
          _mm256_cvtph_ps(_mm256_extracti128_si256(words, 1))};
}
inline f32x16 load_half(const std::byte* p) {
  return {_mm256_cvtph_ps(load_128(p)), _mm256_cvtph_ps(load_128(p + 16))};
}
/// A lookup is four permutations and two blends: converting a code to float takes less.
inline constexpr bool lookup_is_cheap = false;
/// table[index & 15] of every lane: from both halves of the table, bit 3 picks.
inline __m256 lookup_8(f32x16 table, __m256i index) {
  const __m256 low = _mm256_permutevar8x32_ps(table.low, index);
  const __m256 high = _mm256_permutevar8x32_ps(table.high, index);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
inline f32x16 lookup(f32x16 table, i32x16 index) {
  return {lookup_8(table, index.low), lookup_8(table, index.high)};
}
inline i32x16 lookup(i32x16 table, i32x16 index) { return as_int(lookup(as_float(table), index)); }
inline lane_mask nonzero(i32x16 v) {
  const i32x16 is_zero = {_mm256_cmpeq_epi32(v.low, _mm256_setzero_si256()),
                          _mm256_cmpeq_epi32(v.high, _mm256_setzero_si256())};
  const f32x16 signs = as_float(is_zero);
  return static_cast<lane_mask>(~(_mm256_movemask_ps(signs.low) | _mm256_movemask_ps(signs.high) << 8));
}
/// All bits of the lanes of m.
inline i32x16 lanes_of(lane_mask m) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return {_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(m), bit), bit),
          _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(m >> 8), bit), bit)};
}
/// v in the lanes of m, 0 in the others.
inline f32x16 keep(f32x16 v, lane_mask m) {
  const f32x16 mask = as_float(lanes_of(m));
  return {_mm256_and_ps(v.low, mask.low), _mm256_and_ps(v.high, mask.high)};
}
inline i32x16 keep(i32x16 v, lane_mask m) { return as_int(keep(as_float(v), m)); }
/// The lowest set bit of every lane alone.
inline i32x16 lowest_bit(i32x16 v) {
  const i32x16 minus = negate(v);
  return {_mm256_and_si256(v.low, minus.low), _mm256_and_si256(v.high, minus.high)};
}
/// 15 - the number of the only set bit, of at most 16; lanes of zero give anything.
inline i32x16 mirrored_bit(i32x16 one) {
  const i32x16 exponent = bits_of(as_int(to_float(one)), 23, 9);  // of a power of two, and 127
  return add(broadcast(15 + 127), negate(exponent));
}
/// a where `pick` is not 0, else b.
inline i32x16 choose(i32x16 pick, i32x16 a, i32x16 b) {
  const __m256i none = _mm256_setzero_si256();
  return {_mm256_blendv_epi8(a.low, b.low, _mm256_cmpeq_epi32(pick.low, none)),
          _mm256_blendv_epi8(a.high, b.high, _mm256_cmpeq_epi32(pick.high, none))};
}
/// of[m][i] = set bits of m below bit i.
struct rank_bytes {
  std::uint8_t of[256][8];
};
constexpr rank_bytes count_ranks() {
  rank_bytes t{};
  for (unsigned m = 0; m < 256; ++m)
    for (unsigned i = 0; i + 1 < 8; ++i)
      t.of[m][i + 1] = static_cast<std::uint8_t>(t.of[m][i] + (m >> i & 1));
  return t;
}
inline constexpr rank_bytes rank_table = count_ranks();
/// In the lanes of m: how many lanes below are in m; 0 in the others.
inline i32x16 ranks(lane_mask m) {
  const unsigned low = m & 0xffu, high = static_cast<unsigned>(m) >> 8;
  const __m256i before = _mm256_set1_epi32(std::popcount(low));
  const i32x16 mask = lanes_of(m);
  return {_mm256_and_si256(mask.low, _mm256_cvtepu8_epi32(load_64(rank_table.of[low]))),
          _mm256_and_si256(mask.high,
                           _mm256_add_epi32(before, _mm256_cvtepu8_epi32(load_64(rank_table.of[high]))))};
}
/// 16 elements of Bytes bytes, zero-extended.
template <int Bytes>
inline i32x16 load_elements(const std::byte* p) {
  if constexpr (Bytes == 4)
    return {load_256(p), load_256(p + 32)};
  else if constexpr (Bytes == 2)
    return {_mm256_cvtepu16_epi32(load_128(p)), _mm256_cvtepu16_epi32(load_128(p + 16))};
  else
    return {_mm256_cvtepu8_epi32(load_64(p)), _mm256_cvtepu8_epi32(load_64(p + 8))};
}
/// Four bytes in every lane.
inline i32x16 broadcast_bytes(const std::int8_t* p) {
  int v;
  std::memcpy(&v, p, sizeof v);
  return broadcast(v);
}
/// 16 bytes in each quarter of the 16 lanes.
inline i32x16 broadcast_quarter(const void* p) {
  const __m256i v = _mm256_broadcastsi128_si256(load_128(p));
  return {v, v};
}
/// 8 bytes in each half of every quarter.
inline i32x16 broadcast_eighth(const void* p) {
  long long v;
  std::memcpy(&v, p, sizeof v);
  return {_mm256_set1_epi64x(v), _mm256_set1_epi64x(v)};
}
/// Byte i of every quarter = byte (control & 15) of the same quarter of v.
inline i32x16 shuffle_bytes(i32x16 v, i32x16 control) {
  return {_mm256_shuffle_epi8(v.low, control.low), _mm256_shuffle_epi8(v.high, control.high)};
}
/// The low byte of every lane, saturated from int.
inline void store_bytes(std::int8_t* p, i32x16 v) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.low, v.high), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
/// c + a * b for whole numbers of at most 15 bits and sign, of which one is not negative: the high words are
/// multiplied as well.
inline i32x16 multiply_add_short(i32x16 a, i32x16 b, i32x16 c) {
  return {_mm256_add_epi32(c.low, _mm256_madd_epi16(a.low, b.low)),
          _mm256_add_epi32(c.high, _mm256_madd_epi16(a.high, b.high))};
}
inline i32x16 add_bytes(i32x16 a, i32x16 b) {
  return {_mm256_add_epi8(a.low, b.low), _mm256_add_epi8(a.high, b.high)};
}
/// Low halves of the products of 16-bit words.
inline i32x16 multiply_words(i32x16 a, i32x16 b) {
  return {_mm256_mullo_epi16(a.low, b.low), _mm256_mullo_epi16(a.high, b.high)};
}
/// Tokens and registers of 16 rows that a batch keeps in registers at once: 8 of the 16 registers hold sums.
inline constexpr int batch_tokens = 4, batch_vectors = 1;
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

#include <quern/kernel/cpu/isa/pack_by_lookup.inl>
