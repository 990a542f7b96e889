// SPDX-License-Identifier: Apache-2.0
// What a user of the library compiles; built as found by find_package, by add_subdirectory, and by a bare -I.
#include <cmath>
#include <cstdio>
#include <quern/quern.hpp>
#include <span>
#include <vector>

int main() {
  const std::size_t rows = 32, cols = 64;
  // Groups of 16 whose weights are 0 .. 15, every second one pruned: 4-bit codes hold them exactly.
  std::vector<float> dense(rows * cols), x(cols, 1.f), y(rows);
  for (std::size_t i = 0; i < dense.size(); ++i)
    dense[i] = i / 16 % 2 == 0 ? static_cast<float>(i % 16) : 0.f;

  const auto w = quern::pack<quern::group<16>, quern::affine<4, 16>>({dense.data(), rows, cols});
  quern::multiply(w, std::span<const float>(x), std::span<float>(y));

  // Each row holds two groups of sum 120. Its scale is an fp16 number next to 1, so one part in 2^10 may be
  // lost.
  for (const float v : y)
    if (!(std::fabs(v - 240.f) <= 240.f / 1024.f)) {
      std::printf("consumer: %g instead of 240\n", static_cast<double>(v));
      return 1;
    }
  return 0;
}
