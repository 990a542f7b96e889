// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <quern/pattern/bitmap.hpp>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/train/mask_update.hpp>
#include <quern/train/masked_decay.hpp>
#include <string>

#include "../support.hpp"

using namespace quern;
using namespace quern_test;

namespace {

/// Units kept of every window of `of` units (of all units of a block row, where the density is free).
template <class P>
void check_counts(const bit_mask& m, double density) {
  const std::size_t units = units_per_row<P>(m.cols()), window = P::of > 0 ? P::of : units;
  for (std::size_t top = 0; top < m.rows(); top += P::unit_rows)
    for (std::size_t first = 0; first < units; first += window) {
      const std::size_t wide = std::min(window, units - first);
      std::size_t kept = 0;
      for (std::size_t u = first; u < first + wide; ++u) kept += m(top, u * P::unit_cols) ? 1 : 0;
      const std::size_t expected =
          P::of > 0 ? std::min<std::size_t>(P::keep, wide)
                    : static_cast<std::size_t>(std::llround(density * static_cast<double>(units)));
      REQUIRE(kept == expected);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("after every update each group holds exactly what it may, while weights train", P,
                   nm<2, 4>, nm<1, 4>, nm<4, 8>, group_nm<2, 4, 16>, group<16>, bsr<16, 16>, bsr<16, 32>,
                   bitmap) {
  INFO(std::string(P::label().c_str()));
  for (const std::size_t cols : {100u, 256u}) {
    rng g(21);
    dense_matrix w = random_matrix(40, cols, g);
    const mask_rule rule{.shape = shape_of<P>(), .density = 0.3};
    learned_mask mask(magnitude_mask(std::as_const(w).view(), rule).value());
    std::vector<float> m(w.data.size()), v(w.data.size()), gradient(w.data.size());
    // Blocks of 16 x 16 grow or shrink together, or the means over large units would hardly move.
    std::vector<float> drift(3 * 16);
    for (float& x : drift) x = 2 * g.normal();
    double total = 0;
    for (std::uint64_t step = 1; step <= 12; ++step) {
      for (std::size_t i = 0; i < gradient.size(); ++i)
        gradient[i] = g.normal() + std::copysign(1.0f, w.data[i]) * drift[i / cols / 16 * 16 + i % cols / 16];
      masked_adamw_update<float>({}, {.learning_rate = 0.3f, .step = step}, 0.05f, mask.now(), gradient, m, v,
                                 w.data);
      const bit_mask before = mask.now().clone();
      const flips f = mask.update(std::as_const(w).view(), rule).value();
      REQUIRE(conforms<P>(mask.now()));
      check_counts<P>(mask.now(), 0.3);
      CHECK(f.since_last == flip_rate(before, mask.now()));
      CHECK(f.since_start == flip_rate(mask.start(), mask.now()));
      total += f.since_last;
    }
    CHECK(total > 0);  // steps of 0.3 on weights of order one do change masks
  }
}

TEST_CASE("flip rates by hand; a masked weight comes back when it has grown") {
  std::vector<float> w{4, 3, 2, 1};
  const span2<const float> view(w.data(), 1, 4);
  const mask_rule rule{.shape = shape_of<nm<2, 4>>()};
  learned_mask mask(magnitude_mask(view, rule).value());
  CHECK(mask.update(view, rule).value().since_last == 0);
  w[3] = -5;  // 4 and -5 survive: 3 and 1 have swapped
  flips f = mask.update(view, rule).value();
  CHECK(f.since_last == 0.5);
  CHECK(f.since_start == 0.5);
  CHECK(mask.now()(0, 3));
  w[3] = 1;
  f = mask.update(view, rule).value();
  CHECK(f.since_last == 0.5);
  CHECK(f.since_start == 0);
  w[2] = std::numeric_limits<float>::quiet_NaN();
  const auto bad = mask.update(view, rule);
  REQUIRE_FALSE(bad);
  CHECK(std::string(bad.error().what()).find("row 0 column 2") != std::string::npos);
  CHECK(count(mask.now()) == 2);
}

TEST_CASE("the norm of the inputs can weigh in") {
  const std::vector<float> w{1, 2, 3, 4}, norm{10, 1, 1, 1};
  const mask_rule rule{.shape = shape_of<nm<1, 4>>()};
  CHECK(magnitude_mask(span2<const float>(w.data(), 1, 4), rule).value()(0, 3));
  CHECK(magnitude_mask(span2<const float>(w.data(), 1, 4), rule, norm).value()(0, 0));
}

TEST_CASE("schedules of density fall from everything to their end, and rules follow") {
  const gradual_schedule gradual{.final = 0.25, .end = 100};
  CHECK(gradual(0) == 1);
  CHECK(gradual(50) == 0.25 + 0.75 / 8);
  CHECK(gradual(100) == 0.25);
  CHECK(gradual(1000) == 0.25);
  const iterative_schedule rounds{.final = 0.25, .rounds = 2, .end = 100};
  CHECK(rounds(0) == 0.5);
  CHECK(rounds(49) == 0.5);
  CHECK(rounds(50) == 0.25);
  CHECK(rounds(1000) == 0.25);
  const mask_rule rule{.shape = shape_of<nm<1, 4>>()};
  CHECK(rule_at(rule, 1).shape.keep == 4);
  CHECK(rule_at(rule, 0.51).shape.keep == 3);
  CHECK(rule_at(rule, 0.5).shape.keep == 2);
  CHECK(rule_at(rule, 0.1).shape.keep == 1);
  CHECK(rule_at({.shape = shape_of<group<16>>()}, 0.7).density == 0.7);
}

TEST_CASE("masks are applied to what survives, shapes are checked") {
  const std::vector<float> w{4, 3, 2, 1};
  const span2<const float> view(w.data(), 1, 4);
  const bit_mask mask = magnitude_mask(view, {.shape = shape_of<nm<2, 4>>()}).value();
  std::vector<float> out(4, 9);
  apply_mask<float>(mask, view, {out.data(), 1, 4});
  CHECK(out == std::vector<float>{4, 3, 0, 0});
  CHECK_THROWS_AS(apply_mask<float>(mask, view, {out.data(), 4, 1}), shape_error);
  CHECK_THROWS_AS(learned_mask(bit_mask(1, 4), bit_mask(1, 5)), shape_error);
}
