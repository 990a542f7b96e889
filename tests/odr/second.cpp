// SPDX-License-Identifier: Apache-2.0
#include <all_headers.hpp>

float second(quern::span2<const float> w) {
  float sum = 0;
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c) sum += w(r, c);
  return sum;
}
