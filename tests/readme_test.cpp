// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <numeric>
#include <quern/quern.hpp>
#include <vector>

TEST_CASE("the README's example") {
  const std::size_t rows = 64, cols = 256;
  std::vector<float> dense(rows * cols), x(cols), y(rows);
  std::iota(x.begin(), x.end(), -128.0f);
  for (std::size_t i = 0; i < dense.size(); ++i)
    dense[i] = i / 16 % 2 == 0 ? std::sin(static_cast<float>(i)) : 0.0f;
  const float* weights = dense.data();

  //! [pack]
  // W [rows x cols]; half of its groups of 16 inputs have been pruned to zero.
  const quern::span2<const float> w(weights, rows, cols);
  const auto packed = quern::pack<quern::group<16>, quern::affine<4, 16>>(w);  // 4 bits, a scale per group
  quern::multiply(packed, x, y);  // y = W x, AVX-512 if there is any

  quern::safetensors_writer out;
  quern::add_packed(out, "w", packed.view());
  out.write("w.safetensors").value();
  const auto file = quern::safetensors_file::open("w.safetensors").value();
  const auto mapped = quern::find_packed<quern::group<16>, quern::affine<4, 16>>(file, "w").value();
  quern::multiply(mapped, x, y);  // the same, from the mapped file
  //! [pack]

  std::remove("w.safetensors");
  CHECK(packed.bits_per_weight() < 4);
  for (std::size_t r = 0; r < rows; ++r) {
    double exact = 0, size = 0;
    for (std::size_t c = 0; c < cols; ++c) {
      exact += static_cast<double>(dense[r * cols + c]) * static_cast<double>(x[c]);
      size += std::abs(static_cast<double>(x[c]));
    }
    // Half a step of a 4-bit grid over [-1, 1], and as much again for the zero point's rounding.
    CHECK(std::abs(static_cast<double>(y[r]) - exact) <= size * 2.0 / 15);
  }
}
