// SPDX-License-Identifier: Apache-2.0
// Codes and parameters of a slot as registers of 16 rows. Included like gemv.inl, after the operations of an
// instruction set; see docs/formats.md for where the bits lie.

/// The cells of 16 rows that stand side by side: lane r holds row r.
struct full_slot {
  static constexpr bool full = true, ranked = false;
  std::size_t first;  // number of its first cell
  inline explicit full_slot(std::size_t cell, lane_mask = 0xffff) : first(cell) {}
  static constexpr lane_mask rows() { return 0xffff; }
  static constexpr int count() { return lanes; }
  /// To the lanes of this slot: what is in the lanes of rows, and what is in the order of the cells.
  inline i32x16 from_rows(i32x16 v) const { return v; }
  template <class V>
  inline V from_cells(V v) const {
    return v;
  }
};
/// The cells of some of 16 rows, in the order in which they are stored: lane i holds the i-th row that has one, and lanes
/// without a cell hold anything. What comes of it is brought to its rows by spread_lanes(): once, not once per element.
struct packed_slot {
  static constexpr bool full = false, ranked = false;
  std::size_t first;
  lane_mask row_mask;
  int cell_count;
  inline packed_slot(std::size_t cell, lane_mask rows_with_one)
      : first(cell),
        row_mask(rows_with_one),
        cell_count(std::popcount(static_cast<unsigned>(rows_with_one))) {}
  inline lane_mask rows() const { return row_mask; }
  inline int count() const { return cell_count; }
  inline i32x16 from_rows(i32x16 v) const { return pack_lanes(v, row_mask); }
  template <class V>
  inline V from_cells(V v) const {
    return v;
  }
};
/// The same with every cell in the lane of its row; rows without one get what the first row has.
struct ranked_slot : packed_slot {
  static constexpr bool ranked = true;
  i32x16 rank;  // of a row among those that have a cell
  inline ranked_slot(std::size_t cell, lane_mask rows_with_one)
      : packed_slot(cell, rows_with_one), rank(ranks(rows_with_one)) {}
  inline i32x16 from_rows(i32x16 v) const { return v; }
  template <class V>
  inline V from_cells(V v) const {
    return lookup(v, rank);
  }
};

/// An element of Bytes bytes for every lane of a slot.
template <int Bytes, class Slot>
inline i32x16 elements(const std::byte* p, const Slot& s) {
  return s.from_cells(load_elements<Bytes>(p));
}

/// Where 16 fields of 4 bits lie that begin at the low (0) or the high half (1) of a byte: the byte of every lane, as the
/// lowest byte of a control of shuffle_bytes, and by how much to shift it.
struct alignas(64) half_byte_places {  // 16 numbers in a line of the cache: two lines take twice as long
  int byte[2][16], shift[2][16];
};
inline constexpr half_byte_places half_bytes = [] {
  half_byte_places p{};
  for (int odd = 0; odd < 2; ++odd)
    for (int i = 0; i < 16; ++i) p.byte[odd][i] = (odd + i) / 2, p.shift[odd][i] = (odd + i) % 2 * 4;
  return p;
}();
/// Field i of `bytes`, the same in every quarter, in lane i.
[[gnu::always_inline]] inline i32x16 half_bytes_in(i32x16 bytes, std::size_t odd) {
  return both(shift_right_each(shuffle_bytes(bytes, load(half_bytes.byte[odd])), load(half_bytes.shift[odd])),
              15);
}

/// Fields of a plain sequence of fields of Width bits, from field `first` on, for the lanes of a slot.
template <int Width, class Slot>
[[gnu::always_inline]] inline i32x16 sequence(const std::byte* p, std::size_t first, const Slot& s) {
  if constexpr (Width >= 8) {
    return elements<Width / 8>(p + first * (Width / 8), s);
  } else if constexpr (Width == 4 && Slot::full) {
    return half_bytes_in(broadcast_eighth(p + first / 2), 0);
  } else if constexpr (Width == 4) {
    // No branch: whether a slot of fewer than 16 cells starts within a byte is random.
    return s.from_cells(half_bytes_in(broadcast_quarter(p + first / 2), first % 2));
  } else {
    // 16 fields of at most 2 bits: at most 32 bits, starting anywhere within a byte.
    const std::size_t bit = first * Width;
    std::uint64_t v = 0;
    if constexpr (Slot::full) {
      // All 16, which begin with a byte, and nothing behind them: a stream of whole slots may end there.
      std::memcpy(&v, p + bit / 8, 16 * Width / 8);
    } else {
      std::memcpy(&v, p + bit / 8, sizeof v);
      v >>= bit % 8;
    }
    static constexpr int row_number[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    i32x16 at;
    if constexpr (Slot::ranked)
      at = s.rank;
    else
      at = load(row_number);
    return both(shift_right_each(broadcast(static_cast<int>(static_cast<std::uint32_t>(v))),
                                 shift_left(at, Width == 2 ? 1 : 0)),
                (1 << Width) - 1);
  }
}

/// Parameter `run` of Runs per cell, in fields of Width bits.
template <int Width, int Runs, class Slot>
inline i32x16 parameter(const std::byte* p, const Slot& s, int run) {
  if constexpr (Width >= 8 || Runs * Width % 8 != 0) {
    return sequence<Width>(p, s.first * Runs + static_cast<std::size_t>(run * s.count()), s);
  } else {
    constexpr int chunk = chunk_bytes(Width, Runs), per_chunk = chunk * 8 / Width;
    return bits_of(elements<chunk>(p + s.first * (Runs * Width / 8) +
                                       static_cast<std::size_t>(run / per_chunk * s.count() * chunk),
                                   s),
                   run % per_chunk * Width, Width);
  }
}

/// The codes of a slot: planes of 4, 2 and 1 bits.
template <int Bits, int CellCodes, class Slot>
struct slot_codes {
  const std::byte* plane[3];  // at the slot's first cell
  const Slot& cells;

  /// Code k of every lane.
  inline i32x16 operator[](int k) const {
    i32x16 v = code_in<0>(k);
    if constexpr (plane_count(Bits) > 1) v = either(v, shift_left(code_in<1>(k), plane_shift(Bits, 1)));
    if constexpr (plane_count(Bits) > 2) v = either(v, shift_left(code_in<2>(k), plane_shift(Bits, 2)));
    return v;
  }
  /// Code k in the lowest bits of a lane, bits of other codes above it (one plane).
  inline i32x16 unmasked(int k) const {
    constexpr int codes = chunk<0> * 8 / width<0>;
    const field f = locate(width<0>, CellCodes, {0, 0, 0}, k % codes);
    return shift_right(chunk_at<0>(k / codes), static_cast<int>(f.byte) * 8 + f.shift);
  }
  /// Codes 4k .. 4k + 3 of every lane, one per byte.
  inline i32x16 bytes(int k) const {
    i32x16 v = bytes_in<0>(k);
    if constexpr (plane_count(Bits) > 1) v = either(v, bytes_in<1>(k));
    if constexpr (plane_count(Bits) > 2) v = either(v, bytes_in<2>(k));
    return v;
  }
  /// Asks for as many lines of codes as a full slot takes, 4 KB ahead: the hardware's own prefetcher stops at
  /// pages. (4096 x 4096, cold, one thread, Zen 4: dense W2 445 us, with it 361; group<16> W4 564 and 474; 1 and 2 KB
  /// ahead gain less.)
  template <int I = 0>
  inline void prefetch_ahead() const {
    constexpr int bytes = CellCodes * width<I> * lanes / 8;
#pragma GCC unroll 32
    for (int line = 0; line < bytes; line += 64) prefetch(plane[I] + 4096 + line);
    if constexpr (I + 1 < plane_count(Bits)) prefetch_ahead<I + 1>();
  }
  /// Codes 4k .. 4k + 3 of 4 bits, k odd, in the high halves of bytes, which are 16 times as large.
  inline i32x16 high_halves(int k) const {
    static_assert(Bits == 4 && chunk<0> == 4);
    return both(chunk_at<0>(k / 2), static_cast<int>(0xf0f0f0f0u));
  }

 private:
  template <int I>
  static constexpr int width = plane_width(Bits, I);
  template <int I>
  static constexpr int chunk = chunk_bytes(width<I>, CellCodes);

  template <int I>
  inline i32x16 chunk_at(int t) const {
    return elements<chunk<I>>(plane[I] + t * chunk<I> * cells.count(), cells);
  }
  template <int I>
  inline i32x16 code_in(int k) const {
    if constexpr (CellCodes * width<I> < 8) {
      return sequence<CellCodes * width<I>>(plane[I], cells.first, cells);
    } else {
      constexpr int codes = chunk<I> * 8 / width<I>;
      const field f = locate(width<I>, CellCodes, {0, 0, 0}, k % codes);
      return bits_of(chunk_at<I>(k / codes), static_cast<int>(f.byte) * 8 + f.shift, width<I>);
    }
  }
  template <int I>
  inline i32x16 bytes_in(int k) const {
    constexpr int w = width<I>, to = plane_shift(Bits, I);
    if constexpr (chunk<I> == 4) {
      constexpr int steps = 8 / w;
      return byte_fields(chunk_at<I>(k / steps), k % steps * w, w, to);
    } else {
      static_assert(chunk<I> == 2);
      // Four columns of 4 bits become four bytes.
      constexpr int steps = 4 / w;
      i32x16 v = chunk_at<I>(k / steps);
      v = both(either(v, shift_left(v, 8)), 0x00ff00ff);
      v = both(either(v, shift_left(v, 4)), 0x0f0f0f0f);
      return byte_fields(v, k % steps * w, w, to);
    }
  }
};

template <int Bits, int CellCodes, class Slot>
inline slot_codes<Bits, CellCodes, Slot> codes_at(const std::byte* const (&plane)[3], const Slot& s) {
  slot_codes<Bits, CellCodes, Slot> c{{}, s};
  for (int i = 0; i < plane_count(Bits); ++i) {
    const int width = plane_width(Bits, i);
    c.plane[i] =
        plane[i] + (CellCodes * width < 8 ? 0 : s.first * static_cast<std::size_t>(CellCodes * width / 8));
  }
  return c;
}

/// Scale and zero code of a run in 16 lanes. `zero_code` is not set where the quantizer has none.
struct slot_params {
  f32x16 scale, offset;  // offset: f16_offset only
  i32x16 multiplier;     // two-level scales
  i32x16 zero_code;
};
template <class Q, int Runs, class Slot>
inline slot_params params_in(const std::byte* scale, const std::byte* zero_stream, const Slot& s, int run) {
  slot_params p{broadcast(1.0f), zero(), zero_int(), zero_int()};
  if constexpr (Q::run > 0) {
    if constexpr (Q::row_scaled) {
      p.multiplier = parameter<Q::scale_bits, Runs>(scale, s, run);
    } else if constexpr (Q::scale_code({1, 0}, 1) == to_f16(1).bits) {
      const std::byte* const at = scale + (s.first * Runs + static_cast<std::size_t>(run * s.count())) * 2;
      p.scale = s.from_cells(load_half(at));
    } else {
      p.scale = as_float(shift_left(parameter<16, Runs>(scale, s, run), 16));
    }
    if constexpr (Q::zero_bits == 16)
      p.offset = half_to_float(parameter<16, Runs>(zero_stream, s, run));
    else if constexpr (Q::zero_bits > 0)
      p.zero_code = parameter<Q::zero_bits, Runs>(zero_stream, s, run);
  }
  return p;
}

struct vector_params {
  f32x16 scale, offset;
};
/// The parameters of a run as numbers: a weight is scale * code + offset.
template <class Q>
inline vector_params floats(const slot_params& p, f32x16 row_scale) {
  vector_params v{p.scale, p.offset};
  if constexpr (Q::row_scaled) v.scale = multiply(to_float(p.multiplier), row_scale);
  if constexpr (Q::run > 0 && Q::zero_bits > 0 && Q::zero_bits < 16)
    v.offset = negate(multiply(v.scale, to_float(p.zero_code)));
  else if constexpr (requires { Q::zero; })
    v.offset = multiply(v.scale, broadcast(-static_cast<float>(Q::zero)));
  return v;
}

/// Calls f(number of the first cell, unit) for the slots of a tile whose rows share their columns, in order.
template <class P, class Q, class F>
[[gnu::always_inline]] inline void for_each_shared(const matrix_view<P, Q>& w, std::size_t tile, F&& f) {
  if constexpr (P::kind == survivors::all) {
    const std::size_t units = layout<P, Q>::cells_per_row(w.cols());
    for (std::size_t u = 0; u < units; ++u) f((tile * units + u) * lanes, u);
  } else {
    constexpr std::size_t parts = static_cast<std::size_t>(P::unit_rows) / lanes;
    const std::size_t end = w.begin(tile / parts + 1);
    for (std::size_t j = w.begin(tile / parts); j < end; ++j)
      f((j * parts + tile % parts) * lanes, w.block_column(j));
  }
}

/// Calls f(slot, window, place) for the slots of windows [from, end) of a tile of a `masked` pattern, in order, and
/// start(window) before the first of each window that has any. The place in the lane of a cell is 15 - the number of its
/// unit in the window, in the lowest four bits. Slots of fewer than 16 rows are Partial. `first` is the number of the
/// first cell, and then of the one after the last.
template <class Partial, class P, class Q, class Start, class F>
[[gnu::always_inline]] inline void for_each_slot(const matrix_view<P, Q>& w, std::size_t tile,
                                                 std::size_t from, std::size_t end, std::size_t& first,
                                                 Start&& start, F&& f) {
  using l = layout<P, Q>;
  const std::byte* masks =
      w[stream::index] + (tile * l::mask_windows(w.cols()) + from) * l::blocks_per_tile * 2;
  for (std::size_t window = from; window < end; ++window, masks += l::blocks_per_tile * 2) {
    i32x16 left;
    if constexpr (l::blocks_per_tile == lanes) {
      left = load_elements<2>(masks);
    } else {
      int bits[lanes];
      for (int lane = 0; lane < lanes; ++lane) {
        std::uint16_t m;
        std::memcpy(&m, masks + lane / P::unit_rows * 2, sizeof m);
        bits[lane] = m;
      }
      left = load(bits);
    }
    lane_mask rows = nonzero(left);
    if (rows == 0) continue;
    start(window);
    do {
      const i32x16 one = lowest_bit(left);
      const std::conditional_t<l::uniform, full_slot, Partial> s(first, rows);
      const i32x16 place = s.from_rows(mirrored_bit(one));
      // Before f, so that the next slot does not wait for this one.
      left = flip(left, one);
      rows = nonzero(left);
      f(s, window, place);
      first += static_cast<std::size_t>(s.count());
    } while (rows != 0);
  }
}
/// The same for all windows.
template <class Partial, class P, class Q, class Start, class F>
[[gnu::always_inline]] inline void for_each_slot(const matrix_view<P, Q>& w, std::size_t tile, Start&& start,
                                                 F&& f) {
  using l = layout<P, Q>;
  std::size_t first = l::uniform ? tile * lanes * l::uniform_cells(w.cols()) : w.begin(tile);
  for_each_slot<Partial>(w, tile, 0, l::mask_windows(w.cols()), first, start, f);
}

/// The first `rows` lanes, 16 at most, from y; the rest is 0.
inline f32x16 load_rows(const float* y, std::size_t rows) {
  if (rows >= lanes) return load(y);
  float in[lanes] = {};
  std::memcpy(in, y, rows * sizeof(float));
  return load(in);
}
/// The first `rows` lanes, 16 at most, to y.
inline void store_rows(float* y, f32x16 v, std::size_t rows) {
  if (rows >= lanes) return store(y, v);
  float out[lanes];
  store(out, v);
  std::memcpy(y, out, rows * sizeof(float));
}
