// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_impl.hpp>

namespace llama {
using namespace quern;

// The upper levels of a bitwidth search; the lower ones are in formats_dense.cpp.
const std::vector<format_ops>& level_ops() {
  static const std::vector<format_ops> ops = make_ops<
      formats_of<dense, affine<5, 16, two_level>, affine<6, 16, two_level>, affine<7, 16, two_level>,
                 affine<8, 16, two_level>, affine<5, 64>, affine<6, 64>, affine<7, 64>, affine<8, 64>>>();
  return ops;
}

}  // namespace llama
