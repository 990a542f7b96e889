// SPDX-License-Identifier: Apache-2.0
// Batches of tokens times a packed matrix, cold weights as in a model. See product.hpp.
#include "product.hpp"

namespace {

using namespace bench;

std::vector<shape> shapes;

template <class P, class Q>
void add_int8() {
  add<isa::avx512_vnni, int8_groups<32>, P, Q>("gemm", "", shapes);
  add<isa::avx512_vnni, int8_per_token, P, Q>("gemm", "-token", shapes);
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::size_t threads : {1, 2})
    for (const std::size_t tokens : {4, 16, 64, 96, 512})
      shapes.push_back({4096, 4096, tokens, threads, cold});
  add_int8<bsr<32, 32>, symmetric<4, 16, two_level>>();
  add_int8<bsr<16, 64>, affine<4, 64>>();
  add_int8<bsr<16, 32>, affine<4, 32>>();
  add_int8<group_nm<2, 4, 16>, affine<4, 16>>();
  add_int8<nm<2, 4>, affine<4, 32>>();
  add_int8<dense, affine<4, 32>>();
  add_int8<dense, symmetric<4, 16, two_level>>();
  add_int8<dense, symmetric<8, 32>>();
  add_int8<dense, symmetric<8, 128>>();
  add_eigen("gemm", shapes);
  return run(argc, argv);
}
