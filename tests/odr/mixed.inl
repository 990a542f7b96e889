// SPDX-License-Identifier: Apache-2.0
// Included by two translation units with different -m flags, each of which gives the function a name.
#include <cstddef>
#include <quern/core/thread_pool.hpp>
#include <quern/quern.hpp>
#include <vector>

namespace {

// Packs [64 x 128] weights, unpacks them, multiplies them: the sum of everything.
// Inputs of 0.5 are exact in int8 up to the rounding of the scale.
template <class P, class Q>
double use(const std::vector<float>& dense, quern::thread_pool& pool) {
  const std::size_t rows = 64, cols = 128;
  std::vector<float> back(dense.size()), x(2 * cols, 0.5f), y(2 * rows);
  const auto w = quern::pack<P, Q>({dense.data(), rows, cols});
  quern::unpack(w.view(), {back.data(), rows, cols});
  quern::multiply(w, {x.data(), 2, cols}, {y.data(), 2, rows}, pool);
  // int8 activations, of vectors and of a batch.
  for (const std::size_t tokens : {2u, 8u}) {
    std::vector<float> many(tokens * cols, 0.5f), out(tokens * rows);
    const quern::activations<> a(quern::span2<const float>(many.data(), tokens, cols));
    quern::multiply(w.view(), a.view(), quern::span2<float>(out.data(), tokens, rows), pool);
    y.insert(y.end(), out.begin(), out.end());
  }
  double sum = 0;
  for (const float v : back) sum += v;
  for (const float v : y) sum += v;
  return sum;
}

}  // namespace

double QUERN_MIXED_NAME() {
  std::vector<float> w(64 * 128);  // 8 x 16 blocks, half of them pruned
  for (std::size_t i = 0; i < w.size(); ++i)
    w[i] = (i / 16 + i / 1024) % 2 == 0 ? static_cast<float>(i % 16) - 7.f : 0.f;
  quern::thread_pool pool(2);
  double sum = use<quern::group<16>, quern::affine<4, 16>>(w, pool);
  sum += use<quern::bsr<8, 16>, quern::symmetric<8, 16>>(w, pool);
  for (std::size_t i = 0; i < w.size(); ++i)
    if (i % 4 >= 2) w[i] = 0;
  return sum + use<quern::nm<2, 4>, quern::real<float>>(w, pool);
}
