// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Dense>
#include <cmath>
#include <quern/compress/score.hpp>
#include <quern/core/thread_pool.hpp>

#include "../formats.hpp"
#include "problem.hpp"

using namespace quern;
using namespace quern_test;

namespace {

/// Scores by their definitions, in double, from the explicit inverse.
template <class P>
Eigen::MatrixXd by_definition(const problem& p, saliency kind, aggregate unit) {
  const Eigen::MatrixXd u = p.inverse.upper.cast<double>(), inverse = u.transpose() * u;
  const std::size_t rows = p.w.rows, cols = p.w.cols;
  Eigen::MatrixXd out(block_rows<P>(rows), units_per_row<P>(cols));
  for (std::size_t b = 0; b < block_rows<P>(rows); ++b)
    for (std::size_t g = 0; g < units_per_row<P>(cols); ++g) {
      const std::size_t first = g * P::unit_cols, end = std::min(cols, first + P::unit_cols);
      const Eigen::Index f = static_cast<Eigen::Index>(first), n = static_cast<Eigen::Index>(end - first);
      const Eigen::MatrixXd block = inverse.block(f, f, n, n).inverse();
      double sum = 0, squares = 0, top = 0, weights = 0, exact = 0;
      for (std::size_t r = b * P::unit_rows; r < std::min<std::size_t>(rows, (b + 1) * P::unit_rows); ++r) {
        Eigen::VectorXd v(n);
        for (Eigen::Index i = 0; i < n; ++i) {
          const std::size_t c = first + static_cast<std::size_t>(i);
          const double w = static_cast<double>(p.weights()(r, c));
          v(i) = w;
          const double norm = std::sqrt(static_cast<double>(p.inverse.diagonal[c]));
          const double s = kind == saliency::magnitude ? std::abs(w)
                           : kind == saliency::wanda
                               ? std::abs(w) * norm
                               : w * w / inverse(static_cast<Eigen::Index>(c), static_cast<Eigen::Index>(c));
          sum += s;
          squares += s * s;
          top = std::max(top, s);
          weights += 1;
        }
        exact += v.dot(block * v);
      }
      out(static_cast<Eigen::Index>(b), static_cast<Eigen::Index>(g)) =
          kind == saliency::obs_block ? exact
          : unit == aggregate::mean   ? sum / weights
          : unit == aggregate::sum    ? sum
          : unit == aggregate::max    ? top
                                      : std::sqrt(squares);
    }
  return out;
}

template <class P>
void compare(const problem& p) {
  thread_pool pool(3);
  for (const saliency kind : {saliency::magnitude, saliency::wanda, saliency::obs, saliency::obs_block})
    for (const aggregate unit : {aggregate::mean, aggregate::sum, aggregate::max, aggregate::l2}) {
      const eigen_matrix<float> s = unit_scores<P>(p.weights(), p.inverse, kind, unit, pool);
      const Eigen::MatrixXd want = by_definition<P>(p, kind, unit);
      REQUIRE(s.rows() == want.rows());
      REQUIRE(s.cols() == want.cols());
      // Sums of at most 512 positive terms: 512 * 2^-24 = 3e-5 relative. The block solve of obs_block is
      // backward stable: 16 * 2^-24 times the condition of [H^-1]_gg, below 1,000 for these inputs, is 1e-3.
      const double bound = kind == saliency::obs_block ? 1e-3 : 4e-5;
      CHECK(((s.cast<double>() - want).array().abs() <= bound * want.array()).all());
      CHECK(s == unit_scores<P>(p.weights(), p.inverse, kind, unit));
    }
}

}  // namespace

TEST_CASE("scores are what their formulas say, whole and partial units, any threads") {
  const problem p(70, 75, 41);
  compare<bitmap>(p);
  compare<nm<2, 4>>(p);
  compare<group<16>>(p);
  compare<bsr<4, 8>>(p);
  compare<bsr<16, 16>>(p);
  compare<bsr<80, 16>>(p);
}

TEST_CASE("the score of a unit is the error of removing it alone") {
  // Remove one group and let all others follow: the least squared error that is possible is obs_block.
  const problem p(3, 6 * 8, 42);
  const Eigen::MatrixXd u = p.inverse.upper.cast<double>(), damped = (u.transpose() * u).inverse();
  const eigen_matrix<float> scores = unit_scores<group<8>>(p.weights(), p.inverse, saliency::obs_block);
  const Eigen::MatrixXd w = eigen_map(p.weights()).cast<double>();
  for (Eigen::Index g = 0; g < 6; ++g) {
    // Minimise d H d^T with d_g = -w_g: the free part is -H_ff^-1 H_fg d_g^T.
    std::vector<Eigen::Index> gone, left;
    for (Eigen::Index c = 0; c < 48; ++c) (c / 8 == g ? gone : left).push_back(c);
    const Eigen::MatrixXd hff = damped(left, left), hfg = damped(left, gone), hgg = damped(gone, gone);
    const Eigen::MatrixXd schur = hgg - hfg.transpose() * hff.ldlt().solve(hfg);
    for (Eigen::Index r = 0; r < 3; ++r) {
      const Eigen::VectorXd v = w.row(r)(gone).transpose();
      const double least = v.dot(schur * v);
      // As above: 8 * 2^-24 times a condition below 1,000.
      CHECK(std::abs(static_cast<double>(scores(r, g)) - least) <= 1e-3 * least);
    }
  }
}

TEST_CASE("shapes are checked") {
  const problem p(3, 16, 43);
  CHECK_THROWS_AS(
      (unit_scores<group<16>>(span2<const float>(p.w.data.data(), 3, 15), p.inverse, saliency::obs)),
      shape_error);
  const auto empty =
      unit_scores<group<16>>(span2<const float>(nullptr, 0, 16), p.inverse, saliency::obs_block);
  CHECK(empty.rows() == 0);
}
