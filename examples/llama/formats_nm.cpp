// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

const std::vector<format_ops>& nm_ops() {
  static const std::vector<format_ops> ops = make_ops<concat_formats<
      formats_of<nm<2, 4>, real<float>, real<f16>, real<bf16>, affine<4, 16>, affine<4, 32>, affine<4, 64>,
                 affine<2, 16, two_level>, affine<3, 16, two_level>, affine<4, 16, two_level>,
                 symmetric<8, 32>>,
      formats_of<nm<1, 4>, real<float>, affine<4, 32>>, formats_of<nm<4, 8>, real<float>, affine<4, 32>>,
      formats_of<bitmap, real<float>, real<f16>, affine<4, 16>, affine<4, 32>>>::type>();
  return ops;
}

}  // namespace llama
