// SPDX-License-Identifier: Apache-2.0
// Cells to the first lanes and back, for registers that have lookups only. Included by them after their operations.

/// of[m]: numbers of the set bits of m in order, then zeros.
struct bit_lists {
  std::uint8_t of[256][8];
};
constexpr bit_lists list_bits() {
  bit_lists t{};
  for (unsigned m = 0; m < 256; ++m) {
    unsigned n = 0;
    for (unsigned i = 0; i < 8; ++i)
      if ((m >> i & 1) != 0) t.of[m][n++] = static_cast<std::uint8_t>(i);
  }
  return t;
}
inline constexpr bit_lists bit_list = list_bits();

/// The lanes of m in order in the first lanes; anything in the others.
[[gnu::always_inline]] inline i32x16 pack_lanes(i32x16 v, lane_mask m) {
  const unsigned low = m & 0xffu, high = static_cast<unsigned>(m) >> 8;
  std::uint64_t first, second;
  std::memcpy(&first, bit_list.of[low], sizeof first);
  std::memcpy(&second, bit_list.of[high], sizeof second);
  second |= 0x0808080808080808u;
  // Behind the bytes of `first`; in two shifts, as a shift by 64 is none.
  const int half = 4 * std::popcount(low);
  const std::uint64_t lanes_of_m[2] = {first | second << half << half, second >> (32 - half) >> (32 - half)};
  return lookup(v, load_elements<1>(reinterpret_cast<const std::byte*>(lanes_of_m)));
}
/// The first lanes to the lanes of m in order; 0 in the others.
[[gnu::always_inline]] inline f32x16 spread_lanes(f32x16 v, lane_mask m) {
  return keep(lookup(v, ranks(m)), m);
}
