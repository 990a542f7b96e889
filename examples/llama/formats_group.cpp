// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

const std::vector<format_ops>& group_ops() {
  static const std::vector<format_ops> ops = make_ops<
      concat_formats<formats_of<group<8>, real<float>, affine<4, 8>>,
                     formats_of<group<16>, real<float>, real<bf16>, affine<2, 16>, affine<3, 16>,
                                affine<4, 16>, affine<8, 16>, affine<4, 16, two_level>, symmetric<4, 16>>,
                     formats_of<group<32>, real<float>, affine<4, 16, two_level>, affine<4, 32>>,
                     formats_of<group<64>, real<float>, affine<4, 64>>>::type>();
  return ops;
}

}  // namespace llama
