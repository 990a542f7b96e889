// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <quern/pattern/nm.hpp>
#include <quern/train/low_rank.hpp>
#include <quern/train/mask_update.hpp>

#include "../support.hpp"

using namespace quern;
using namespace quern_test;

namespace {

struct pruned {
  dense_matrix dense, sparse, s;
  std::size_t k;
  pruned(std::size_t rows, std::size_t cols, std::size_t group, std::uint64_t seed)
      : dense(rows, cols), sparse(rows, cols), s(rows, slorb_groups(cols, group)), k(group) {
    rng g(seed);
    dense = random_matrix(rows, cols, g);
    const bit_mask mask =
        magnitude_mask(std::as_const(dense).view(), {.shape = shape_of<nm<2, 4>>()}).value();
    apply_mask<float>(mask, dense.view(), sparse.view());
    slorb_start<float>(dense.view(), sparse.view(), k, s.view());
  }
  /// mask (.) W + S X
  dense_matrix together() const {
    dense_matrix w = sparse;
    slorb_add<float>(s.view(), k, w.view());
    return w;
  }
};

}  // namespace

static_assert(quern::slorb_groups(5, 2) == 3 && quern::slorb_groups(4, 2) == 2 &&
              quern::slorb_groups(5, 0) == 0 && quern::slorb_groups(5, ~std::size_t{0}) == 1 &&
              quern::slorb_groups(~std::size_t{0}, 2) == std::size_t{1} << 63);

TEST_CASE("S by hand: the mean of the pruned weights over all places of the group (AST eq. 6)") {
  const std::vector<double> dense{1, -2, 4, 8, 3, 5}, sparse{0, -2, 4, 0, 3, 0};
  double s[2];
  slorb_start<double>({dense.data(), 1, 6}, {sparse.data(), 1, 6}, 4, {s, 1, 2});
  CHECK(s[0] == (1 + 8) / 4.0);
  CHECK(s[1] == 5 / 2.0);  // a last group of two
  std::vector<double> w = sparse;
  slorb_add<double>({s, 1, 2}, 4, {w.data(), 1, 6});
  CHECK(w == std::vector<double>{2.25, 0.25, 6.25, 2.25, 5.5, 2.5});
}

TEST_CASE("the start keeps every group sum to 1e-6, also where the last group is short") {
  for (const std::size_t cols : {64u, 256u, 100u})
    for (const std::size_t k : {4u, 16u, 24u}) {
      const pruned p(33, cols, k, 7);
      const dense_matrix w = p.together();
      for (std::size_t r = 0; r < 33; ++r)
        for (std::size_t first = 0; first < cols; first += k) {
          double before = 0, after = 0;
          for (std::size_t c = first; c < std::min(cols, first + k); ++c)
            before += static_cast<double>(p.dense.view()(r, c)), after += static_cast<double>(w.view()(r, c));
          // 24 weights of order one, each rounded when S was added: 24 * 6e-8 * 3 = 4e-6 at worst, and the signs of
          // roundings are mixed: 1e-6 of the sum of magnitudes, which is at least ten.
          CHECK(std::abs(after - before) <= 1e-6 * 10);
        }
    }
}

TEST_CASE("outputs are closer than without, for inputs that have a mean") {
  // Activations behind a gate or an embedding have means; a group's sum of weights is what multiplies them.
  const pruned p(64, 128, 16, 8);
  rng g(9);
  dense_matrix x = random_matrix(200, 128, g);
  for (float& v : x.data) v += 0.5f;
  const auto error_of = [&](const dense_matrix& w) {
    return (eigen_map(std::as_const(x).view()) *
            (eigen_map(w.view()) - eigen_map(p.dense.view())).transpose())
        .squaredNorm();
  };
  CHECK(error_of(p.together()) < 0.8f * error_of(p.sparse));
}

TEST_CASE("the pooled product is the product with S X, and X the indicator") {
  const pruned p(24, 100, 16, 10);
  rng g(11);
  const dense_matrix x = random_matrix(5, 100, g);
  dense_matrix pooled(5, 7), indicator(7, 100), y(5, 24), expected(5, 24);
  slorb_pool<float>(x.view(), 16, pooled.view());
  eigen_map(y.view()).noalias() = eigen_map(x.view()) * eigen_map(p.sparse.view()).transpose() +
                                  eigen_map(std::as_const(pooled).view()) * eigen_map(p.s.view()).transpose();
  eigen_map(expected.view()).noalias() = eigen_map(x.view()) * eigen_map(p.together().view()).transpose();
  // Sums of 100 products of order one in another order: 100 * 6e-8 * 10.
  CHECK((eigen_map(y.view()) - eigen_map(expected.view())).cwiseAbs().maxCoeff() < 6e-5f);
  slorb_indicator<float>(16, indicator.view());
  dense_matrix w = p.sparse;
  slorb_add<float>(p.s.view(), std::as_const(indicator).view(), w.view());
  const dense_matrix same = p.together();
  CHECK(w.data == same.data);  // one product by 1 and many by 0
}

TEST_CASE("gradients of S and X against central differences") {
  constexpr std::size_t rows = 3, cols = 10, k = 4, groups = 3;
  rng g(12);
  const auto fill = [&](std::size_t n) {
    std::vector<double> v(n);
    for (double& e : v) e = static_cast<double>(g.normal());
    return v;
  };
  const std::vector<double> sparse = fill(rows * cols), weight = fill(rows * cols);
  std::vector<double> s = fill(rows * groups), x(groups * cols);
  slorb_indicator<double>(k, {x.data(), groups, cols});
  const auto view = [](auto& v, std::size_t r, std::size_t c) { return span2(v.data(), r, c); };
  // loss = sum weight * (sparse + S X)^2 / 2, so that dloss/dW = weight * W.
  const auto effective = [&](bool trained) {
    std::vector<double> w = sparse;
    if (trained)
      slorb_add<double>(view(s, rows, groups), span2<const double>(view(x, groups, cols)),
                        view(w, rows, cols));
    else
      slorb_add<double>(view(s, rows, groups), k, view(w, rows, cols));
    return w;
  };
  const auto loss = [&](bool trained) {
    double sum = 0;
    const auto w = effective(trained);
    for (std::size_t i = 0; i < w.size(); ++i) sum += weight[i] * w[i] * w[i] / 2;
    return sum;
  };
  for (const bool trained : {false, true}) {
    std::vector<double> dw = effective(trained), ds(s.size()), dx(x.size());
    for (std::size_t i = 0; i < dw.size(); ++i) dw[i] *= weight[i];
    if (trained)
      slorb_backward<double>(view(dw, rows, cols), view(s, rows, groups), view(x, groups, cols),
                             view(ds, rows, groups), view(dx, groups, cols));
    else
      slorb_backward<double>(view(dw, rows, cols), k, view(ds, rows, groups));
    const auto check = [&](std::vector<double>& values, const std::vector<double>& gradient) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        const double at = values[i], h = 1e-4;
        values[i] = at + h;
        const double above = loss(trained);
        values[i] = at - h;
        const double below = loss(trained);
        values[i] = at;
        // Quadratic: central differences are exact but for rounding, eps * 100 / h = 2e-10.
        CHECK(std::abs((above - below) / (2 * h) - gradient[i]) < 1e-8);
      }
    };
    check(s, ds);
    if (trained) check(x, dx);
  }
}

TEST_CASE("wrong shapes are refused") {
  dense_matrix w(2, 32), s(2, 3);
  CHECK_THROWS_AS(slorb_add<float>(s.view(), 16, w.view()), shape_error);
  CHECK_THROWS_AS(slorb_add<float>(s.view(), std::size_t{0}, w.view()), shape_error);
  CHECK_THROWS_AS(slorb_start<float>(w.view(), s.view(), 16, s.view()), shape_error);
  CHECK_THROWS_AS(slorb_indicator<float>(8, w.view()), shape_error);
}
