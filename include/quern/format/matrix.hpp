// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::matrix<quern::group<16>, quern::affine<4, 16>> w = quern::pack<...>(dense);
// quern::matrix_view v = w.view();                 // hand it to kernels, threads, devices
// printf("%.3f bits per weight\n", w.bits_per_weight());

#include <cstring>
#include <quern/core/buffer.hpp>
#include <quern/core/error.hpp>
#include <quern/core/half.hpp>
#include <quern/format/layout.hpp>
#include <utility>

namespace quern::inline v0 {

/// A packed matrix without its type: shape, stored cells, and where the streams are. The streams need not be
/// contiguous with each other; each must start at a 64-byte boundary. Owns nothing.
struct packed_view {
  std::size_t rows = 0, cols = 0, cells = 0;
  const std::byte* at[stream_count] = {};
  const std::byte* operator[](stream s) const { return at[static_cast<int>(s)]; }
};

/// A packed matrix W [rows x cols] of pattern P and quantizer Q that lies in somebody else's memory, a mapped
/// file for example. Trust only views that `checked` (format/validate.hpp) has returned: kernels do not look
/// twice.
template <sparsity_pattern P, quantizer Q>
class matrix_view {
  static_assert(layout<P, Q>::supported,
                "quern::matrix: this quantizer cannot follow this pattern; layout<P, Q>::why_not() says why");

 public:
  using pattern = P;
  using quantizer = Q;
  using geometry = layout<P, Q>;
  constexpr matrix_view() = default;
  [[gnu::always_inline]] explicit constexpr matrix_view(const packed_view& raw) : raw_(raw) {}
  constexpr std::size_t rows() const { return raw_.rows; }
  constexpr std::size_t cols() const { return raw_.cols; }
  /// Stored cells, those of completed rows and windows included.
  constexpr std::size_t cells() const { return raw_.cells; }
  constexpr const packed_view& raw() const { return raw_; }
  constexpr const std::byte* operator[](stream s) const { return raw_[s]; }
  [[gnu::always_inline]] constexpr storage bytes() const {
    return geometry::bytes(raw_.rows, raw_.cols, raw_.cells);
  }
  [[gnu::always_inline]] constexpr double bits_per_weight() const {
    return bytes().bits_per_weight(raw_.rows, raw_.cols);
  }

  /// Entry @p i of the `begin` stream.
  std::size_t begin(std::size_t i) const { return load<std::uint32_t>(stream::begin, i); }
  /// Block column of surviving block @p j (listed).
  [[gnu::always_inline]] std::size_t block_column(std::size_t j) const {
    switch (geometry::index_bytes(raw_.cols)) {
      case 1:
        return load<std::uint8_t>(stream::index, j);
      case 2:
        return load<std::uint16_t>(stream::index, j);
      default:
        return load<std::uint32_t>(stream::index, j);
    }
  }
  /// Mask of block row @p block of a tile in window @p window (masked): bit i is unit
  /// window * window_units + i.
  [[gnu::always_inline]] std::uint32_t mask(std::size_t tile, std::size_t window, std::size_t block) const {
    return load<std::uint16_t>(
        stream::index,
        (tile * geometry::mask_windows(raw_.cols) + window) * geometry::blocks_per_tile + block);
  }
  /// The fp16 scale of row @p r (two-level scales), 1 for others.
  [[gnu::always_inline]] float row_scale(std::size_t r) const {
    if constexpr (Q::row_scaled)
      return to_float(f16{load<std::uint16_t>(stream::row_scale, r)});
    else
      return 1;
  }
  /// First byte of plane @p i of the positions.
  [[gnu::always_inline]] static constexpr std::size_t position_plane(std::size_t cells, int i) {
    return cells * static_cast<std::size_t>(geometry::cell_codes) / 8 *
           static_cast<std::size_t>(plane_shift(geometry::position_bits, i));
  }
  /// Where the parameters of a run lie.
  struct param_place {
    field scale, zero;
  };
  /// Those of run @p run of a cell, or, where parameters do not follow the cells, of run @p run of lane @p lane
  /// of a tile.
  [[gnu::always_inline]] param_place param_at(std::size_t tile, cell c, int lane, std::size_t run) const {
    constexpr int runs = geometry::params_in_cells ? geometry::runs_per_cell : 1;
    int r = static_cast<int>(run);
    if constexpr (!geometry::params_in_cells) {
      c = {(tile * geometry::runs(raw_.cols) + run) * lanes, lanes, lane};
      r = 0;
    }
    return {locate_param(Q::scale_bits, runs, c, r), locate_param(Q::zero_bits, runs, c, r)};
  }
  /// The parameters at @p p, for a row with scale @p row.
  [[gnu::always_inline]] run_params params(param_place p, float row) const {
    if constexpr (Q::run == 0) {
      return Q::params(0, 0, 1);
    } else {
      std::uint32_t zero = 0;
      if constexpr (Q::zero_bits > 0) zero = get_field(raw_[stream::zero], Q::zero_bits, p.zero);
      return Q::params(get_field(raw_[stream::scale], Q::scale_bits, p.scale), zero, row);
    }
  }

 private:
  template <class T>
  T load(stream s, std::size_t i) const {
    T v;
    std::memcpy(&v, raw_[s] + i * sizeof(T), sizeof(T));
    return v;
  }
  packed_view raw_;
};

/// A packed matrix that owns its memory: one allocation, all streams in order. Movable; copy with `clone`.
template <sparsity_pattern P, quantizer Q>
class matrix {
 public:
  using geometry = layout<P, Q>;
  matrix() = default;
  /// Zeroed streams for W [rows x cols] with @p survivors stored cells (ignored where the shape decides).
  [[gnu::always_inline]] matrix(std::size_t rows, std::size_t cols, std::size_t survivors)
      : rows_(rows),
        cols_(cols),
        cells_(geometry::cells(rows, cols, survivors)),
        data_(geometry::bytes(rows, cols, cells_).total()) {}
  /// What was moved from is empty: 0 x 0.
  [[gnu::always_inline]] matrix(matrix&& o) noexcept
      : rows_(std::exchange(o.rows_, 0)),
        cols_(std::exchange(o.cols_, 0)),
        cells_(std::exchange(o.cells_, 0)),
        data_(std::move(o.data_)) {}
  [[gnu::always_inline]] matrix& operator=(matrix&& o) noexcept {
    matrix taken(std::move(o));
    std::swap(rows_, taken.rows_);
    std::swap(cols_, taken.cols_);
    std::swap(cells_, taken.cells_);
    std::swap(data_, taken.data_);
    return *this;
  }
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t cells() const { return cells_; }
  /// Bytes of every stream; their sum is what a file stores.
  [[gnu::always_inline]] storage bytes() const { return geometry::bytes(rows_, cols_, cells_); }
  [[gnu::always_inline]] double bits_per_weight() const { return bytes().bits_per_weight(rows_, cols_); }
  /// Always inlined: filling the view becomes vector code, and a body shared between units of different -m
  /// flags could be one that this CPU does not have.
  [[gnu::always_inline]] matrix_view<P, Q> view() const& {
    packed_view v{rows_, cols_, cells_, {}};
    const std::byte* const first = data_.size() != 0 ? data_.data() : nothing;
    for (int i = 0; i < stream_count; ++i) v.at[i] = first + offset(i);
    return matrix_view<P, Q>(v);
  }
  matrix_view<P, Q> view() const&& = delete;  ///< it would outlive the memory that it shows
  /// Where a stream may be written.
  [[gnu::always_inline]] std::byte* writable(stream s) { return data_.data() + offset(static_cast<int>(s)); }
  [[gnu::always_inline]] matrix clone() const {
    matrix m;
    m.rows_ = rows_;
    m.cols_ = cols_;
    m.cells_ = cells_;
    m.data_ = data_.clone();
    return m;
  }

 private:
  [[gnu::always_inline]] std::size_t offset(int stream_number) const {
    const storage s = bytes();
    std::size_t o = 0;
    for (int i = 0; i < stream_number; ++i) o += s.bytes[i];
    return o;
  }
  /// The `begin` of 0 x 0, the only stream that it has: an empty matrix owns no memory.
  alignas(buffer::alignment) static constexpr std::byte nothing[buffer::alignment] = {};
  std::size_t rows_ = 0, cols_ = 0, cells_ = 0;
  buffer data_;
};

}  // namespace quern::inline v0
