// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/compress/order.hpp>
#include <string>

#include "../formats.hpp"

using namespace quern;
using namespace quern_test;

namespace {

std::vector<std::size_t> shuffled(std::size_t n, rng& g) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[g.below(i)]);
  return order;
}

dense_matrix in_order(const dense_matrix& m, const std::vector<std::size_t>& order) {
  dense_matrix out(m.rows, m.cols);
  for (std::size_t r = 0; r < m.rows; ++r)
    for (std::size_t c = 0; c < m.cols; ++c) out.view()(r, c) = m.view()(order[r], c);
  return out;
}

dense_matrix scores(std::size_t rows, std::size_t cols, rng& g) {
  dense_matrix m(rows, cols);
  for (float& s : m.data) s = g.uniform() * g.uniform();
  return m;
}

bool is_permutation(std::vector<std::size_t> order) {
  std::sort(order.begin(), order.end());
  for (std::size_t i = 0; i < order.size(); ++i)
    if (order[i] != i) return false;
  return true;
}

/// What of the scores of all weights survives where quern::select chooses: the oracle of `before` and `after`.
/// Rows: one score for every unit_cols columns; columns: the matrix is transposed and has one for every unit_rows
/// rows.
double surviving(const dense_matrix& items, axis which, unit_shape p, double density) {
  const bool rows = which == axis::rows;
  (rows ? p.cols : p.rows) = 1;
  dense_matrix w(rows ? items.rows : items.cols, rows ? items.cols : items.rows);
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t c = 0; c < w.cols; ++c) w.view()(r, c) = rows ? items.view()(r, c) : items.view()(c, r);
  const std::size_t blocks = (w.rows + p.rows - 1) / p.rows, units = (w.cols + p.cols - 1) / p.cols;
  dense_matrix of_units(blocks, units);
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t c = 0; c < w.cols; ++c) of_units.view()(r / p.rows, c / p.cols) += w.view()(r, c);
  const bit_mask keep = select(std::as_const(of_units).view(), p, w.rows, w.cols, density).value();
  double sum = 0;
  for (std::size_t r = 0; r < w.rows; ++r)
    for (std::size_t c = 0; c < w.cols; ++c) sum += keep(r, c) ? static_cast<double>(w.view()(r, c)) : 0;
  return sum;
}

/// Sums of n scores below 1, in floats: they choose the units of the oracle.
double rounding(std::size_t n) { return static_cast<double>(n) * 0x1p-24 * static_cast<double>(n); }

}  // namespace

TEST_CASE("the score that survives is that of select, in the given order and in the one found") {
  rng g(41);
  const unit_shape shapes[] = {shape_of<bsr<4, 16>>(),         shape_of<bsr<16, 8>>(),
                               shape_of<group<16>>(),          shape_of<group_nm<2, 4, 8>>(),
                               shape_of<nm<2, 4>>(),           shape_of<bsr<16, 32>>(),
                               shape_of<group_nm<1, 3, 16>>(), shape_of<dense>()};
  for (const unit_shape& p : shapes)
    for (const axis which : {axis::rows, axis::cols})
      for (const std::size_t items : {0u, 1u, 15u, 16u, 17u, 64u, 75u})
        for (const double density : {0.0, 0.3, 0.5, 1.0}) {
          CAPTURE(p.rows);
          CAPTURE(p.cols);
          CAPTURE(items);
          CAPTURE(density);
          const dense_matrix s = scores(items, 9, g);
          const ordered_scores one{s.view(), which};
          const unit_order found = order_units({&one, 1}, p, density).value();
          REQUIRE(found.order.size() == items);
          REQUIRE(is_permutation(found.order));
          REQUIRE(found.after >= found.before);
          const double off = rounding(items * 9);
          CHECK(std::abs(found.before - surviving(s, which, p, density)) <= off);
          CHECK(std::abs(found.after - surviving(in_order(s, found.order), which, p, density)) <= off);
          CHECK(found.after <= found.total + off);
        }
}

TEST_CASE("rows that were planted in blocks and shuffled come together again") {
  rng g(42);
  for (const std::size_t tall : {4u, 16u}) {
    const unit_shape p{tall, 16};
    const std::size_t rows = 12 * tall, groups = 20;
    // Every block has ten groups of its own that matter; the others are a tenth of them.
    dense_matrix planted(rows, groups);
    for (std::size_t b = 0; b < rows / tall; ++b) {
      const std::vector<std::size_t> own = shuffled(groups, g);
      for (std::size_t r = b * tall; r < (b + 1) * tall; ++r)
        for (std::size_t n = 0; n < groups; ++n)
          planted.view()(r, own[n]) = (n < groups / 2 ? 1.0f : 0.1f) * (0.5f + g.uniform());
    }
    const double best = surviving(planted, axis::rows, p, 0.5);
    const dense_matrix mixed = in_order(planted, shuffled(rows, g));
    const ordered_scores one{mixed.view(), axis::rows};
    const unit_order found = order_units({&one, 1}, p, 0.5).value();
    CHECK(found.before < 0.8 * best);
    CHECK(found.after >= best - rounding(rows * groups));
    // Already there: nothing to move.
    const ordered_scores there{planted.view(), axis::rows};
    CHECK(order_units({&there, 1}, p, 0.5).value().before >= best - rounding(rows * groups));
  }
}

TEST_CASE("inputs of one worth share groups; windows of N:M mix what matters and what does not") {
  rng g(43);
  // Half of the inputs matter to all rows: in groups of their own nothing of them is lost.
  const std::size_t inputs = 128, blocks = 24;
  dense_matrix s(inputs, blocks);
  const std::vector<std::size_t> order = shuffled(inputs, g);
  double heavy = 0;
  for (std::size_t i = 0; i < inputs; ++i)
    for (std::size_t b = 0; b < blocks; ++b) {
      s.view()(order[i], b) = (i < inputs / 2 ? 1.0f : 0.01f) * (0.5f + g.uniform());
      if (i < inputs / 2) heavy += static_cast<double>(s.view()(order[i], b));
    }
  for (const unit_shape& p : {shape_of<group<16>>(), shape_of<group_nm<2, 4, 16>>(), shape_of<nm<2, 4>>()}) {
    const ordered_scores one{s.view(), axis::cols};
    const unit_order found = order_units({&one, 1}, p, 0.5).value();
    CHECK(found.before < 0.95 * heavy);
    CHECK(found.after >= heavy - rounding(inputs * blocks));
  }
}

TEST_CASE("random scores gain too, several matrices are weighed together, and a repeat is the same") {
  rng g(44);
  const dense_matrix gate = scores(96, 12, g), up = scores(96, 12, g), down = scores(96, 8, g);
  const unit_shape p = shape_of<bsr<16, 32>>();
  const ordered_scores all[] = {
      {gate.view(), axis::rows}, {up.view(), axis::rows}, {down.view(), axis::cols}};
  const unit_order found = order_units(all, p, 0.5).value();
  CHECK(found.after > 1.03 * found.before);
  const auto together = [&](const std::vector<std::size_t>& order) {
    return surviving(in_order(gate, order), axis::rows, p, 0.5) +
           surviving(in_order(up, order), axis::rows, p, 0.5) +
           surviving(in_order(down, order), axis::cols, p, 0.5);
  };
  CHECK(std::abs(found.after - together(found.order)) <= rounding(96 * 32));
  CHECK(order_units(all, p, 0.5).value().order == found.order);
  // Exchanges alone, from the given order.
  order_search search(all, p, 0.5);
  CHECK(std::abs(search.choose() - found.before) <= rounding(96 * 32));
  CHECK(search.improve(40) > 1.03 * found.before);
  CHECK(search.improve(1) >= search.choose());
  CHECK(is_permutation(search.order()));
  // Each alone does better than where it has to share.
  double alone = 0;
  for (const ordered_scores& one : all) alone += order_units({&one, 1}, p, 0.5).value().after;
  CHECK(alone >= found.after);
}

TEST_CASE("what cannot be ordered is refused with its place") {
  rng g(45);
  dense_matrix s = scores(8, 4, g);
  const dense_matrix other = scores(9, 4, g);
  const ordered_scores one{s.view(), axis::rows};
  const unit_shape p = shape_of<bsr<4, 16>>();
  const auto why = [&](std::span<const ordered_scores> m, const unit_shape& shape, double density) {
    const auto r = order_units(m, shape, density);
    return r ? std::string() : std::string(r.error().what());
  };
  CHECK(why({}, p, 0.5).find("no matrix") != std::string::npos);
  CHECK(why({&one, 1}, p, -0.1).find("density is -0.1") != std::string::npos);
  CHECK(why({&one, 1}, p, std::nan("")).find("0..1") != std::string::npos);
  const ordered_scores uneven[] = {one, {other.view(), axis::cols}};
  CHECK(why(uneven, p, 0.5).find("matrix 1 has 9 items but the first has 8") != std::string::npos);
  const ordered_scores both[] = {one, {s.view(), axis::cols}};
  CHECK(why(both, {16, 24}, 0.5).find("16 x 24") != std::string::npos);
  CHECK(why({&one, 1}, {16, 24}, 0.5).empty());
  CHECK(why({&one, 1}, {0, 16}, 0.5).find("0 x 16") != std::string::npos);
  for (const float bad :
       {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    s.view()(5, 2) = bad;
    CHECK(why({&one, 1}, p, 0.5).find("matrix 0 item 5 part 2") != std::string::npos);
  }
}
