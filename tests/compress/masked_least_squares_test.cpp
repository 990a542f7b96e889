// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <Eigen/Cholesky>
#include <limits>
#include <quern/compress/layer.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <string>

#include "problem.hpp"

namespace {

using namespace quern;
using quern_test::dense_matrix;
using quern_test::problem;

/// The exact minimum, row by row in double: H_SS w'_S = (H w)_S.
dense_matrix exact(const problem& p, const bit_mask& mask) {
  const eigen_matrix<double> h = p.inverse.damped.cast<double>();
  dense_matrix out(p.w.rows, p.w.cols);
  for (std::size_t r = 0; r < p.w.rows; ++r) {
    std::vector<Eigen::Index> s;
    for (std::size_t c = 0; c < p.w.cols; ++c)
      if (mask(r, c)) s.push_back(static_cast<Eigen::Index>(c));
    const Eigen::VectorXd row = eigen_map(p.weights().rows_of(r, 1)).row(0).cast<double>().transpose();
    const Eigen::VectorXd right = (h * row)(s);
    const Eigen::VectorXd solved = h(s, s).llt().solve(right);
    for (std::size_t i = 0; i < s.size(); ++i)
      out.view()(r, static_cast<std::size_t>(s[i])) =
          static_cast<float>(solved[static_cast<Eigen::Index>(i)]);
  }
  return out;
}

}  // namespace

TEST_CASE("many iterations find the exact solution, few come near it, and the error only falls") {
  const problem p(70, 96, 91);
  dense_matrix start = p.w;
  const bit_mask mask = sparse_gpt<group<16>>(start.view(), p.inverse, 0.5).value();
  const dense_matrix best = exact(p, mask);
  const double floor = p.error(best), obs = p.error(start);
  double last = obs;
  for (const int iterations : {1, 2, 5, 20, 200}) {
    dense_matrix w = start;
    masked_least_squares(w.view(), p.weights(), p.inverse, mask, iterations).value();
    const double now = p.error(w);
    // What is minimised is the damped error; at a damping of 1 % the other follows to a few percent of itself.
    CHECK(now <= 1.02 * last);
    CHECK(flip_rate(mask, nonzero(w.view())) == 0);
    if (iterations == 20) CHECK(now <= 1.05 * floor);
    if (iterations == 200) {
      // Condition numbers are below 1e4 at this damping: 1e4 * 6e-8 relative, in each of 48 unknowns.
      double distance = 0, size = 0;
      for (std::size_t i = 0; i < w.data.size(); ++i) {
        distance += double(w.data[i] - best.data[i]) * double(w.data[i] - best.data[i]);
        size += double(best.data[i]) * double(best.data[i]);
      }
      CHECK(std::sqrt(distance / size) < 6e-4);
    }
    last = now;
  }
  MESSAGE("relative error: OBS " << obs << ", refined " << last << ", exact " << floor);
  CHECK(last <= 0.9 * obs);  // .87 is the exact solution here
}

TEST_CASE("no row gets worse, begun anew at its optimum among inputs that share a massive direction") {
  constexpr std::size_t rows = 64, cols = 256, positions = 512;
  quern::rng g(2);
  const dense_matrix w = quern_test::random_matrix(rows, cols, g);
  dense_matrix x(positions, cols);
  for (std::size_t t = 0; t < positions; ++t) {
    const float massive = 300 * g.normal();
    for (std::size_t c = 0; c < cols; ++c) x.view()(t, c) = (c % 7 == 0 ? massive : 0) + g.normal();
  }
  for (const double damp : {1e-2, 1e-4}) {
    hessian sums(cols);
    sums.add(std::as_const(x).view()).value();
    const inverse_hessian inverse = invert(sums, damp).value();
    dense_matrix s = w;
    const bit_mask mask = sparse_gpt<group<16>>(s.view(), inverse, 0.5).value();
    const eigen_matrix<double> h = inverse.damped.cast<double>(), sizes = h.cwiseAbs();
    const auto missing = [&] {
      return eigen_matrix<double>(eigen_map(w.view()).cast<double>() -
                                  eigen_map(std::as_const(s).view()).cast<double>());
    };
    const auto errors = [](const eigen_matrix<double>& d, const eigen_matrix<double>& m) {
      return Eigen::ArrayXd((d * m).cwiseProduct(d).rowwise().sum());
    };
    for (const int iterations : {0, 5, 20, 100, 400}) {
      CAPTURE(damp);
      CAPTURE(iterations);
      const Eigen::ArrayXd before = errors(missing(), h);
      masked_least_squares(s.view(), w.view(), inverse, mask, iterations).value();
      const Eigen::ArrayXd after = errors(missing(), h);
      // Two sums of cols^2 terms in double, made once more here in another order.
      const Eigen::ArrayXd rounding = 4 * cols * 0x1p-53 * errors(missing().cwiseAbs(), sizes);
      for (Eigen::Index r = 0; r < before.size(); ++r) CHECK(after[r] <= before[r] + rounding[r]);
    }
  }
}

TEST_CASE("refined layers lose less, pruned only and with codes") {
  const auto one = [&]<class P, class Q>() {
    const problem p(64, 128, 92);
    const auto error = [&](int refine, rounding round) {
      const auto layer =
          compress_layer<P, Q>(p.weights(), p.inverse, {.round = round, .refine = refine}).value();
      CHECK(conforms<P>(layer.mask));
      dense_matrix out(p.w.rows, p.w.cols);
      layer.decode(out.view());
      return p.error(out);
    };
    CAPTURE(std::string(P::label().c_str()) + " " + Q::label().c_str());
    for (const rounding r : {rounding::rtn, rounding::gptq}) CHECK(error(20, r) < error(0, r));
  };
  one.operator()<group<16>, real<float>>();
  one.operator()<group<16>, affine<4, 16>>();
  one.operator()<nm<2, 4>, affine<4, 16>>();
  one.operator()<bsr<16, 32>, affine<4, 32>>();
}

TEST_CASE("rows of nothing, masks of everything and threads") {
  const problem p(130, 64, 93);
  bit_mask all(130, 64, true), none(130, 64);
  dense_matrix w = p.w;
  masked_least_squares(w.view(), p.weights(), p.inverse, all, 5).value();
  CHECK(w.data == p.w.data);  // the start is the solution: nothing may move
  masked_least_squares(w.view(), p.weights(), p.inverse, none, 5).value();
  for (const float x : w.data) CHECK(x == 0);
  quern::rng g(94);
  const bit_mask half = quern_test::random_mask<nm<2, 4>>(130, 64, 0.5f, g);
  dense_matrix a = p.w, b = p.w;
  thread_pool three(3);
  masked_least_squares(a.view(), p.weights(), p.inverse, half, 7).value();
  masked_least_squares(b.view(), p.weights(), p.inverse, half, 7, three).value();
  CHECK(a.data == b.data);
}

TEST_CASE("bad input is an error that says where") {
  problem p(5, 32, 95, 64);
  const bit_mask mask(5, 32, true);
  dense_matrix w = p.w;
  CHECK_FALSE(masked_least_squares(w.view(), p.weights(), p.inverse, bit_mask(5, 31), 3));
  CHECK_FALSE(masked_least_squares(w.view(), p.weights().rows_of(0, 4), p.inverse, mask, 3));
  w.view()(2, 9) = std::numeric_limits<float>::infinity();
  const auto r = masked_least_squares(w.view(), p.weights(), p.inverse, mask, 3);
  REQUIRE_FALSE(r);
  CHECK(std::string(r.error().what()).find("row 2 column 9") != std::string::npos);
}
