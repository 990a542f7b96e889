// SPDX-License-Identifier: Apache-2.0
#pragma once
// Instruction sets with bf16 activations against a double loop over the rounded inputs.

#include "sweep.hpp"

#define QUERN_BF16_FORMATS                                                       \
  quern_test::format<quern::dense, quern::affine<4, 32>>,                        \
      quern_test::format<quern::dense, quern::affine<4, 32, quern::f16_offset>>, \
      quern_test::format<quern::dense, quern::affine<2, 16, quern::two_level>>,  \
      quern_test::format<quern::dense, quern::symmetric<4, 128>>,                \
      quern_test::format<quern::bsr<16, 32>, quern::affine<4, 32>>,              \
      quern_test::format<quern::bsr<32, 64>, quern::symmetric<2, 16, quern::two_level>>

namespace quern_test {

/// The products of a bf16 and a small whole number are exact in float; sums round once per product (vdpbf16ps adds
/// with a rounding of its own and takes denormals as zero) and once more per run: at most n roundings of a sum of
/// at most 2^bits |scale| |x|.
template <class Isas, class P, class Q>
void sweep_bf16() {
  static_assert(has_bf16_kernel<P, Q, bf16>());
  INFO(std::string(P::label().c_str()) << " " << std::string(Q::label().c_str()));
  rng g(13);
  thread_pool pool(3);
  constexpr std::size_t shapes[][3] = {{0, 16, 1}, {1, 1, 1}, {17, 63, 2}, {33, 131, 5}, {64, 1100, 4}};
  for (const auto& shape : shapes) {
    const std::size_t rows = shape[0], cols = shape[1], tokens = shape[2];
    CAPTURE(rows);
    CAPTURE(cols);
    const dense_matrix w = random_matrix(rows, cols, g), x = random_matrix(tokens, cols, g);
    const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(rows, cols, 0.5f, g), pool);
    bit_mask stored;
    const coded_matrix<Q> coded = unpack_codes(m.view(), &stored);
    dense_matrix values(rows, cols), y(tokens, rows), again(tokens, rows);
    unpack(m.view(), values.view(), pool);
    const activations<bf16, Isas> a(x.view());
    for (float& v : y.data) v = std::nanf("");  // every output must be written
    multiply<Isas>(m, a.view(), y.view(), pool);
    multiply<Isas>(m, a.view(), again.view());
    CHECK(y.data == again.data);
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t r = 0; r < rows; ++r) {
        double sum = 0, size = 0;
        for (std::size_t c = 0; c < cols; ++c) {
          const double input = static_cast<double>(a.view().value(t, c));
          REQUIRE(std::abs(input - static_cast<double>(x.view()(t, c))) <=
                  0x1p-8 * std::abs(static_cast<double>(x.view()(t, c))));
          sum += static_cast<double>(values.view()(r, c)) * input;
          if (stored(r, c))
            size += (1 << Q::bits) * std::abs(static_cast<double>(params_at(coded, r, c).scale) * input);
        }
        REQUIRE(std::abs(static_cast<double>(y.view()(t, r)) - sum) <=
                static_cast<double>(cols + 4) * 0x1p-23 * size);
      }
  }
}

}  // namespace quern_test
