// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/compress/select.hpp>
#include <string>

#include "../formats.hpp"

using namespace quern;
using namespace quern_test;

namespace {

template <class P>
eigen_matrix<float> random_scores(std::size_t rows, std::size_t cols, rng& g, bool ties) {
  eigen_matrix<float> s(static_cast<Eigen::Index>(block_rows<P>(rows)),
                        static_cast<Eigen::Index>(units_per_row<P>(cols)));
  for (Eigen::Index i = 0; i < s.size(); ++i)
    s.data()[i] = ties ? static_cast<float>(g.below(3)) : g.uniform();
  return s;
}

/// Units of block rows [top, end) that survive, seen at their first weight.
template <class P>
std::size_t kept(const bit_mask& m, std::size_t top, std::size_t end) {
  std::size_t n = 0;
  for (std::size_t b = top; b < end; ++b)
    for (std::size_t c = 0; c < m.cols(); c += P::unit_cols) n += m(b * P::unit_rows, c) ? 1 : 0;
  return n;
}

template <class P>
void exact_counts() {
  INFO(std::string(P::label().c_str()));
  rng g(31);
  for (const std::size_t rows : {0u, 1u, 15u, 16u, 17u, 50u})
    for (const std::size_t cols : {0u, 1u, 15u, 16u, 33u, 100u, 129u})
      for (const double density : {0.0, 0.1, 0.25, 0.5, 0.8, 1.0})
        for (const bool ties : {false, true})
          for (const scope s : {scope::row, scope::row_block, scope::layer}) {
            CAPTURE(rows);
            CAPTURE(cols);
            CAPTURE(density);
            const auto scores = random_scores<P>(rows, cols, g, ties);
            const bit_mask m = select<P>(scores, rows, cols, density, s).value();
            REQUIRE(m.rows() == rows);
            REQUIRE(conforms<P>(m));
            const std::size_t blocks = block_rows<P>(rows), units = units_per_row<P>(cols);
            if constexpr (P::kind == survivors::all) {
              REQUIRE(count(m) == rows * cols);
            } else if constexpr (P::of > 0) {
              const std::size_t rest = units % P::of;
              const std::size_t want = units / P::of * P::keep + std::min<std::size_t>(rest, P::keep);
              for (std::size_t b = 0; b < blocks; ++b) REQUIRE(kept<P>(m, b, b + 1) == want);
            } else {
              const std::size_t tile = P::unit_rows < 16 ? 16 / P::unit_rows : 1;
              const std::size_t height = s == scope::row ? 1 : s == scope::row_block ? tile : blocks;
              for (std::size_t b = 0; b < blocks; b += height) {
                const std::size_t end = std::min(blocks, b + height);
                const auto want = std::llround(density * static_cast<double>(units * (end - b)));
                REQUIRE(static_cast<long long>(kept<P>(m, b, end)) == want);
              }
            }
          }
}

}  // namespace

TEST_CASE("masks obey their pattern and keep exactly as many units as asked for") {
  exact_counts<dense>();
  exact_counts<bitmap>();
  exact_counts<group<16>>();
  exact_counts<bsr<4, 16>>();
  exact_counts<bsr<16, 32>>();
  exact_counts<bsr<48, 8>>();
  exact_counts<nm<2, 4>>();
  exact_counts<nm<4, 7>>();
  exact_counts<group_nm<2, 4, 16>>();
  exact_counts<group_nm<2, 3, 8>>();
}

TEST_CASE("the best survive, and of equal ones the first") {
  eigen_matrix<float> s(2, 4);
  s << 1, 5, 5, 5,  //
      9, 2, 9, 9;
  const bit_mask rows = select<bitmap>(s, 2, 4, 0.5).value();
  const bit_mask layer = select<bitmap>(s, 2, 4, 0.5, scope::layer).value();
  const bit_mask pairs = select<nm<1, 2>>(s, 2, 4).value();
  const auto text = [](const bit_mask& m) {
    std::string t;
    for (std::size_t r = 0; r < m.rows(); ++r)
      for (std::size_t c = 0; c < m.cols(); ++c) t += m(r, c) ? '1' : '0';
    return t;
  };
  CHECK(text(rows) == "01101010");
  CHECK(text(layer) == "01001011");
  CHECK(text(pairs) == "01101010");
}

TEST_CASE("quotas of parts add up to the quota of the whole") {
  for (const double density : {0.1, 1.0 / 3, 0.5, 0.77})
    for (std::size_t n = 0; n < 40; ++n) {
      std::size_t sum = 0;
      for (std::size_t at = 0; at < n; at += 3)
        sum += keep_quota(density, at, std::min<std::size_t>(3, n - at));
      CHECK(static_cast<long long>(sum) == std::llround(density * static_cast<double>(n)));
    }
}

TEST_CASE("units to come may compete with those that are decided") {
  eigen_matrix<float> s(1, 6);
  s << 1, 2, 9, 8, 3, 7;
  bit_mask m(1, 6);
  const unit_shape p = shape_of<bitmap>();
  // Two columns at a time; half of six survive, and those right of the first two are better.
  for (std::size_t at = 0; at < 6; at += 2) {
    const eigen_matrix<float> left = s.rightCols(static_cast<Eigen::Index>(6 - at));
    select_units(view_of(left), p, 0, at, 0.5, scope::row, m, 2);
    CHECK(kept_units(m, p, 0, 1, at + 2) == (at == 0 ? 0 : at == 2 ? 2 : 3));
  }
  CHECK(m(0, 2));
  CHECK(m(0, 3));
  CHECK(m(0, 5));
}

TEST_CASE("scores and densities that make no sense are errors") {
  eigen_matrix<float> s = eigen_matrix<float>::Ones(3, 2);
  const auto message = [](const auto& r) { return std::string(r.error().what()); };
  for (const double density : {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    const auto r = select<group<16>>(s, 3, 32, density);
    REQUIRE_FALSE(r);
    CHECK(message(r).find("density") != std::string::npos);
  }
  CHECK_FALSE(select<group<16>>(s, 3, 33, 0.5));
  CHECK_FALSE(select<group<16>>(s, 4, 32, 0.5));
  s(2, 1) = std::numeric_limits<float>::quiet_NaN();
  const auto r = select<group<16>>(s, 3, 32, 0.5);
  REQUIRE_FALSE(r);
  CHECK(message(r).find("row 2 column 16 is NaN") != std::string::npos);
}
