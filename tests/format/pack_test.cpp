// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/core/thread_pool.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/format/validate.hpp>
#include <string>

#include "../formats.hpp"
#include "../support.hpp"

using namespace quern;
using namespace quern_test;

namespace {

/// Shapes around every boundary of a pattern: 0, 1, unit - 1, unit, unit + 1, and tails of tiles and windows.
template <class P, class Q>
std::vector<std::pair<std::size_t, std::size_t>> shapes() {
  using l = layout<P, Q>;
  const std::size_t u = l::cell_cols, b = P::unit_rows;
  std::vector<std::pair<std::size_t, std::size_t>> s = {{0, 0}, {0, 5}, {3, 0}, {1, 1}, {1, u}, {15, u - 1}};
  s.push_back({16, u + 1});
  s.push_back({17, 17 * u + 3});
  s.push_back({b - 1, 3 * u});
  s.push_back({b, 4 * u});
  s.push_back({b + 1, 5 * u - 1});
  s.push_back({2 * b + 5, 35 * u});
  return s;
}

template <class P, class Q>
void round_trip() {
  using l = layout<P, Q>;
  INFO(std::string(P::label().c_str()) << " " << std::string(Q::label().c_str()));
  rng g(7);
  for (const auto& [rows, cols] : shapes<P, Q>()) {
    CAPTURE(rows);
    CAPTURE(cols);
    dense_matrix w = random_matrix(rows, cols, g);
    const bit_mask mask = random_mask<P>(rows, cols, 0.5f, g);
    REQUIRE(conforms<P>(mask));

    // What is to be stored: codes chosen beforehand over the masked weights.
    dense_matrix pruned = w;
    apply(mask, pruned);
    coded_matrix<Q> coded(rows, cols);
    for (std::size_t r = 0; r < rows; ++r) {
      coded_row<Q> row = coded.row(r);
      REQUIRE(round_row<Q>(pruned.view().row(r), cols, row) == cols);
      coded.row_scale(r) = row.row_scale;
    }
    thread_pool pool(3);
    const matrix<P, Q> m = pack<P, Q>(coded, mask, pool);
    CHECK(m.bytes().total() == l::bytes(rows, cols, m.cells()).total());

    // Codes come back exactly, pruned weights are zero exactly, and every survivor is stored.
    bit_mask stored;
    const coded_matrix<Q> back = unpack_codes(m.view(), &stored);
    dense_matrix out(rows, cols);
    unpack(m.view(), out.view());
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) {
        const float value = out.view()(r, c);
        if (mask(r, c)) {
          REQUIRE(stored(r, c));
          REQUIRE(back.code(r, c) == coded.code(r, c));
          REQUIRE(value == coded.value(r, c));
        } else {
          REQUIRE(value == 0.0f);
        }
      }

    // Rounding inside pack gives the same matrix, from a mask and from zeros alike.
    const matrix<P, Q> rounded = pack<P, Q>(std::as_const(w).view(), mask, pool);
    const matrix<P, Q> zeros = pack<P, Q>(std::as_const(pruned).view(), pool);
    REQUIRE(rounded.bytes().total() == m.bytes().total());
    REQUIRE(zeros.bytes().total() == m.bytes().total());
    for (int i = 0; i < stream_count; ++i) {
      const stream s = static_cast<stream>(i);
      CHECK(std::memcmp(rounded.view()[s], m.view()[s], m.bytes()[s]) == 0);
      CHECK(std::memcmp(zeros.view()[s], m.view()[s], m.bytes()[s]) == 0);
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("pack then unpack returns the codes and keeps zeros", F, QUERN_TEST_FORMATS) {
  round_trip<typename F::pattern, typename F::quantizer>();
}

TEST_CASE("packing does not depend on the executor") {
  rng g(3);
  dense_matrix w = random_matrix(77, 200, g);
  const bit_mask mask = random_mask<group<16>>(77, 200, 0.4f, g);
  thread_pool pool(3);
  const auto one = pack<group<16>, affine<4, 16>>(std::as_const(w).view(), mask);
  const auto three = pack<group<16>, affine<4, 16>>(std::as_const(w).view(), mask, pool);
  REQUIRE(one.bytes().total() == three.bytes().total());
  CHECK(std::memcmp(one.view()[stream::begin], three.view()[stream::begin], one.bytes().total()) == 0);
}

TEST_CASE("pack names the row and column that break the pattern") {
  dense_matrix w(20, 64);
  for (float& v : w.data) v = 1;
  auto message = [](const auto& r) { return std::string(r.error().what()); };
  const auto quad = try_pack<nm<2, 4>, real<float>>(std::as_const(w).view());
  REQUIRE_FALSE(quad);
  CHECK(message(quad).find("row 0 column 2") != std::string::npos);
  CHECK(message(quad).find("more than 2 of 4 weights") != std::string::npos);

  const auto groups = try_pack<group_nm<2, 4, 8>, real<float>>(std::as_const(w).view());
  REQUIRE_FALSE(groups);
  CHECK(message(groups).find("row 0 column 0: more than 2 of 4 groups") != std::string::npos);

  bit_mask part(20, 64, true);
  part.set(17, 33, false);
  const auto block = try_pack<bsr<4, 16>, real<float>>(std::as_const(w).view(), &part);
  REQUIRE_FALSE(block);
  CHECK(message(block).find("row 17 column 33") != std::string::npos);

  w.view()(5, 6) = std::numeric_limits<float>::quiet_NaN();
  const auto nan = try_pack<dense, affine<4, 16>>(std::as_const(w).view());
  REQUIRE_FALSE(nan);
  CHECK(message(nan).find("row 5 column 6 is NaN or infinite") != std::string::npos);
  w.view()(5, 6) = std::numeric_limits<float>::infinity();
  CHECK_FALSE(try_pack<bitmap, real<f16>>(std::as_const(w).view()));
  w.view()(5, 6) = 1e9f;  // finite, but beyond fp16
  const auto large = try_pack<dense, affine<4, 16>>(std::as_const(w).view());
  REQUIRE_FALSE(large);
  CHECK(message(large).find("row 5 column 0") != std::string::npos);
  CHECK(try_pack<dense, affine<4, 16, bf16>>(std::as_const(w).view()));
  CHECK_FALSE(try_pack<dense, real<f16>>(std::as_const(w).view()));

  const bit_mask other(3, 64, true);
  CHECK_FALSE(try_pack<dense, real<float>>(std::as_const(w).view(), &other));
  CHECK_THROWS_AS((pack<dense, real<f16>>(std::as_const(w).view())), shape_error);
}

TEST_CASE("what a mask prunes is not looked at") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  dense_matrix w(16, 64);
  for (float& v : w.data) v = 1;
  bit_mask mask(16, 64, true);
  for (std::size_t c = 16; c < 32; ++c) mask.set(3, c, false);
  const auto clean = pack<group<16>, affine<4, 16>>(std::as_const(w).view(), mask);
  w.view()(3, 20) = nan;
  w.view()(3, 31) = -std::numeric_limits<float>::infinity();
  const auto same = try_pack<group<16>, affine<4, 16>>(std::as_const(w).view(), &mask);
  REQUIRE_MESSAGE(same, same.error().what());
  CHECK(std::memcmp(same->view()[stream::begin], clean.view()[stream::begin], clean.bytes().total()) == 0);
  // Behind one that is pruned, one that is not.
  w.view()(3, 40) = nan;
  const auto bad = try_pack<group<16>, affine<4, 16>>(std::as_const(w).view(), &mask);
  REQUIRE_FALSE(bad);
  CHECK(std::string(bad.error().what()).find("row 3 column 40 is NaN") != std::string::npos);
  // 2:4 completes windows with pruned places.
  dense_matrix quads(16, 64);
  for (float& v : quads.data) v = nan;
  for (std::size_t r = 0; r < 16; ++r) quads.view()(r, 5) = 2;
  bit_mask one(16, 64);
  for (std::size_t r = 0; r < 16; ++r) one.set(r, 5, true);
  const auto packed = try_pack<nm<2, 4>, real<f16>>(std::as_const(quads).view(), &one);
  REQUIRE(packed);
  dense_matrix out(16, 64);
  unpack(packed->view(), out.view());
  for (std::size_t c = 0; c < 64; ++c) CHECK(out.view()(7, c) == (c == 5 ? 2.0f : 0.0f));
  // Codes are stored with the parameters of their run, pruned or not.
  coded_matrix<affine<4, 16>> codes(16, 64);
  codes.params(3, 1) = {nan, 0};
  CHECK_FALSE(try_pack<group<16>, affine<4, 16>>(codes, &mask));
}

TEST_CASE("an offset that fp16 cannot hold is an error, not an infinity") {
  // A step of 140000 / 15 is an fp16 number, and 8 of them are not.
  dense_matrix w(16, 64);
  for (std::size_t i = 0; i < w.data.size(); ++i) w.data[i] = i % 2 != 0 ? 1.0f : -1.0f;
  const auto format_of = [&] { return try_pack<dense, affine<4, 32, f16_offset>>(std::as_const(w).view()); };
  for (std::size_t c = 32; c < 64; ++c) w.view()(9, c) *= 70000;
  const auto large = format_of();
  REQUIRE_FALSE(large);
  CHECK(std::string(large.error().what()).find("row 9 column 32: the weights are too large") !=
        std::string::npos);
  // What is accepted is accepted again, up to the largest offset.
  for (std::size_t c = 32; c < 64; ++c) w.view()(9, c) *= 60000.0f / 70000;
  const auto held = format_of();
  REQUIRE_MESSAGE(held, held.error().what());
  CHECK(checked<dense, affine<4, 32, f16_offset>>(held->view().raw(), held->bytes()));
}

TEST_CASE("bits per weight by hand") {
  // 4096 x 4096, half the blocks: codes 2, fp16 scale .5/run 32 = .25, zero code 4/32/2 = .0625, u8 index per
  // block.
  using b = layout<bsr<16, 32>, affine<4, 32>>;
  constexpr std::size_t n = 4096, cells = n * n / 2 / 32;
  constexpr storage s = b::bytes(n, n, cells);
  static_assert(s[stream::codes] == n * n / 4);
  static_assert(s[stream::scale] == cells * 2);
  static_assert(s[stream::zero] == cells / 2);
  static_assert(s[stream::index] == cells / 16);
  static_assert(s[stream::begin] == 1088);  // 257 u32 = 1028 bytes, padded to 64
  // 2:4 of groups: 4-bit codes of half the weights, a mask bit per group, multipliers of 4 bits.
  using g = layout<group_nm<2, 4, 16>, symmetric<4, 16, two_level>>;
  static_assert(g::bytes(n, n, g::cells(n, n, 0)).total() ==
                n * n / 4 + n * n / 2 / 16 / 2 + n * n / 16 / 8 + n * 2);
}
