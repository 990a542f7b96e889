// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/compress/layer.hpp>
#include <string>

#include "../formats.hpp"
#include "problem.hpp"

using namespace quern;
using namespace quern_test;

// A mask that training found must outlive rounding, whatever the codes: with every family of quantizers, every
// kind of scale and zero, and an odd number of bits.
#define GIVEN_FORMATS                                                                                    \
  format<nm<2, 4>, affine<2, 16>>, format<nm<2, 4>, affine<3, 16, two_level>>,                           \
      format<nm<2, 4>, affine<4, 32>>, format<nm<2, 4>, affine<5, 32, f16_offset>>,                      \
      format<nm<2, 4>, affine<8, 32>>, format<nm<2, 4>, symmetric<4, 32>>,                               \
      format<nm<2, 4>, symmetric<8, 64, bf16>>, format<nm<2, 4>, codebook<nf4, 64>>,                     \
      format<nm<2, 4>, codebook<fp4, 32>>, format<nm<2, 4>, real<f16>>, format<nm<1, 4>, affine<4, 32>>, \
      format<group_nm<2, 4, 16>, affine<4, 16>>, format<bsr<16, 32>, affine<4, 32>>

TEST_CASE_TEMPLATE("rounding keeps a given mask: zeros stay zero, and the pattern holds", F, GIVEN_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  INFO(std::string(P::label().c_str()) << " " << Q::label().c_str());
  problem p(48, 128, 85, 256);
  eigen_matrix<float> scores(static_cast<Eigen::Index>(block_rows<P>(48)),
                             static_cast<Eigen::Index>(units_per_row<P>(128)));
  unit_magnitudes(p.weights(), shape_of<P>(), {}, {scores.data(), block_rows<P>(48), units_per_row<P>(128)});
  const bit_mask mask = select<P>(scores, 48, 128).value();
  apply(mask, p.w);
  for (const rounding round : {rounding::rtn, rounding::gptq})
    for (const compensation repair : {compensation::none, compensation::obs}) {
      const auto layer = compress_layer<P, Q>(p.weights(), p.inverse,
                                              {.compensate = repair, .round = round, .choose = timing::given})
                             .value();
      CHECK(flip_rate(layer.mask, mask) == 0);
      CHECK(conforms<P>(layer.mask));
      dense_matrix out(48, 128);
      layer.decode(out.view());
      std::size_t broken = 0, survivors = 0;
      for (std::size_t r = 0; r < 48; ++r)
        for (std::size_t c = 0; c < 128; ++c) {
          if (!mask(r, c) && out.view()(r, c) != 0) ++broken;
          if (mask(r, c) && out.view()(r, c) != 0) ++survivors;
        }
      CHECK(broken == 0);
      CHECK(survivors > 0);
    }
}

TEST_CASE("weights that were not pruned to the pattern are refused with their place") {
  problem p(4, 32, 86, 64);
  for (std::size_t c = 0; c < 32; ++c)
    for (std::size_t r = 0; r < 4; ++r)
      if (c % 2 == 1 && (r != 2 || c != 9)) p.w.view()(r, c) = 0;
  const auto r = compress_layer<nm<2, 4>, affine<4, 32>>(p.weights(), p.inverse, {.choose = timing::given});
  REQUIRE_FALSE(r);
  CHECK(std::string(r.error().what()).find("row 2 column 10") != std::string::npos);
}
