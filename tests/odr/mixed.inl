// SPDX-License-Identifier: Apache-2.0
// Included by two translation units with different -m flags, each of which gives the function a name.
#include <cstddef>
#include <quern/core/rng.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/pattern/group.hpp>
#include <quern/quant/affine.hpp>
#include <vector>

// The sum of what is left of 64 x 128 weights after packing them.
double QUERN_MIXED_NAME() {
  const std::size_t rows = 64, cols = 128;
  std::vector<float> w(rows * cols);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = i / 16 % 2 == 0 ? static_cast<float>(i % 29) - 14.f : 0.f;
  const auto packed = quern::pack<quern::group<16>, quern::affine<4, 16>>({w.data(), rows, cols});
  quern::unpack(packed.view(), {w.data(), rows, cols});
  double sum = 0;
  for (const float v : w) sum += v;
  return sum;
}
