// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::weight_window<F, T> v(buffer, lane);          // after the wait and a barrier
// v.enter(unit);  v.enter_run(run, scale);
// quern::cuda::registers<4> a = v.half_fragment(j);   // A of mma.sync

#include <bit>
#include <quern/kernel/cuda/decode.hpp>
#include <quern/kernel/cuda/gemm_format.hpp>
#include <quern/quant/scale.hpp>

namespace quern::inline v0 {
namespace cuda {

/// A staged window as one lane reads it.
template <class F, class T>
class weight_window {
 public:
  using Q = typename F::quantizer;
  QUERN_HD weight_window(const unsigned char* buffer, unsigned lane)
      : buffer_(buffer),
        lane_(lane),
        h_(reinterpret_cast<const typename F::header*>(buffer)),
        units_(h_->units) {}

  /// Whether any row of the tile has unit @p unit of the window.
  QUERN_HD bool has(unsigned unit) const { return (units_ >> unit & 1) != 0; }

  /// Finds the cells of the lane's two rows in unit @p unit, which some row has.
  QUERN_HD void enter(unsigned unit) {
    const unsigned g = lane_ / 4;
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned row = static_cast<unsigned>(tile_row(static_cast<int>(g + 8 * i)));
      spot s{true, unit * lanes, lanes, row};
      if constexpr (F::kind == survivors::listed)
        s.first = static_cast<unsigned>(std::popcount(units_ & ((1u << unit) - 1))) * lanes;
      if constexpr (F::kind == survivors::masked) {
        const std::uint32_t mask = h_->mask[row];
        s.stored = (mask >> unit & 1) != 0;
        const unsigned slot = static_cast<unsigned>(std::popcount(mask & ((1u << unit) - 1)));
        s.first = slot * lanes;
        if constexpr (F::compact) {
          const typename F::header::slot t = h_->slots[slot & 15];
          s.first = t.base;
          s.count = static_cast<unsigned>(std::popcount(static_cast<std::uint32_t>(t.rows)));
          s.rank = static_cast<unsigned>(std::popcount(t.rows & ((1u << row) - 1)));
        }
      }
      at_[i] = s;
    }
  }

  /// Scale of rows g and g + 8 of the fragment for run @p run of the cell; prepares `half_fragment` for that run.
  QUERN_HD void enter_run(unsigned run, float (&scale)[2]) {
    for (int i = 0; i < 2; ++i) {
      scale[i] = 0;
      zero_[i] = 0;
      if (!stored(i)) continue;
      const std::uint32_t code = param<Q::scale_bits, typename F::scales>(F::at_scales, at_[i], run);
      if constexpr (Q::zero_bits > 0)
        zero_[i] = param<Q::zero_bits, typename F::zeros>(F::at_zeros, at_[i], run);
      else
        zero_[i] = Q::zero;
      // A two-level scale is its multiplier here; the row's scale is applied to the whole sum.
      if constexpr (std::same_as<typename Q::policy, scale_policy<f16>>)
        scale[i] = widen(f16{static_cast<std::uint16_t>(code)});
      else
        scale[i] = Q::policy::decode(code, 1);
    }
  }

  /// A of mma.sync: codes 16 j .. of the cells of all rows, decoded to code - zero; zeros where a row has no cell.
  QUERN_HD registers<4> half_fragment(int j) const {
    registers<4> a;
    if constexpr (F::plain) {
      for (int n = 0; n < 2; ++n) {
        const registers<2> rows = chunks<0>(fragment_plane<16, F::l::cell_codes>::chunk_at(j, column(), n));
        a.word[2 * n] = rows.word[0];
        a.word[2 * n + 1] = rows.word[1];
      }
    } else {
      const registers<2> codes = half_codes<0>(j);
      for (int i = 0; i < 2; ++i) {
        registers<2> row{};
        if (stored(i)) row = decoded<T, Q::bits>(zero_[i])(codes.word[i]);
        a.word[i] = row.word[0];
        a.word[2 + i] = row.word[1];
      }
    }
    return a;
  }

  /// Metadata of mma.sp for the kept codes that `half_fragment` decodes.
  QUERN_HD std::uint32_t metadata() const {
    return metadata_of_halves(static_cast<int>(lane_), window_nibbles(positions(at_[0])),
                              window_nibbles(positions(at_[1])));
  }

  /// Half of A of mma.sync for bytes: codes 16 j .. of the cells of all rows as code - zero.
  QUERN_HD registers<2> byte_fragment(int j) const {
    registers<2> a = byte_codes<0>(j);
    for (int i = 0; i < 2; ++i) a.word[i] = stored(i) ? signed_codes<Q::bits>(a.word[i], zero_[i]) : 0;
    return a;
  }
  /// Metadata of mma.sp for bytes, whose two halves of A are units @p unit and @p unit + 1: every lane has one row
  /// of one of them. Past the last unit A is zero, but positions must be valid all the same.
  QUERN_HD std::uint32_t byte_metadata(unsigned unit) const {
    const place p = fragment<8>::metadata(static_cast<int>(lane_), 0);
    const unsigned own = unit + static_cast<unsigned>(p.col / 8);
    constexpr std::uint32_t first_two = 0x44444444u;
    if (!has(own)) return first_two;
    return window_nibbles(positions({true, own * lanes, lanes, static_cast<unsigned>(tile_row(p.row))}));
  }

 private:
  /// Where a row has its cell: in the slot of `count` cells from `first` (relative to the window) it is number rank.
  struct spot {
    bool stored;
    unsigned first, count, rank;
  };
  /// Whether row g (i = 0) or g + 8 has a cell in the unit; a constant where all rows share their units.
  QUERN_HD bool stored(int i) const { return F::kind != survivors::masked || at_[i].stored; }
  QUERN_HD int column() const { return static_cast<int>(lane_ % 4); }
  template <class Word>
  QUERN_HD static Word read(const unsigned char* p) {
    Word v;
    __builtin_memcpy(&v, __builtin_assume_aligned(p, sizeof(Word)), sizeof(Word));
    return v;
  }
  QUERN_HD std::uint32_t positions(const spot& s) const {
    return read<std::uint32_t>(buffer_ + F::at_places + (F::places::skew(h_->first) + s.first + s.rank) * 4);
  }
  template <int Bits, class Stream>
  QUERN_HD std::uint32_t param(unsigned at, spot s, unsigned run) const {
    if constexpr (!F::l::params_in_cells) {
      s = {true, run * lanes, lanes, s.rank};
      run = 0;
    }
    const unsigned first = Stream::skew(F::l::params_in_cells ? h_->first : h_->field) + s.first;
    const field f =
        locate_param(Bits, F::l::params_in_cells ? F::l::runs_per_cell : 1,
                     {first, static_cast<int>(s.count), static_cast<int>(s.rank)}, static_cast<int>(run));
    const unsigned char* p = buffer_ + at + f.byte;
    if constexpr (Bits == 16)
      return read<std::uint16_t>(p);
    else
      return *p >> f.shift & ((1u << Bits) - 1);
  }
  template <int Plane>
  static constexpr int width = plane_width(Q::bits, Plane);
  template <int Plane>
  using staged = std::conditional_t<Plane == 0, typename F::codes0,
                                    std::conditional_t<Plane == 1, typename F::codes1, typename F::codes2>>;
  template <int Plane>
  static constexpr unsigned chunk_size = static_cast<unsigned>(chunk_bytes(width<Plane>, F::l::cell_codes));
  template <int Plane>
  QUERN_HD const unsigned char* chunk_address(const spot& s, int number) const {
    constexpr unsigned at = Plane == 0 ? F::at_codes0 : Plane == 1 ? F::at_codes1 : F::at_codes2;
    constexpr unsigned cell_bytes = F::l::cell_codes * width<Plane> / 8;
    return buffer_ + at + (staged<Plane>::skew(h_->first) + s.first) * cell_bytes +
           (static_cast<unsigned>(number) * s.count + s.rank) * chunk_size<Plane>;
  }
  /// Chunk @p number of the cells of both rows; 0 for a row without one.
  template <int Plane>
  QUERN_HD registers<2> chunks(int number) const {
    // Elements, and bytes of 8 bits, are four chunks of 64 bytes for four lanes. Two of the lanes read the rows in the
    // other order, else lanes 0 and 2 would meet in a bank.
    constexpr bool four_chunks = F::plain || (F::bytes && width<Plane> == 8);
    if constexpr (F::kind == survivors::masked) {
      registers<2> out{};
      for (int i = 0; i < 2; ++i) {
        if (!stored(i)) continue;
        const unsigned char* p = chunk_address<Plane>(at_[i], number);
        if constexpr (chunk_size<Plane> == 4)
          out.word[i] = read<std::uint32_t>(p);
        else
          out.word[i] = read<std::uint16_t>(p);
      }
      return out;
    } else if constexpr (four_chunks) {
      const unsigned char* p = chunk_address<Plane>(at_[0], number);
      const unsigned turn = lane_ / 2 % 2;
      const std::uint32_t first = read<std::uint32_t>(p + 4 * turn),
                          second = read<std::uint32_t>(p + 4 * (turn ^ 1));
      return {{turn == 0 ? first : second, turn == 0 ? second : first}};
    } else if constexpr (chunk_size<Plane> == 4) {
      const std::uint64_t both = read<std::uint64_t>(chunk_address<Plane>(at_[0], number));
      return {{static_cast<std::uint32_t>(both), static_cast<std::uint32_t>(both >> 32)}};
    } else {
      const std::uint32_t both = read<std::uint32_t>(chunk_address<Plane>(at_[0], number));
      return {{both & 0xffffu, both >> 16}};
    }
  }
  /// Codes that `half_fragment` needs of both rows, one per byte, from plane @p Plane up.
  template <int Plane>
  QUERN_HD registers<2> half_codes(int j) const {
    using at = fragment_plane<width<Plane>, F::l::cell_codes>;
    const registers<2> first = chunks<Plane>(at::chunk_at(j, column(), 0));
    registers<2> second{}, out;
    if constexpr (at::words == 2) second = chunks<Plane>(at::chunk_at(j, column(), 1));
    for (int i = 0; i < 2; ++i) out.word[i] = at::codes(j, column(), first.word[i], second.word[i]);
    if constexpr (Plane + 1 < plane_count(Q::bits)) add_above<Plane>(out, half_codes<Plane + 1>(j));
    return out;
  }
  /// The same for `byte_fragment`: codes 16 j + 4 c .. + 3, c the lane's column.
  template <int Plane>
  QUERN_HD registers<2> byte_codes(int j) const {
    using at = byte_plane<width<Plane>, F::l::cell_codes>;
    registers<2> out = chunks<Plane>(at::chunk_at(j, column()));
    for (int i = 0; i < 2; ++i) out.word[i] = at::codes(j, column(), out.word[i]);
    if constexpr (Plane + 1 < plane_count(Q::bits)) add_above<Plane>(out, byte_codes<Plane + 1>(j));
    return out;
  }
  template <int Plane>
  QUERN_HD static void add_above(registers<2>& codes, const registers<2>& above) {
    constexpr int shift = plane_shift(Q::bits, Plane + 1) - plane_shift(Q::bits, Plane);
    for (int i = 0; i < 2; ++i) codes.word[i] |= above.word[i] << shift;
  }

  const unsigned char* buffer_;
  unsigned lane_;
  const typename F::header* h_;
  std::uint32_t units_;
  spot at_[2] = {};
  std::uint32_t zero_[2] = {};
};

}  // namespace cuda
}  // namespace quern::inline v0
