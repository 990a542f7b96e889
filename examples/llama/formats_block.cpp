// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

const std::vector<format_ops>& block_ops() {
  static const std::vector<format_ops> ops = make_ops<concat_formats<
      formats_of<bsr<4, 16>, real<float>, affine<4, 16>>, formats_of<bsr<8, 16>, real<float>, affine<4, 16>>,
      formats_of<bsr<16, 16>, real<float>, affine<4, 16>>,
      formats_of<bsr<16, 32>, real<float>, affine<4, 32>, affine<4, 16, two_level>, symmetric<4, 32>>,
      formats_of<bsr<16, 64>, real<float>, affine<4, 64>, symmetric<4, 64>>,
      formats_of<bsr<32, 32>, real<float>, affine<4, 32>>>::type>();
  return ops;
}

}  // namespace llama
