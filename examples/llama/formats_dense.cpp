// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

const std::vector<format_ops>& dense_ops() {
  static const std::vector<format_ops> ops =
      make_ops<formats_of<dense, real<float>, real<f16>, real<bf16>, affine<2, 16>, affine<2, 32>,
                          affine<2, 64>, affine<3, 16>, affine<3, 32>, affine<3, 64>, affine<4, 16>,
                          affine<4, 32>, affine<4, 64>, affine<8, 32>>>();
  return ops;
}

}  // namespace llama
