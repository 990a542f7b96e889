// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/pattern/select.hpp>
#include <string>

using namespace quern;

TEST_CASE("magnitudes of units, by hand") {
  // Two rows of three: units of 2 x 2 are {1, -3, 0, 4} and, cut at the edge, {2, -8}.
  const std::vector<float> w{1, -3, 2, 0, 4, -8}, factor{1, 2, 0.5f};
  const span2<const float> view(w.data(), 2, 3);
  const unit_shape p{.rows = 2, .cols = 2};
  float out[2];
  unit_magnitudes(view, p, {}, {out, 1, 2});
  CHECK(out[0] == 2);
  CHECK(out[1] == 5);
  unit_magnitudes(view, p, factor, {out, 1, 2});
  CHECK(out[0] == (1 + 6 + 0 + 8) / 4.0f);
  CHECK(out[1] == (1 + 4) / 2.0f);
  CHECK_THROWS_AS(unit_magnitudes(view, p, std::span(factor).first(2), {out, 1, 2}), shape_error);
  CHECK_THROWS_AS(unit_magnitudes(view, p, {}, {out, 2, 1}), shape_error);
}

TEST_CASE("two of four by magnitude, equal ones from the left, a cut window keeps what it may") {
  const std::vector<float> w{3, -5, 4, 4, 0, 0, 0, 0, 1, 2};
  std::vector<float> scores(10);
  unit_magnitudes({w.data(), 1, 10}, shape_of<nm<2, 4>>(), {}, {scores.data(), 1, 10});
  const bit_mask mask = select<nm<2, 4>>(span2<const float>(scores.data(), 1, 10), 1, 10).value();
  const bool expected[] = {false, true, true, false, true, true, false, false, true, true};
  for (std::size_t c = 0; c < 10; ++c) CHECK(mask(0, c) == expected[c]);
}

TEST_CASE("what was pruned before is found again, and what breaks the pattern is named") {
  std::vector<float> w(4 * 64, 0.0f);
  const span2<float> view(w.data(), 4, 64);
  view(1, 20) = -1, view(3, 40) = 2;
  // Blocks of 2 rows x 16 inputs: (0, 1) and (1, 2) hold a weight.
  const bit_mask blocks = surviving_units(view, unit_shape{.rows = 2, .cols = 16}).value();
  CHECK(count(blocks) == 64);
  CHECK(blocks(0, 16));
  CHECK(blocks(3, 47));
  CHECK_FALSE(blocks(0, 40));
  CHECK(conforms<group_nm<2, 4, 16>>(surviving_units(view, shape_of<group_nm<2, 4, 16>>()).value()));
  CHECK(count(surviving_units(view, shape_of<dense>()).value()) == w.size());

  view(3, 41) = 1, view(3, 43) = std::numeric_limits<float>::quiet_NaN();  // NaN is not zero
  const auto bad = surviving_units(view, shape_of<nm<2, 4>>());
  REQUIRE_FALSE(bad);
  CHECK(std::string(bad.error().what()).find("row 3 column 43") != std::string::npos);
}
