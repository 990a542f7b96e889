// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::weight_window<F, T> v(buffer, lane);          // after the wait and a barrier
// v.enter(unit);  v.enter_run(run, scale);
// quern::cuda::registers<4> a = v.half_fragment(j);          // A of mma.sync

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
    for (unsigned i = 0; i < 2; ++i) {
      scale[i] = 0;
      zero_[i] = 0;
      if (!at_[i].stored) continue;
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
  QUERN_HD registers<4> half_fragment(unsigned j) const {
    registers<4> a;
    for (unsigned i = 0; i < 2; ++i) {
      registers<2> row{};
      if (at_[i].stored) {
        if constexpr (F::plain) {
          // Four lanes read chunks 64 bytes apart: two of them take the rows the other way round, else lanes 0 and 2
          // would meet in a bank.
          spot s = at_[i];
          if (trades_rows()) s.rank ^= 1;
          for (int n = 0; n < 2; ++n) row.word[n] = chunk<0>(s, static_cast<int>(j), n);
        } else {
          row = decoded<T, Q::bits>(zero_[i])(plane<0>(at_[i], static_cast<int>(j)));
        }
      }
      a.word[i] = row.word[0];
      a.word[2 + i] = row.word[1];
    }
    if (trades_rows()) return {{a.word[1], a.word[0], a.word[3], a.word[2]}};
    return a;
  }

  /// Metadata of mma.sp for the kept codes that `half_fragment` decodes.
  QUERN_HD std::uint32_t metadata() const {
    return metadata_of_halves(static_cast<int>(lane_), window_nibbles(positions(at_[0])),
                              window_nibbles(positions(at_[1])));
  }

  /// Half of A of mma.sync for bytes: codes 16 j .. of the cells of all rows as code - zero.
  QUERN_HD registers<2> byte_fragment(unsigned j) const {
    registers<2> a{};
    for (unsigned i = 0; i < 2; ++i)
      if (at_[i].stored)
        a.word[i] = signed_codes<Q::bits>(column_codes<0>(at_[i], static_cast<int>(j)), zero_[i]);
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
  /// Whether this lane reads its two rows in the other order, see `half_fragment`.
  QUERN_HD bool trades_rows() const {
    return F::plain && F::kind != survivors::masked && (lane_ / 2 & 1) != 0;
  }
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
  using placed = fragment_plane<width<Plane>, F::l::cell_codes>;
  template <int Plane>
  using staged = std::conditional_t<Plane == 0, typename F::codes0,
                                    std::conditional_t<Plane == 1, typename F::codes1, typename F::codes2>>;
  template <int Plane>
  QUERN_HD std::uint32_t chunk_at(const spot& s, unsigned number) const {
    constexpr unsigned at = Plane == 0 ? F::at_codes0 : Plane == 1 ? F::at_codes1 : F::at_codes2;
    constexpr unsigned cell_bytes = F::l::cell_codes * width<Plane> / 8, bytes = placed<Plane>::chunk;
    const unsigned char* p = buffer_ + at + (staged<Plane>::skew(h_->first) + s.first) * cell_bytes +
                             (number * s.count + s.rank) * bytes;
    if constexpr (bytes == 4)
      return read<std::uint32_t>(p);
    else
      return read<std::uint16_t>(p);
  }
  template <int Plane>
  QUERN_HD std::uint32_t chunk(const spot& s, int j, int i) const {
    return chunk_at<Plane>(s,
                           static_cast<unsigned>(placed<Plane>::chunk_at(j, static_cast<int>(lane_ % 4), i)));
  }
  /// Codes that `half_fragment` needs of a row, one per byte, from plane @p Plane up.
  template <int Plane>
  QUERN_HD std::uint32_t plane(const spot& s, int j) const {
    const std::uint32_t first = chunk<Plane>(s, j, 0),
                        second = placed<Plane>::words == 2 ? chunk<Plane>(s, j, 1) : 0;
    std::uint32_t codes = placed<Plane>::codes(j, static_cast<int>(lane_ % 4), first, second);
    if constexpr (Plane + 1 < plane_count(Q::bits)) {
      constexpr int above = plane_shift(Q::bits, Plane + 1) - plane_shift(Q::bits, Plane);
      codes |= plane<Plane + 1>(s, j) << above;
    }
    return codes;
  }

  /// Codes 16 j + 4 c .. + 3 of a row, one per byte, c the lane's column.
  template <int Plane>
  QUERN_HD std::uint32_t column_codes(const spot& s, int j) const {
    using at = byte_plane<width<Plane>, F::l::cell_codes>;
    const int c = static_cast<int>(lane_ % 4);
    std::uint32_t codes = at::codes(j, c, chunk_at<Plane>(s, static_cast<unsigned>(at::chunk_at(j, c))));
    if constexpr (Plane + 1 < plane_count(Q::bits)) {
      constexpr int above = plane_shift(Q::bits, Plane + 1) - plane_shift(Q::bits, Plane);
      codes |= column_codes<Plane + 1>(s, j) << above;
    }
    return codes;
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
