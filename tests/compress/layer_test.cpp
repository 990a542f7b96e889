// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <quern/compress/layer.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <string>

#include "../formats.hpp"
#include "problem.hpp"

using namespace quern;
using namespace quern_test;

// One of each kind of survivors and of parameters: the whole list of formats.hpp would take minutes to compile.
#define LAYER_FORMATS                                                                     \
  format<dense, affine<3, 16, two_level>>, format<dense, affine<5, 32, f16_offset>>,      \
      format<group<16>, affine<4, 16>>, format<group<64>, symmetric<4, 32, bf16>>,        \
      format<group_nm<2, 3, 16>, affine<8, 16, bf16>>, format<bsr<4, 16>, affine<4, 16>>, \
      format<bsr<16, 64>, codebook<fp4, 16, two_level>>, format<nm<2, 4>, affine<4, 32>>, \
      format<nm<3, 4>, affine<2, 16, two_level>>, format<bitmap, codebook<nf4, 32>>,      \
      format<bitmap, real<f16>>

TEST_CASE_TEMPLATE("every format: what is packed is what was chosen, obeys its pattern and keeps its density",
                   F, LAYER_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  INFO(std::string(P::label().c_str()) << " " << Q::label().c_str());
  static const problem p(50, 150, 81, 300);  // tails of blocks, units, windows and runs
  thread_pool three(3);
  for (const compress_options o :
       {compress_options{}, compress_options{.compensate = compensation::none},
        compress_options{.density = 0.3, .over = scope::layer, .round = rounding::rtn}}) {
    const auto layer = compress_layer<P, Q>(p.weights(), p.inverse, o).value();
    REQUIRE(conforms<P>(layer.mask));
    dense_matrix values(50, 150), stored(50, 150);
    layer.decode(values.view());
    const auto packed = pack<P>(layer.codes, layer.mask);
    unpack(packed.view(), stored.view());
    REQUIRE(stored.data == values.data);
    if constexpr (Q::row_scaled)
      for (std::size_t r = 0; r < 50; ++r) REQUIRE(packed.view().row_scale(r) == layer.codes.row_scale(r));
    // The same bits from three threads.
    const auto again = compress_layer<P, Q>(p.weights(), p.inverse, o, three).value();
    dense_matrix other(50, 150);
    again.decode(other.view());
    REQUIRE(other.data == values.data);
    REQUIRE(flip_rate(again.mask, layer.mask) == 0);
  }
}

TEST_CASE("groups are chosen by what they are worth, however few of them 128 columns hold") {
  // Inputs of every other panel of 128 columns are a hundred times as large: their groups are all that matters.
  rng g(90);
  dense_matrix w(32, 1024), x(2048, 1024);
  for (float& v : w.data) v = g.normal();
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = g.normal() * (i / 128 % 2 == 1 ? 100.0f : 1.0f);
  hessian h(1024);
  h.add(x.view()).value();
  const inverse_hessian inverse = invert(h).value();
  const auto kept_of_large = [&]<class P>(int refine) {
    const auto layer =
        compress_layer<P, real<float>>(w.view(), inverse, {.density = 0.5, .refine = refine}).value();
    std::size_t n = 0;
    for (std::size_t r = 0; r < 32; ++r)
      for (std::size_t c = 0; c < 1024; ++c) n += c / 128 % 2 == 1 && layer.mask(r, c) ? 1 : 0;
    CHECK(count(layer.mask) == 32 * 512);
    return n;
  };
  CHECK(kept_of_large.operator()<group<128>>(0) == 32 * 512);
  CHECK(kept_of_large.operator()<group<64>>(0) == 32 * 512);
  CHECK(kept_of_large.operator()<group<16>>(0) == 32 * 512);
  CHECK(kept_of_large.operator()<group<128>>(5) == 32 * 512);
  CHECK(kept_of_large.operator()<group<64>>(5) == 32 * 512);
}

TEST_CASE("compensation and GPTQ each make a layer better") {
  const problem p(128, 192, 82);
  const auto one = [&]<class P, class Q>() {
    const auto error_of = [&](compress_options o) {
      dense_matrix out(p.w.rows, p.w.cols);
      compress_layer<P, Q>(p.weights(), p.inverse, o).value().decode(out.view());
      return p.error(out);
    };
    const double plain = error_of({.compensate = compensation::none, .round = rounding::rtn}),
                 gpt = error_of({.compensate = compensation::none}), obs = error_of({.round = rounding::rtn}),
                 both = error_of({});
    MESSAGE(std::string(P::label().c_str()), " ", std::string(Q::label().c_str()), ": RTN ", plain, ", GPTQ ",
            gpt, ", OBS + RTN ", obs, ", OBS + GPTQ ", both);
    CHECK(gpt < plain);
    CHECK(obs < gpt);
    CHECK(both < obs);
  };
  one.operator()<nm<2, 4>, affine<3, 16>>();
  one.operator()<bitmap, affine<3, 16>>();
  one.operator()<group<16>, affine<3, 16>>();
  one.operator()<group_nm<2, 4, 16>, affine<3, 16>>();
  one.operator()<bsr<16, 32>, affine<3, 32>>();
}

TEST_CASE("pruned weights take no part in the range of a run") {
  // Survivors of each run are small; the weights that a given score prunes are large.
  dense_matrix w(4, 32);
  rng g(83);
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 0; c < 32; ++c) w.view()(r, c) = c % 2 == 0 ? 100 : 0.1f * g.normal();
  inverse_hessian h = identity_hessian(32);
  for (std::size_t c = 0; c < 32; c += 2) h.diagonal[c] = 0;  // Wanda: these inputs are never seen
  const auto layer =
      compress_layer<nm<2, 4>, affine<4, 16>>(
          std::as_const(w).view(), h,
          {.score = saliency::wanda, .compensate = compensation::none, .round = rounding::gptq})
          .value();
  for (std::size_t r = 0; r < 4; ++r)
    for (std::size_t c = 1; c < 32; c += 2) {
      REQUIRE(layer.mask(r, c));
      // Half a step of a range of at most 1.2 over 15 codes, for a grid that may have clipped: one step.
      CHECK(std::abs(layer.codes.value(r, c) - w.view()(r, c)) < 1.2f / 15);
    }
}

TEST_CASE("bad input is an error that says where") {
  problem p(5, 32, 84, 64);
  const auto message = [](const auto& r) { return std::string(r.error().what()); };
  using q = affine<4, 16>;
  for (const double density : {-1.0, 1.5, std::numeric_limits<double>::quiet_NaN()})
    CHECK(
        message(compress_layer<group<16>, q>(p.weights(), p.inverse, {.density = density})).find("density") !=
        std::string::npos);
  CHECK_FALSE(compress_layer<dense, q>(p.weights(), identity_hessian(31)));
  p.w.view()(2, 9) = std::numeric_limits<float>::quiet_NaN();
  CHECK(message(compress_layer<nm<2, 4>, q>(p.weights(), p.inverse)).find("row 2 column 9 is NaN") !=
        std::string::npos);
  CHECK(compress_layer<nm<2, 4>, q>(span2<const float>(nullptr, 0, 32), p.inverse));
  CHECK(compress_layer<bsr<16, 32>, affine<4, 32>>(span2<const float>(nullptr, 5, 0), identity_hessian(0)));
}
