// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Dense>
#include <cmath>
#include <limits>
#include <quern/compress/obs.hpp>
#include <quern/core/thread_pool.hpp>
#include <string>

#include "../formats.hpp"
#include "problem.hpp"

using namespace quern;
using namespace quern_test;

namespace {

dense_matrix masked(const dense_matrix& w, const bit_mask& m) {
  dense_matrix out = w;
  apply(m, out);
  return out;
}

/// The rows whose pruned weights are 0 and whose columns in `free` minimise tr(d H d^T), all others as they
/// are.
Eigen::VectorXd least_squares(const Eigen::MatrixXd& h, const Eigen::VectorXd& w,
                              const std::vector<Eigen::Index>& gone, const std::vector<Eigen::Index>& free) {
  Eigen::VectorXd out = w;
  out(gone).setZero();
  const Eigen::MatrixXd hff = h(free, free), hfg = h(free, gone);
  out(free) = w(free) + hff.ldlt().solve(hfg * w(gone));
  return out;
}

template <class P>
void compensation_pays(const problem& p) {
  INFO(std::string(P::label().c_str()));
  for (const saliency kind : {saliency::magnitude, saliency::wanda, saliency::obs_block}) {
    const bit_mask m = select<P>(unit_scores<P>(p.weights(), p.inverse, kind), p.w.rows, p.w.cols).value();
    dense_matrix repaired = p.w;
    compensate(repaired.view(), p.inverse, m).value();
    const double plain = p.error(masked(p.w, m)), better = p.error(repaired);
    MESSAGE(std::string(P::label().c_str()), ": mask only ", plain, ", compensated ", better, ", ratio ",
            better / plain);
    CHECK(better < plain);
    for (std::size_t r = 0; r < p.w.rows; ++r)
      for (std::size_t c = 0; c < p.w.cols; ++c)
        if (!m(r, c)) REQUIRE(repaired.view()(r, c) == 0);
  }
}

}  // namespace

TEST_CASE("removing one group is the exact least squares solution with the columns left of it frozen") {
  // 300 columns: the update crosses two borders of the columns that are decided together.
  for (const std::size_t cols : {4u, 6u, 40u, 300u}) {
    const problem p(2, cols, 51);
    const Eigen::MatrixXd u = p.inverse.upper.cast<double>(), h = (u.transpose() * u).inverse();
    const std::size_t width = cols / 2 / 2;
    for (std::size_t first = 0; first + width <= cols; first += cols / 50 + 1) {
      CAPTURE(cols);
      CAPTURE(first);
      bit_mask m(2, cols, true);
      std::vector<Eigen::Index> gone, right;
      for (std::size_t c = 0; c < cols; ++c) {
        if (c >= first && c < first + width) {
          gone.push_back(static_cast<Eigen::Index>(c));
          m.set(0, c, false);  // row 1 keeps everything
        } else if (c > first) {
          right.push_back(static_cast<Eigen::Index>(c));
        }
      }
      dense_matrix out = p.w;
      compensate(out.view(), p.inverse, m).value();
      const Eigen::VectorXd w = eigen_map(p.weights()).row(0).cast<double>().transpose();
      const Eigen::VectorXd want = least_squares(h, w, gone, right);
      for (std::size_t c = 0; c < cols; ++c) {
        // At most cols updates of weights of size 6, each rounded, times the condition of H (below 300).
        const double bound = static_cast<double>(cols) * 6 * 300 * 0x1p-24;
        CHECK(std::abs(static_cast<double>(out.view()(0, c)) - want(static_cast<Eigen::Index>(c))) < bound);
        CHECK(out.view()(1, c) == p.w.view()(1, c));
      }
    }
  }
}

TEST_CASE("compensation never makes a layer worse than the mask alone") {
  const problem p(96, 160, 52);
  compensation_pays<bitmap>(p);
  compensation_pays<nm<2, 4>>(p);
  compensation_pays<group<16>>(p);
  compensation_pays<group_nm<2, 4, 16>>(p);
  compensation_pays<bsr<4, 16>>(p);
  compensation_pays<bsr<16, 16>>(p);
}

TEST_CASE("SparseGPT < Wanda < magnitude at 2:4 and at half the weights") {
  const problem p(128, 256, 53);
  const auto one = [&]<class P>() {
    const auto error_of = [&](saliency kind) {
      const auto scores = unit_scores<P>(p.weights(), p.inverse, kind);
      return p.error(masked(p.w, select<P>(scores, p.w.rows, p.w.cols).value()));
    };
    dense_matrix w = p.w;
    const bit_mask m = sparse_gpt<P>(w.view(), p.inverse).value();
    CHECK(conforms<P>(m));
    const double magnitude = error_of(saliency::magnitude), wanda = error_of(saliency::wanda),
                 gpt = p.error(w);
    MESSAGE(std::string(P::label().c_str()), ": magnitude ", magnitude, ", Wanda ", wanda, ", SparseGPT ",
            gpt);
    CHECK(wanda < magnitude);
    CHECK(gpt < wanda);
    // Half of everything, exactly.
    CHECK(count(m) == p.w.rows * p.w.cols / 2);
    CHECK(count(nonzero(w.view())) == count(m));
  };
  one.operator()<nm<2, 4>>();
  one.operator()<bitmap>();
}

TEST_CASE("masks chosen on the way obey their pattern and their density") {
  rng g(54);
  const auto one = [&]<class P>(std::size_t rows, std::size_t cols) {
    const problem p(rows, cols, 55, 64);
    for (const double density : {0.0, 0.3, 1.0})
      for (const scope s : {scope::row, scope::row_block, scope::layer}) {
        dense_matrix w = p.w;
        const bit_mask m = sparse_gpt<P>(w.view(), p.inverse, density, s).value();
        REQUIRE(conforms<P>(m));
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t c = 0; c < cols; ++c)
            if (!m(r, c)) REQUIRE(w.view()(r, c) == 0);
        if constexpr (P::of == 0 && P::unit_rows == 1) {
          // Units are counted at their first column; parts of 128 columns add up to the share of the whole.
          std::size_t units = 0;
          for (std::size_t r = 0; r < rows; ++r)
            for (std::size_t c = 0; c < cols; c += P::unit_cols) units += m(r, c) ? 1 : 0;
          const std::size_t scopes = s == scope::row ? rows : s == scope::row_block ? (rows + 15) / 16 : 1;
          std::size_t want = 0;
          for (std::size_t i = 0; i < scopes; ++i) {
            const std::size_t tall = s == scope::row         ? 1
                                     : s == scope::row_block ? std::min<std::size_t>(16, rows - 16 * i)
                                                             : rows;
            want += keep_quota(density, 0, tall * units_per_row<P>(cols));
          }
          REQUIRE(units == want);
        }
        if (density == 1.0 && P::of == 0) REQUIRE(w.data == p.w.data);
      }
  };
  for (const std::size_t rows : {1u, 17u, 65u})
    for (const std::size_t cols : {1u, 33u, 129u, 300u}) {
      CAPTURE(rows);
      CAPTURE(cols);
      one.operator()<bitmap>(rows, cols);
      one.operator()<nm<2, 4>>(rows, cols);
      one.operator()<group<16>>(rows, cols);
      one.operator()<group_nm<2, 3, 16>>(rows, cols);
      one.operator()<bsr<4, 8>>(rows, cols);
      one.operator()<bsr<48, 16>>(rows, cols);
    }
}

TEST_CASE("the result does not depend on the number of threads") {
  const problem p(200, 300, 56, 128);
  thread_pool three(3);
  dense_matrix a = p.w, b = p.w;
  const bit_mask x = sparse_gpt<bitmap>(a.view(), p.inverse, 0.5, scope::layer).value();
  const bit_mask y =
      sparse_gpt<bitmap>(b.view(), p.inverse, 0.5, scope::layer, saliency::obs_block, three).value();
  CHECK(a.data == b.data);
  CHECK(flip_rate(x, y) == 0);
  compensate(a.view(), p.inverse, x).value();
  compensate(b.view(), p.inverse, x, three).value();
  CHECK(a.data == b.data);
}

TEST_CASE("bad weights, densities and shapes are errors that say where; nothing is written") {
  problem p(5, 16, 57, 32);
  rng g(58);
  const auto message = [](const auto& r) { return std::string(r.error().what()); };
  CHECK_FALSE(sparse_gpt<bitmap>(p.w.view(), p.inverse, 2));
  CHECK_FALSE(sparse_gpt<bitmap>(p.w.view(), identity_hessian(15)));
  CHECK_FALSE(compensate(p.w.view(), p.inverse, bit_mask(5, 15)));
  // Finite weights that overflow when they make up for each other.
  dense_matrix huge(5, 16);
  bit_mask half(5, 16);
  for (std::size_t r = 0; r < 5; ++r)
    for (std::size_t c = 0; c < 16; ++c) {
      huge.view()(r, c) = g.uniform() < 0.5f ? -3e38f : 3e38f;
      half.set(r, c, c % 2 == 1);
    }
  const auto overflow = compensate(huge.view(), p.inverse, half);
  REQUIRE_FALSE(overflow);
  CHECK(message(overflow).find("overflows in rows 0 to 4") != std::string::npos);
  p.w.view()(4, 7) = std::numeric_limits<float>::quiet_NaN();
  const dense_matrix before = p.w;
  for (const auto& r : {message(sparse_gpt<nm<2, 4>>(p.w.view(), p.inverse)),
                        message(compensate(p.w.view(), p.inverse, bit_mask(5, 16)))})
    CHECK(r.find("row 4 column 7 is NaN or infinite") != std::string::npos);
  CHECK(std::memcmp(before.data.data(), p.w.data.data(), before.data.size() * sizeof(float)) == 0);
}
