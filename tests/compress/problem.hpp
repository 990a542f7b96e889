// SPDX-License-Identifier: Apache-2.0
#pragma once
// Weights and correlated inputs, shared by the tests of this folder.

#include <cmath>
#include <quern/calib/hessian.hpp>
#include <quern/calib/layer_error.hpp>

#include "../support.hpp"

namespace quern_test {

/// A layer whose inputs hang together as those of a model do: a quarter as many causes as inputs, mixed, of
/// unequal sizes, and noise of half their size.
struct problem {
  dense_matrix w, x;
  quern::eigen_matrix<float> h;
  quern::inverse_hessian inverse;

  problem(std::size_t rows, std::size_t cols, std::uint64_t seed, std::size_t positions = 1024)
      : w(rows, cols), x(positions, cols) {
    quern::rng g(seed);
    w = random_matrix(rows, cols, g);
    const std::size_t causes = cols / 4 + 1;
    const dense_matrix mix = random_matrix(causes, cols, g), cause = random_matrix(positions, causes, g);
    for (std::size_t c = 0; c < cols; ++c) {
      const float size = 0.3f + 2 * g.uniform() * g.uniform();
      for (std::size_t t = 0; t < positions; ++t) {
        float sum = 0;
        for (std::size_t k = 0; k < causes; ++k) sum += cause.view()(t, k) * mix.view()(k, c);
        x.view()(t, c) = size * (sum / std::sqrt(static_cast<float>(causes)) + 0.5f * g.normal());
      }
    }
    quern::hessian sums(cols);
    sums.add(std::as_const(x).view()).value();
    h = sums.matrix();
    inverse = quern::invert(sums).value();
  }
  quern::span2<const float> weights() const { return w.view(); }
  double error(const dense_matrix& changed) const { return quern::layer_error(w.view(), changed.view(), h); }
};

}  // namespace quern_test
