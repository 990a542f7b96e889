// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

const std::vector<format_ops>& group_nm_ops() {
  static const std::vector<format_ops> ops = make_ops<
      concat_formats<formats_of<group_nm<2, 4, 16>, real<float>, affine<4, 16>, affine<2, 16, two_level>,
                                affine<3, 16, two_level>, affine<4, 16, two_level>>,
                     formats_of<group_nm<1, 4, 16>, real<float>, affine<4, 16>>,
                     formats_of<group_nm<3, 4, 16>, real<float>, affine<4, 16>, affine<2, 16, two_level>,
                                affine<3, 16, two_level>, affine<4, 16, two_level>>,
                     formats_of<group_nm<2, 4, 32>, real<float>, affine<4, 32>>>::type>();
  return ops;
}

}  // namespace llama
