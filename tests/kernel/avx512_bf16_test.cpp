// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cstdint>
#include <iterator>

#include "bf16_sweep.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE_TEMPLATE("AVX-512 BF16 multiply agrees with a double loop", F, QUERN_BF16_FORMATS) {
  if (!isa::avx512_bf16::available()) {
    MESSAGE("SKIP: this CPU has no AVX-512 BF16");
    return;
  }
  sweep_bf16<isa_list<isa::avx512_bf16, isa::scalar>, typename F::pattern, typename F::quantizer>();
}

TEST_CASE_TEMPLATE("scalar multiply takes bf16 activations", F, QUERN_BF16_FORMATS) {
  sweep_bf16<isa_list<isa::scalar>, typename F::pattern, typename F::quantizer>();
}

TEST_CASE("bf16 activations do not depend on the instruction set") {
  if (!isa::avx512_bf16::available()) return;
  rng g(5);
  for (const std::size_t cols : {1u, 15u, 16u, 200u}) {
    dense_matrix x = random_matrix(3, cols, g);
    constexpr float special[] = {1e-40f, -1e-40f, 0x1p-126f, 0x1.fffp-127f, -0.0f, 3.4e38f};
    for (std::size_t c = 0; c < cols; ++c) x.view()(2, c) = special[c % std::size(special)];
    const activations<bf16, isa_list<isa::scalar>> a(std::as_const(x).view());
    const activations<bf16, isa_list<isa::avx512_bf16>> b(std::as_const(x).view());
    for (std::size_t t = 0; t < 3; ++t)
      for (std::size_t c = 0; c < cols; ++c) {
        CAPTURE(x.view()(t, c));
        CHECK(std::bit_cast<std::uint32_t>(a.view().value(t, c)) ==
              std::bit_cast<std::uint32_t>(b.view().value(t, c)));
      }
  }
}
