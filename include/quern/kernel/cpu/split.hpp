// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::work_split<P, Q> work(w);   // in each of an engine's nth threads, for thread ith:
// const auto first = work.tile(quern::part_begin(work.size(), nth, ith));
// const auto end = work.tile(quern::part_begin(work.size(), nth, ith + 1));
// quern::multiply_tiles(w, first, end, activations, y);   // rows 16 * first .. 16 * end - 1 of every token

#include <quern/format/matrix.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Cuts a multiplication by surviving groups instead of rows (GQSA's task-centric schedule, section 3.4), at
/// the boundaries of tiles, so that no partial sums have to be joined and the result does not depend on the
/// cut. One unit of work is a slot that a kernel runs, or a tile: a tile without survivors still writes its zeros.
template <class P, class Q>
class work_split {
  using l = layout<P, Q>;
  /// Survivors lie in the data; elsewhere all tiles are equally long.
  static constexpr bool counted =
      P::kind == survivors::listed || (P::kind == survivors::masked && !l::uniform);
  static constexpr std::size_t parts = P::unit_rows > lanes ? P::unit_rows / lanes : 1;

 public:
  explicit work_split(const matrix_view<P, Q>& w)
      : w_(w), bands_((l::tiles(w.rows()) + parts - 1) / parts), size_(bands_) {
    if constexpr (counted)
      for (std::size_t b = 0; b < bands_; ++b) size_ += slots(b);
  }
  /// Units of work.
  std::size_t size() const { return size_; }
  /// The first tile whose work starts at or after unit @p i; tile(size()) is the number of tiles.
  std::size_t tile(std::size_t i) const {
    std::size_t band = i < size_ ? 0 : bands_;
    if constexpr (counted)
      for (std::size_t before = 0; band < bands_ && before < i; ++band) before += slots(band) + 1;
    else
      band = i;
    const std::size_t t = band * parts, tiles = l::tiles(w_.rows());
    return t < tiles ? t : tiles;
  }

 private:
  /// Slots that a kernel runs for band @p b. Where rows choose units of their own it runs as many in a window as the
  /// fullest of them has. Only the survivors of a tile are known without reading its masks, so this is estimated: of
  /// 16 rows that keep k of 16 units on average, the fullest keeps about k + 1.77 sqrt(k (1 - k / 16)) (the mean of
  /// the largest of 16 normal draws), which is k + 3 within .6 for k of 2 to 14; for k below 1 it is nearer 3 k. Of
  /// fewer rows the largest is less: 1.42 for 8, 1.03 for 4, .56 for 2 in place of 1.77.
  std::size_t slots(std::size_t b) const {
    const std::size_t kept = w_.begin(b + 1) - w_.begin(b);
    if constexpr (P::kind == survivors::listed) {
      return kept;
    } else {
      constexpr std::size_t rows = l::blocks_per_tile;
      constexpr std::size_t more = rows == 16 ? 3 : rows >= 4 ? 2 : rows >= 2 ? 1 : 0;
      const std::size_t mean = (kept + lanes - 1) / lanes, windows = l::mask_windows(w_.cols());
      const std::size_t spread = 2 * mean < more * windows ? 2 * mean : more * windows;
      const std::size_t all = static_cast<std::size_t>(l::window_units) * windows;
      return mean + spread < all ? mean + spread : all;
    }
  }
  matrix_view<P, Q> w_;
  std::size_t bands_, size_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
