// SPDX-License-Identifier: Apache-2.0
// Operations on 16 lanes for 512-bit x86, included inside the namespace and target region of an instruction set.
// docs/adding_an_isa.md lists what every such file must provide.

/// 16 rows side by side.
using f32x16 = __m512;
using i32x16 = __m512i;
using lane_mask = __mmask16;

inline f32x16 zero() { return _mm512_setzero_ps(); }
inline i32x16 zero_int() { return _mm512_setzero_si512(); }
inline f32x16 broadcast(float x) { return _mm512_set1_ps(x); }
inline i32x16 broadcast(int x) { return _mm512_set1_epi32(x); }
inline f32x16 load(const float* p) { return _mm512_loadu_ps(p); }
inline i32x16 load(const int* p) { return _mm512_loadu_si512(p); }
inline void store(float* p, f32x16 v) { _mm512_storeu_ps(p, v); }
inline void store(int* p, i32x16 v) { _mm512_storeu_si512(p, v); }
inline f32x16 add(f32x16 a, f32x16 b) { return _mm512_add_ps(a, b); }
inline i32x16 add(i32x16 a, i32x16 b) { return _mm512_add_epi32(a, b); }
inline f32x16 multiply(f32x16 a, f32x16 b) { return _mm512_mul_ps(a, b); }
inline i32x16 multiply(i32x16 a, i32x16 b) { return _mm512_mullo_epi32(a, b); }
inline f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) { return _mm512_fmadd_ps(a, b, c); }
inline f32x16 negate(f32x16 a) { return _mm512_sub_ps(_mm512_setzero_ps(), a); }
inline i32x16 negate(i32x16 a) { return _mm512_sub_epi32(_mm512_setzero_si512(), a); }
inline f32x16 to_float(i32x16 v) { return _mm512_cvtepi32_ps(v); }
/// Rounded to nearest, ties to even.
inline i32x16 to_int(f32x16 v) { return _mm512_cvtps_epi32(v); }
inline f32x16 as_float(i32x16 v) { return _mm512_castsi512_ps(v); }
inline i32x16 as_int(f32x16 v) { return _mm512_castps_si512(v); }
inline i32x16 shift_left(i32x16 v, int n) { return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n)); }
inline i32x16 either(i32x16 a, i32x16 b) { return _mm512_or_si512(a, b); }
inline i32x16 both(i32x16 a, int bits) { return _mm512_and_si512(a, _mm512_set1_epi32(bits)); }
inline i32x16 flip(i32x16 a, i32x16 b) { return _mm512_xor_si512(a, b); }
inline i32x16 flip(i32x16 a, int bits) { return flip(a, broadcast(bits)); }
inline i32x16 largest(i32x16 a, i32x16 b) { return _mm512_max_epi32(a, b); }
inline int reduce_max(i32x16 v) { return _mm512_reduce_max_epi32(v); }
inline int reduce_or(i32x16 v) { return _mm512_reduce_or_epi32(v); }
inline int reduce_add(i32x16 v) { return _mm512_reduce_add_epi32(v); }
inline float reduce_add(f32x16 v) { return _mm512_reduce_add_ps(v); }
inline i32x16 bits_of(i32x16 v, int shift, int width) {
  const i32x16 s = shift == 0 ? v : _mm512_srl_epi32(v, _mm_cvtsi32_si128(shift));
  return width == 32 || shift + width == 32 ? s : _mm512_and_si512(s, _mm512_set1_epi32((1 << width) - 1));
}
/// v >> n or v << n within every lane, n of that lane; 0 where n is not 0..31.
inline i32x16 shift_right_each(i32x16 v, i32x16 n) { return _mm512_srlv_epi32(v, n); }
inline i32x16 shift_left_each(i32x16 v, i32x16 n) { return _mm512_sllv_epi32(v, n); }
/// In every byte: the field of `width` bits at bit `from`, moved to bit `to`.
inline i32x16 byte_fields(i32x16 v, int from, int width, int to) {
  if (from > to) v = _mm512_srl_epi16(v, _mm_cvtsi32_si128(from - to));
  if (from < to) v = _mm512_sll_epi16(v, _mm_cvtsi32_si128(to - from));
  return width == 8 ? v : _mm512_and_si512(v, _mm512_set1_epi8(static_cast<char>(((1 << width) - 1) << to)));
}
inline f32x16 half_to_float(i32x16 v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
inline f32x16 load_half(const std::byte* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
/// table[index & 15] of every lane.
inline f32x16 lookup(f32x16 table, i32x16 index) { return _mm512_permutexvar_ps(index, table); }
inline i32x16 lookup(i32x16 table, i32x16 index) { return _mm512_permutexvar_epi32(index, table); }
/// Whether a lookup costs less than a mask and a conversion.
inline constexpr bool lookup_is_cheap = true;
inline i32x16 shift_right(i32x16 v, int n) { return n == 0 ? v : _mm512_srl_epi32(v, _mm_cvtsi32_si128(n)); }
inline lane_mask nonzero(i32x16 v) { return _mm512_test_epi32_mask(v, v); }
/// v in the lanes of m, 0 in the others.
inline f32x16 keep(f32x16 v, lane_mask m) { return _mm512_maskz_mov_ps(m, v); }
inline i32x16 keep(i32x16 v, lane_mask m) { return _mm512_maskz_mov_epi32(m, v); }
/// The lowest set bit of every lane alone.
inline i32x16 lowest_bit(i32x16 v) {
  return _mm512_and_si512(v, _mm512_sub_epi32(_mm512_setzero_si512(), v));
}
/// 15 - the number of the only set bit in the lowest four bits, which are those that lookup() reads; lanes of zero give
/// anything.
inline i32x16 mirrored_bit(i32x16 one) { return _mm512_lzcnt_epi32(one); }
/// a where `pick` is not 0, else b.
inline i32x16 choose(i32x16 pick, i32x16 a, i32x16 b) { return _mm512_mask_blend_epi32(nonzero(pick), b, a); }
// Written out with a zero before: on Zen 4 expand and compress wait for what their destination held, even where they
// zero it (5 cycles one after the other, 1.3 to 1.7 with the zero, measured), and g++ likes to reuse the register that a
// slot ends with.
#define QUERN_AFTER_ZERO(instruction, out, v, m) \
  __asm__("vpxord %x0, %x0, %x0\n\t" instruction " %1, %0%{%2%}%{z%}" : "=&v"(out) : "v"(v), "Yk"(m))
/// In the lanes of m: how many lanes below are in m; 0 in the others.
inline i32x16 ranks(lane_mask m) {
  const i32x16 lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  i32x16 out;
  QUERN_AFTER_ZERO("vpexpandd", out, lane, m);
  return out;
}
/// The lanes of m in order in the first lanes; 0 in the others.
inline i32x16 pack_lanes(i32x16 v, lane_mask m) {
  i32x16 out;
  QUERN_AFTER_ZERO("vpcompressd", out, v, m);
  return out;
}
/// The first lanes to the lanes of m in order; 0 in the others.
inline f32x16 spread_lanes(f32x16 v, lane_mask m) {
  f32x16 out;
  QUERN_AFTER_ZERO("vexpandps", out, v, m);
  return out;
}
#undef QUERN_AFTER_ZERO
/// 16 elements of Bytes bytes, zero-extended.
template <int Bytes>
inline i32x16 load_elements(const std::byte* p) {
  if constexpr (Bytes == 4)
    return _mm512_loadu_si512(p);
  else if constexpr (Bytes == 2)
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  else
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
/// 16 bytes in each quarter of the register.
inline i32x16 broadcast_quarter(const void* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
/// 8 bytes in each half of every quarter.
inline i32x16 broadcast_eighth(const void* p) {
  long long v;
  std::memcpy(&v, p, sizeof v);
  return _mm512_set1_epi64(v);
}
/// Byte i of every quarter = byte (control & 15) of the same quarter of v.
inline i32x16 shuffle_bytes(i32x16 v, i32x16 control) { return _mm512_shuffle_epi8(v, control); }
/// The low byte of every lane, saturated from int.
inline void store_bytes(std::int8_t* p, i32x16 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v));
}
/// c + a * b for whole numbers of at most 15 bits and sign, one of which is not negative (its high half is 0).
inline i32x16 multiply_add_short(i32x16 a, i32x16 b, i32x16 c) {
  return _mm512_add_epi32(c, _mm512_madd_epi16(a, b));
}
inline i32x16 add_bytes(i32x16 a, i32x16 b) { return _mm512_add_epi8(a, b); }
/// Low halves of the products of 16-bit words.
inline i32x16 multiply_words(i32x16 a, i32x16 b) { return _mm512_mullo_epi16(a, b); }
/// Tokens and registers of 16 rows that a batch keeps in registers at once, if integers are all it keeps, and
/// with sums in float beside them.
inline constexpr int batch_tokens = 12, batch_vectors = 2;
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
