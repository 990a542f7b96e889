// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto scores = quern::unit_scores<quern::group<32>>(w, inverse, quern::saliency::obs_block);
// const quern::ordered_scores rows[] = {{quern::view_of(scores), quern::axis::rows}};
// auto found = quern::order_units(rows, quern::shape_of<quern::bsr<16, 32>>(), 0.5).value();
// // row r of the new W is row found.order[r] of the old one; found.before <= found.after

#include <limits>
#include <quern/compress/order_search.hpp>

namespace quern::inline v0 {

/// An order of the items, and what it saves.
struct unit_order {
  std::vector<std::size_t> order;  ///< [items] the old place of each new one: a permutation
  double before = 0, after = 0;    ///< score that survives in the given order and in this one
  double total = 0;                ///< score of everything
};

inline namespace QUERN_BUILD {

/// The order of items in which the pattern loses least score: like rows share blocks, like columns groups, and
/// columns that rows can do without spread over the windows of N:M. What survives is counted as pattern/select.hpp
/// chooses with scope::row: every block row its share, or N of M. Searches from the given order, from grown clusters
/// and from the heaviest items first, and keeps the best; the given order is never left for a worse one. The same
/// input gives the same order. At most 120 sweeps of items^2 / shorter side of a unit * parts multiplications, all
/// parts counted; 4096 rows of 128 groups in blocks of 16 took 1.8 s (one core, Zen 4, 28 November 2026).
/// @param matrices  one or more, with equally many items
/// @param p         pattern that will be chosen; of `dense` and where units have one item the order stays
/// @param density   0..1, for patterns that leave it free
/// @returns an error that names the matrix, item and part of a score that is negative or not finite, or says that the
///          density is not 0..1, that there is no matrix, that numbers of items differ, or that neither side of the
///          units divides the other where rows and columns are ordered together
inline result<unit_order> order_units(std::span<const ordered_scores> matrices, const unit_shape& p,
                                      double density = 0.5) {
  if (matrices.empty()) return error("quern::order_units: there is no matrix; give at least one");
  if (!(density >= 0 && density <= 1))
    return error("quern::order_units: the density is ", density, "; it must be 0..1");
  const std::size_t items = matrices[0].scores.rows();
  bool axes[2] = {};
  for (const ordered_scores& m : matrices) axes[m.items == axis::rows ? 0 : 1] = true;
  if (p.rows == 0 || p.cols == 0 || (axes[0] && axes[1] && p.rows % p.cols != 0 && p.cols % p.rows != 0))
    return error("quern::order_units: units of ", p.rows, " x ", p.cols,
                 "; where rows and columns get one order, one side must be a multiple of the other");
  for (std::size_t m = 0; m < matrices.size(); ++m) {
    const span2<const float> s = matrices[m].scores;
    if (s.rows() != items)
      return error("quern::order_units: matrix ", m, " has ", s.rows(), " items but the first has ", items,
                   "; they must share them");
    for (std::size_t i = 0; i < items; ++i)
      for (std::size_t c = 0; c < s.cols(); ++c)
        if (!(s(i, c) >= 0 && s(i, c) <= std::numeric_limits<float>::max()))
          return error("quern::order_units: the score of matrix ", m, " item ", i, " part ", c, " is ",
                       s(i, c), "; scores must be finite and not negative");
  }
  order_search search(matrices, p, density);
  unit_order best{search.order(), search.choose(), 0, search.total()};
  best.after = best.before;
  if (p.dense) return best;
  // Windows of N:M want clusters that differ: dealt out, the heaviest to one window each.
  const auto dealt = [&](std::vector<std::size_t> order) {
    const std::size_t window = p.of * p.cols;
    if (window == 0 || items % window != 0) return order;
    std::vector<std::size_t> out(items);
    for (std::size_t i = 0; i < items; ++i) {
      const std::size_t cluster = i / p.cols, windows = items / window;
      out[cluster % windows * window + cluster / windows * p.cols + i % p.cols] = order[i];
    }
    return out;
  };
  std::vector<std::size_t> starts[] = {best.order, dealt(search.grown()), dealt(search.heaviest_first())};
  for (std::vector<std::size_t>& start : starts) {
    search.start(std::move(start));
    if (const double kept = search.improve(40); kept > best.after)
      best.order = search.order(), best.after = kept;
  }
  return best;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
