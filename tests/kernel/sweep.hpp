// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every instruction set is compared with a double loop over the same shapes, through this one sweep.

#include <doctest/doctest.h>

#include <cmath>
#include <quern/core/thread_pool.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <string>

#include "../formats.hpp"
#include "../support.hpp"

namespace quern_test {

using namespace quern;

/// y against a double loop over the unpacked weights. A sum of n products in float, in any order, is off by
/// at most n * eps * sum |w| |x| (eps = 2^-24 per operation, two operations per product, first order),
/// whether or not the compiler contracts multiply and add. Where codes and zeros are multiplied apart and scaled
/// afterwards, |w| is not what is summed: |scale| (|code| + |zero|), at most 2^bits |scale|, is.
template <class Isas, class P, class Q>
void compare(std::size_t rows, std::size_t cols, std::size_t tokens, thread_pool& pool, rng& g) {
  CAPTURE(rows);
  CAPTURE(cols);
  CAPTURE(tokens);
  const dense_matrix w = random_matrix(rows, cols, g);
  const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(rows, cols, 0.5f, g), pool);
  dense_matrix values(rows, cols), x = random_matrix(tokens, cols, g), y(tokens, rows), again(tokens, rows);
  unpack(m.view(), values.view(), pool);
  bit_mask stored;
  const coded_matrix<Q> coded = unpack_codes(m.view(), &stored);
  for (float& v : y.data) v = std::nanf("");  // every output must be written
  multiply<Isas>(m, std::as_const(x).view(), y.view(), pool);
  multiply<Isas>(m.view(), std::as_const(x).view(), again.view(), serial{});
  CHECK(y.data == again.data);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0, size = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        const double p = static_cast<double>(values.view()(r, c)) * static_cast<double>(x.view()(t, c));
        sum += p;
        size += std::abs(p);
        if (Q::run > 0 && Q::bits <= 8 && stored(r, c))
          size += (1 << Q::bits % 16) * std::abs(static_cast<double>(params_at(coded, r, c).scale) *
                                                 static_cast<double>(x.view()(t, c)));
      }
      const double bound = 2.0 * static_cast<double>(cols + 2) * 0x1p-24 * size;
      REQUIRE(std::abs(static_cast<double>(y.view()(t, r)) - sum) <= bound);
    }
}

template <class Isas, class P, class Q>
void sweep() {
  INFO(std::string(P::label().c_str()) << " " << std::string(Q::label().c_str()));
  using l = layout<P, Q>;
  const std::size_t u = l::cell_cols, b = P::unit_rows;
  thread_pool pool(3);
  rng g(11);
  compare<Isas, P, Q>(0, 16, 1, pool, g);
  compare<Isas, P, Q>(1, 1, 1, pool, g);
  compare<Isas, P, Q>(b + 1, u - 1, 2, pool, g);
  compare<Isas, P, Q>(16, u, 1, pool, g);
  compare<Isas, P, Q>(17, 17 * u + 3, 3, pool, g);
  compare<Isas, P, Q>(2 * b + 5, 35 * u, 1, pool, g);
  compare<Isas, P, Q>(48, 16 * u, 5, pool, g);
}

}  // namespace quern_test
