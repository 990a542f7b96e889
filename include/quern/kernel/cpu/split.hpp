// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::work_split<P, Q> work(w);
// exec.parallel_for(work.size(), grain, [&](auto b, auto e) { tiles(work.tile(b), work.tile(e)); });

#include <quern/format/matrix.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// Cuts a multiplication by surviving groups instead of rows (GQSA's task-centric schedule, section 3.4), at
/// the boundaries of tiles, so that no partial sums have to be joined and the result does not depend on the
/// cut. One unit of work is a surviving slot, or a tile: a tile without survivors still writes its zeros.
template <class P, class Q>
class work_split {
  using l = layout<P, Q>;
  /// Survivors lie in the data; elsewhere all tiles are equally long.
  static constexpr bool counted =
      P::kind == survivors::listed || (P::kind == survivors::masked && !l::uniform);
  static constexpr std::size_t parts = P::unit_rows > lanes ? P::unit_rows / lanes : 1;

 public:
  explicit work_split(const matrix_view<P, Q>& w)
      : w_(w), bands_((l::tiles(w.rows()) + parts - 1) / parts), size_(before(bands_)) {}
  /// Units of work.
  std::size_t size() const { return size_; }
  /// The first tile whose work starts at or after unit @p i; tile(size()) is the number of tiles.
  std::size_t tile(std::size_t i) const {
    std::size_t low = 0, high = bands_;
    if constexpr (!counted) {
      low = i;
    } else {
      while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (before(middle) < i)
          low = middle + 1;
        else
          high = middle;
      }
    }
    const std::size_t t = low * parts, tiles = l::tiles(w_.rows());
    return t < tiles ? t : tiles;
  }

 private:
  /// Work before band @p b: grows by at least one from band to band.
  std::size_t before(std::size_t b) const {
    if constexpr (!counted)
      return b;
    else if constexpr (P::kind == survivors::listed)
      return w_.begin(b) + b;
    else
      return w_.begin(b) / lanes + b;
  }
  matrix_view<P, Q> w_;
  std::size_t bands_, size_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
