// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every instruction set with whole-number activations is compared with a double loop over the codes it multiplies.

#include "sweep.hpp"

/// One format of every kind of survivors and of scales, for the sweeps over groups of activations.
#define QUERN_INT8_FORMATS                                                               \
  quern_test::format<quern::dense, quern::affine<2, 16, quern::two_level>>,              \
      quern_test::format<quern::dense, quern::affine<4, 128>>,                           \
      quern_test::format<quern::dense, quern::affine<4, 32, quern::f16_offset>>,         \
      quern_test::format<quern::group<16>, quern::affine<4, 16>>,                        \
      quern_test::format<quern::group<64>, quern::symmetric<4, 32, quern::two_level>>,   \
      quern_test::format<quern::bsr<32, 64>, quern::symmetric<4, 16, quern::two_level>>, \
      quern_test::format<quern::bsr<16, 32>, quern::affine<8, 32>>,                      \
      quern_test::format<quern::nm<2, 4>, quern::affine<3, 64, quern::two_level>>,       \
      quern_test::format<quern::nm<4, 8>, quern::affine<3, 8, quern::two_level>>

/// One format of every width of codes and runs and of every kind of offsets that activations of 24 bits multiply.
#define QUERN_INT24_FORMATS                                                            \
  quern_test::format<quern::dense, quern::affine<4, 32>>,                              \
      quern_test::format<quern::dense, quern::affine<3, 16, quern::two_level>>,        \
      quern_test::format<quern::dense, quern::symmetric<7, 128>>,                      \
      quern_test::format<quern::bsr<16, 32>, quern::symmetric<4, 32>>,                 \
      quern_test::format<quern::bsr<16, 64>, quern::affine<4, 64, quern::f16_offset>>, \
      quern_test::format<quern::bsr<32, 64>, quern::symmetric<2, 16, quern::two_level>>

namespace quern_test {

/// The largest input of a scale's group, which is what a step of 24 bits is a share of.
inline double largest_of_group(const activation_view<int24>& a, std::size_t t, std::size_t c) {
  float top = 0;
  constexpr std::size_t n = int24::inputs_per_scale;
  for (std::size_t i = c / n * n; i < c / n * n + n && i < a.cols(); ++i)
    top = std::max(top, std::abs(a.value(t, i)));
  return static_cast<double>(top);
}

/// y against a double loop over the unpacked weights and the dequantized inputs. The integers are exact, so
/// only the fold of each sum into float rounds: one conversion, one product of scales, one multiply and add
/// per segment (two roundings where the sum of a slot is brought to its rows), and the sum over segments. Codes
/// and zeros are multiplied apart, so the bound counts |scale| (|code| + |zero|) |x|, at most (2^bits) |scale| |x|,
/// instead of |w| |x|. With 24 bits the sum of the two low digits is rounded on its own: it is below 2^(bits + 15)
/// steps of every input, which are 2^-23 of the largest input, so that 2^(bits - 9) steps are lost.
template <class Isas, class A, class P, class Q>
void compare_integers(std::size_t rows, std::size_t cols, std::size_t tokens, thread_pool& pool, rng& g) {
  CAPTURE(rows);
  CAPTURE(cols);
  CAPTURE(tokens);
  const dense_matrix w = random_matrix(rows, cols, g);
  bit_mask stored;
  const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(rows, cols, 0.5f, g), pool);
  const coded_matrix<Q> coded = unpack_codes(m.view(), &stored);
  dense_matrix values(rows, cols), x = random_matrix(tokens, cols, g), y(tokens, rows), again(tokens, rows);
  unpack(m.view(), values.view(), pool);
  const activations<A, Isas> a(std::as_const(x).view());
  for (float& v : y.data) v = std::nanf("");  // every output must be written
  multiply<Isas>(m, a.view(), y.view(), pool);
  multiply<Isas>(m.view(), a.view(), again.view(), serial{});
  CHECK(y.data == again.data);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0, size = 0, steps = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        const double input = static_cast<double>(a.view().value(t, c));
        sum += static_cast<double>(values.view()(r, c)) * input;
        if (!stored(r, c)) continue;
        const double scale = std::abs(static_cast<double>(params_at(coded, r, c).scale));
        size += (1 << Q::bits) * scale * std::abs(input);
        if constexpr (std::is_same_v<A, int24>) steps += scale * 0x1p-23 * largest_of_group(a.view(), t, c);
      }
      const double bound =
          2.0 * static_cast<double>(cols / 16 + 8) * 0x1p-24 * size + std::ldexp(steps, Q::bits - 9);
      REQUIRE(std::abs(static_cast<double>(y.view()(t, r)) - sum) <= bound);
    }
}

template <class Isas, class A, class P, class Q>
void sweep_integers() {
  std::string inputs = "24 bits";
  if constexpr (is_int8<A>) inputs = "group " + std::to_string(A::group);
  INFO(std::string(P::label().c_str()) << " " << std::string(Q::label().c_str()) << " " << inputs);
  using l = layout<P, Q>;
  const std::size_t u = l::cell_cols, b = P::unit_rows;
  thread_pool pool(3);
  rng g(11);
  compare_integers<Isas, A, P, Q>(0, 16, 1, pool, g);
  compare_integers<Isas, A, P, Q>(1, 1, 1, pool, g);
  compare_integers<Isas, A, P, Q>(b + 1, u - 1, 2, pool, g);
  compare_integers<Isas, A, P, Q>(16, u, 1, pool, g);
  compare_integers<Isas, A, P, Q>(17, 17 * u + 3, 3, pool, g);
  compare_integers<Isas, A, P, Q>(2 * b + 5, 35 * u, 1, pool, g);
  compare_integers<Isas, A, P, Q>(48, 16 * u, 4, pool, g);
  compare_integers<Isas, A, P, Q>(17, 17 * u + 3, 5, pool, g);
  compare_integers<Isas, A, P, Q>(b + 15, 35 * u, 13, pool, g);
  compare_integers<Isas, A, P, Q>(33, 1100, 24, pool, g);
  compare_integers<Isas, A, P, Q>(33, 4200, 5, pool, g);  // several panels
}

}  // namespace quern_test
