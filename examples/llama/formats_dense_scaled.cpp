// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

/// Dense with other scales and codes than affine<bits, run> with fp16 scales.
const std::vector<format_ops>& dense_scaled_ops() {
  static const std::vector<format_ops> ops =
      make_ops<formats_of<dense, affine<2, 16, two_level>, affine<3, 16, two_level>, affine<4, 16, two_level>,
                          affine<4, 32, f16_offset>, affine<5, 32, f16_offset>, symmetric<4, 32>,
                          symmetric<5, 32>, symmetric<8, 32>, codebook<nf4, 64>, codebook<fp4, 32>>>();
  return ops;
}

}  // namespace llama
