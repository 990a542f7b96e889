// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/train/weight_optimizer.hpp>
#include <string>

#include "../formats.hpp"

namespace {

using namespace quern;

template <class Q>
struct one_row {
  coded_matrix<Q> codes{1, 16};
  trained_weight start(std::uint64_t keep = 0xffff) {
    bit_mask mask(1, 16);
    for (std::size_t c = 0; c < 16; ++c) mask.set(0, c, (keep >> c & 1) != 0);
    return trained_weight::start<Q>(1, 16, std::move(mask), [&](std::size_t r) { return codes.row(r); });
  }
};

template <class P, class Q>
trained_weight training_of(const matrix<P, Q>& w) {
  bit_mask keep;
  coded_matrix<Q> codes = unpack_codes(w.view(), &keep);
  return trained_weight::start<Q>(w.rows(), w.cols(), std::move(keep),
                                  [&](std::size_t r) { return codes.row(r); });
}

template <class P, class Q>
matrix<P, Q> packed(const trained_weight& w) {
  coded_matrix<Q> codes(w.rows(), w.cols());
  for (std::size_t r = 0; r < w.rows(); ++r) codes.row_scale(r) = w.store<Q>(r, codes.row(r));
  return pack<P>(codes, w.keep());
}

template <class P, class Q>
bool same_bytes(const matrix<P, Q>& a, const matrix<P, Q>& b) {
  if (a.bytes().total() != b.bytes().total()) return false;
  for (int i = 0; i < stream_count; ++i) {
    const auto s = static_cast<stream>(i);
    if (std::memcmp(a.view()[s], b.view()[s], a.bytes().bytes[i]) != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("training starts at, and stores, exactly what was packed", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  CAPTURE(std::string(P::label().c_str()) + " " + Q::label().c_str());
  rng g(31);
  const std::size_t rows = 37, cols = 200;  // neither whole tiles nor whole units
  const auto dense = quern_test::random_matrix(rows, cols, g);
  const auto mask = quern_test::random_mask<P>(rows, cols, 0.5f, g);
  const auto before = pack<P, Q>(dense.view(), mask);
  trained_weight w = training_of(before);
  quern_test::dense_matrix decoded(rows, cols), again(rows, cols);
  unpack(before.view(), decoded.view());
  w.quantize(again.view());
  CHECK(decoded.data == again.data);
  CHECK(same_bytes(before, packed<P, Q>(w)));
  w.pull(dense.view(), 0.9f);  // latent weights move, codes do not
  w.quantize(again.view());
  CHECK(decoded.data == again.data);
  w.freeze();
  w.quantize(again.view());
  CHECK(decoded.data == again.data);
  CHECK(same_bytes(before, packed<P, Q>(w)));
}

TEST_CASE("pulling moves weights towards the dense ones, inside their cells") {
  one_row<affine<4, 16>> one;
  one.codes.params(0, 0) = {0.5f, -2.0f};
  for (std::size_t c = 0; c < 16; ++c) one.codes.code(0, c) = static_cast<std::uint8_t>(c);
  trained_weight w = one.start(0xfffe);  // code 0 is pruned
  quern_test::dense_matrix dense(1, 16);
  for (std::size_t c = 0; c < 16; ++c) dense.data[c] = one.codes.value(0, c) + (c % 2 == 0 ? 10.0f : -0.1f);
  w.pull(dense.view(), 0.5f);
  CHECK(w.values(trained::weight)[0] == 0);
  for (std::size_t c = 1; c < 16; ++c)
    CHECK(w.values(trained::weight)[c] ==
          doctest::Approx(one.codes.value(0, c) + (c % 2 == 0 ? 0.125f : -0.1f)));
}

TEST_CASE("scales are multiples of their start, through the rounding of their format") {
  // fp16 scale 1/2, zero 4: w^ = s (code - 4).
  one_row<affine<4, 16>> one;
  one.codes.params(0, 0) = {0.5f, -2.0f};
  for (std::size_t c = 0; c < 16; ++c) one.codes.code(0, c) = static_cast<std::uint8_t>(c);
  trained_weight w = one.start();
  w.freeze();
  w.values(trained::scale)[0] = 1.5f;
  std::vector<float> out(16), g(16, 1.0f);
  w.quantize({out.data(), 1, 16});
  for (std::size_t c = 0; c < 16; ++c) CHECK(out[c] == 0.75f * (static_cast<float>(c) - 4));
  trained_numbers sums = w.gradient(false);
  w.backward({g.data(), 1, 16}, sums);
  CHECK(sums[trained::scale][0] == 0.5f * (120 - 64));  // start * sum (code - z)
  CHECK(sums[trained::zero][0] == -0.75f * 16);
  // The zero is a whole code where it is used: 4.4 is still 4, 4.6 is 5.
  w.values(trained::zero)[0] = 4.4f;
  w.quantize({out.data(), 1, 16});
  CHECK(out[4] == 0);
  w.values(trained::zero)[0] = 4.6f;
  w.quantize({out.data(), 1, 16});
  CHECK(out[5] == 0);
  CHECK(w.store<affine<4, 16>>(0, one.codes.row(0)) == 1);
  for (std::size_t c = 0; c < 16; ++c) CHECK(one.codes.code(0, c) == c);
}

TEST_CASE("two-level scales train a row scale and whole multipliers") {
  one_row<affine<2, 8, two_level>> one;  // two runs: 3 and 10 times a row scale of 1/4, zero 1
  one.codes.row_scale(0) = 0.25f;
  one.codes.params(0, 0) = {0.75f, -0.75f};
  one.codes.params(0, 1) = {2.5f, -2.5f};
  for (std::size_t c = 0; c < 16; ++c) one.codes.code(0, c) = 3;
  trained_weight w = one.start();
  w.freeze();
  std::vector<float> out(16), g(16, 1.0f);
  const auto at = [&](std::size_t c) {
    w.quantize({out.data(), 1, 16});
    return out[c];
  };
  CHECK(at(0) == 2 * 0.75f);
  w.values(trained::scale)[0] = 1.16f;  // 3.48 -> 3
  CHECK(at(0) == 2 * 0.75f);
  w.values(trained::scale)[0] = 1.17f;  // 3.51 -> 4
  CHECK(at(0) == 2 * 1.0f);
  w.values(trained::row_scale)[0] = 2;
  CHECK(at(0) == 2 * 2.0f);
  CHECK(at(15) == 2 * 5.0f);
  trained_numbers sums = w.gradient(false);
  w.backward({g.data(), 1, 16}, sums);
  // d w^ / d multiplier = row (code - z) = 0.5 * 2, times the start: 3 and 10; eight weights each.
  CHECK(sums[trained::scale][0] == 8 * 3 * 0.5f * 2);
  CHECK(sums[trained::scale][1] == 8 * 10 * 0.5f * 2);
  // d w^ / d row = multiplier (code - z), multipliers 4 and 10, times the start.
  CHECK(sums[trained::row_scale][0] == 8 * (4 + 10) * 2 * 0.25f);
  // Multipliers stay 1..15 and scales within a factor of 16 of the start.
  w.values(trained::scale)[0] = 100, w.values(trained::scale)[1] = 1e-9f,
  w.values(trained::row_scale)[0] = -1;
  w.values(trained::zero)[0] = 9, w.values(trained::zero)[1] = -9;
  w.settle();
  CHECK(w.values(trained::scale)[0] == 5);
  CHECK(w.values(trained::scale)[1] == 0.1f);
  CHECK(w.values(trained::row_scale)[0] == 1.0f / 16);
  CHECK(w.values(trained::zero)[0] == 3);
  CHECK(w.values(trained::zero)[1] == 0);
}

TEST_CASE("one step of the optimizer: rates by kind in their units, a common norm, NaN refused") {
  one_row<affine<4, 16>> one;
  one.codes.params(0, 0) = {0.5f, -2.0f};
  for (std::size_t c = 0; c < 16; ++c) one.codes.code(0, c) = 8;  // all weights are 2: the unit of weights
  std::vector<trained_weight> w;
  w.push_back(one.start());
  CHECK(w[0].unit(trained::weight) == 2);
  weight_optimizer optimizer(w, {.weight = 0.125f, .scale = 0.25f}, {}, 1.0f);
  std::vector<trained_numbers> g;
  g.push_back(w[0].gradient(true));
  for (float& x : g[0][trained::weight]) x = 1.5f;
  g[0][trained::scale][0] = -8;
  g[0][trained::zero][0] = 100;                     // not trained, so not part of the norm
  CHECK(optimizer.step(w, g, 0.5f).value() == 10);  // sqrt(16 * 1.5^2 + 8^2)
  // AdamW's first step is the rate against the sign: half of 0.125 * 2 and of 0.25, to epsilon / |g|.
  CHECK(w[0].values(trained::weight)[3] == doctest::Approx(2 - 0.125f).epsilon(1e-6));
  CHECK(w[0].values(trained::scale)[0] == doctest::Approx(1 + 0.125f).epsilon(1e-6));
  CHECK(w[0].values(trained::zero)[0] == 4);
  const std::vector<float> before(w[0].values(trained::weight).begin(), w[0].values(trained::weight).end());
  g[0][trained::weight][7] = std::nanf("");
  CHECK_FALSE(optimizer.step(w, g, 1.0f));
  CHECK(std::equal(before.begin(), before.end(), w[0].values(trained::weight).begin()));
  CHECK(optimizer.count() == 1);
}

TEST_CASE("wrong shapes and another quantizer are refused") {
  using q = affine<4, 16>;
  using another = affine<3, 16>;
  one_row<q> one;
  const auto short_mask = [&] {
    return trained_weight::start<q>(1, 16, bit_mask(1, 15), [&](std::size_t r) { return one.codes.row(r); });
  };
  CHECK_THROWS_AS(short_mask(), shape_error);
  const trained_weight w = one.start();
  one_row<another> other;
  CHECK_THROWS_AS(w.store<another>(0, other.codes.row(0)), shape_error);
}
