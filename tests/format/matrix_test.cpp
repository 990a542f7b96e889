// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/format/validate.hpp>
#include <type_traits>
#include <utility>

#include "../formats.hpp"
#include "../support.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE_TEMPLATE("a matrix that was moved from is empty and usable", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  using M = matrix<P, Q>;
  static_assert(std::is_nothrow_move_constructible_v<M> && std::is_nothrow_move_assignable_v<M>);
  rng g(3);
  dense_matrix w = random_matrix(33, 96, g);
  const bit_mask mask = random_mask<P>(33, 96, 0.5f, g);
  apply(mask, w);
  M a = pack<P, Q>(std::as_const(w).view(), mask);
  const std::size_t cells = a.cells(), total = a.bytes().total();
  const std::byte* const codes = a.view()[stream::codes];
  const auto check_empty = [](const M& m) {
    CHECK(m.rows() == 0);
    CHECK(m.cols() == 0);
    CHECK(m.cells() == 0);
    CHECK(checked<P, Q>(m.view().raw(), m.bytes()));  // its streams may be read, and written to a file
    const M copy = m.clone();
    CHECK(checked<P, Q>(copy.view().raw(), copy.bytes()));
    unpack(m.view(), {});
  };
  M b = std::move(a);
  check_empty(a);
  CHECK(b.rows() == 33);
  CHECK(b.cells() == cells);
  CHECK(b.view()[stream::codes] == codes);
  a = std::move(b);  // into an empty one, and what it held is gone
  check_empty(b);
  CHECK(a.bytes().total() == total);
  b = pack<P, Q>(std::as_const(w).view(), mask);
  b = std::move(a);
  check_empty(a);
  CHECK(b.view()[stream::codes] == codes);
  check_empty(M{});
}
