// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <quern/calib/hessian.hpp>
#include <quern/calib/layer_error.hpp>
#include <quern/core/thread_pool.hpp>

#include "../support.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE("the layer error is the ratio of squared outputs") {
  rng g(21);
  const std::size_t rows = 130, cols = 20, n = 50;
  const dense_matrix w = random_matrix(rows, cols, g), x = random_matrix(n, cols, g);
  dense_matrix changed = w;
  for (float& v : changed.data) v += 0.1f * g.normal();
  hessian h(cols);
  h.add(x.view()).value();
  double lost = 0, all = 0;
  for (std::size_t t = 0; t < n; ++t)
    for (std::size_t r = 0; r < rows; ++r) {
      double a = 0, b = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        a += static_cast<double>(w.view()(r, c)) * static_cast<double>(x.view()(t, c));
        b += static_cast<double>(changed.view()(r, c)) * static_cast<double>(x.view()(t, c));
      }
      all += a * a;
      lost += (a - b) * (a - b);
    }
  thread_pool pool(3);
  const double e = layer_error(w.view(), std::as_const(changed).view(), h.matrix(), pool);
  // Each of the two traces sums positive squares through H, whose entries carry n and whose products 2 * cols
  // roundings of 2^-24; the entries' absolute sum exceeds the trace by at most a factor of cols.
  const double bound =
      2 * static_cast<double>(n + 2 * cols) * 0x1p-24 * static_cast<double>(cols) * lost / all;
  CHECK(std::abs(e - lost / all) < bound);
  CHECK(e == layer_error(w.view(), std::as_const(changed).view(), h.matrix()));
  CHECK(layer_error(w.view(), w.view(), h.matrix()) == 0);
  const dense_matrix zero(rows, cols);
  CHECK(layer_error(w.view(), zero.view(), h.matrix()) == 1);
  CHECK(layer_error(zero.view(), zero.view(), h.matrix()) == 0);
  CHECK_THROWS_AS(layer_error(w.view(), zero.view().rows_of(0, 3), h.matrix()), shape_error);
  CHECK_THROWS_AS(layer_error(w.view(), w.view(), eigen_matrix<float>(3, 3)), shape_error);
}
