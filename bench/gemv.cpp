// SPDX-License-Identifier: Apache-2.0
// One vector times a packed matrix: cold weights, and small matrices also while they stay in the cache.
#include "product.hpp"

namespace {

using namespace bench;

std::vector<shape> shapes;

template <class P, class Q>
void add_int8() {
  add<isa::avx512_vnni, int8_groups<32>, P, Q>("gemv", "", shapes);
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::size_t threads : {1, 2}) {
    shapes.push_back({4096, 4096, 1, threads, cold});
    shapes.push_back({11008, 4096, 1, threads, cold});
    for (const std::size_t rows : {576, 1536})
      for (const std::size_t rotated : {cold, cached}) shapes.push_back({rows, 576, 1, threads, rotated});
  }
  add_int8<bsr<16, 32>, affine<4, 32>>();
  add_int8<bsr<16, 32>, symmetric<4, 32>>();
  add_int8<bsr<16, 32>, affine<4, 32, two_level>>();
  add_int8<bsr<16, 64>, affine<4, 64>>();
  add_int8<bsr<32, 32>, symmetric<4, 16, two_level>>();
  add_int8<bsr<8, 32>, affine<4, 32>>();
  add_int8<bsr<4, 32>, affine<4, 32>>();
  add_int8<group_nm<2, 4, 16>, affine<4, 16>>();
  add_int8<group_nm<2, 4, 16>, symmetric<4, 16>>();
  add_int8<group_nm<2, 4, 16>, symmetric<4, 16, two_level>>();
  add_int8<group_nm<1, 4, 32>, affine<4, 32>>();
  add_int8<group<16>, affine<4, 16>>();
  add_int8<group<16>, symmetric<4, 16>>();
  add_int8<group<64>, affine<4, 64>>();
  add_int8<nm<2, 4>, affine<4, 32>>();
  add_int8<nm<1, 4>, affine<4, 64>>();
  add_int8<dense, symmetric<4, 32>>();
  add_int8<dense, affine<4, 32>>();
  add_int8<dense, affine<3, 16, two_level>>();
  add_int8<dense, affine<2, 16, two_level>>();
  add_int8<dense, symmetric<8, 32>>();
  add_int8<dense, affine<4, 32, f16_offset>>();
  add<isa::avx512, float, bsr<16, 32>, affine<4, 32>>("gemv", "", shapes);
  add<isa::avx512, float, bsr<16, 32>, symmetric<4, 32>>("gemv", "", shapes);
  add<isa::avx512_vnni, int24, bsr<16, 32>, affine<4, 32>>("gemv", "/int24", shapes);
  add<isa::avx512_vnni, int24, bsr<16, 32>, symmetric<4, 32>>("gemv", "/int24", shapes);
  add<isa::avx512_bf16, bf16, bsr<16, 32>, affine<4, 32>>("gemv", "", shapes);
  add<isa::avx2, int8_groups<32>, bsr<16, 32>, affine<4, 32>>("gemv", "", shapes);
  add<isa::avx2, int8_groups<32>, dense, affine<4, 32>>("gemv", "", shapes);
  add_eigen("gemv", shapes);
  return run(argc, argv);
}
