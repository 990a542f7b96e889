// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kernels that nvcc must compile and that ptxsim executes: every pattern, every number of bits, every kind of
// scale and zero. A line is QUERN_CUDA_X(name, format, type of the inputs, vectors: of a block for the GEMM).

#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/real.hpp>
#include <quern/quant/symmetric.hpp>

namespace quern_test::table {

template <class P, class Q>
struct packed {
  using pattern = P;
  using quantizer = Q;
};
using namespace quern;
using group16_w4 = packed<group<16>, affine<4, 16>>;
using group16_w3 = packed<group<16>, affine<3, 16, two_level>>;
using group8_w2 = packed<group<8>, affine<2, 8>>;
using group64_w4 = packed<group<64>, symmetric<4, 32, bf16>>;
using group_nm_w4 = packed<group_nm<2, 4, 16>, affine<4, 16>>;
using group_nm_w8 = packed<group_nm<2, 4, 32>, symmetric<8, 32>>;
using bsr16_w4 = packed<bsr<16, 32>, affine<4, 32>>;
using bsr32_w5 = packed<bsr<32, 16>, symmetric<5, 16>>;
using bsr16_w4_two_level = packed<bsr<16, 64>, symmetric<4, 16, two_level>>;
using bsr4_w4 = packed<bsr<4, 16>, affine<4, 16>>;
using dense_w4 = packed<dense, affine<4, 32>>;
using dense_w5 = packed<dense, affine<5, 32, f16_offset>>;
using dense_w6 = packed<dense, affine<6, 16>>;
using dense_w7 = packed<dense, affine<7, 64>>;
using dense_w8 = packed<dense, symmetric<8, 32>>;
using nm_w4 = packed<nm<2, 4>, affine<4, 32>>;
using nm_w8 = packed<nm<2, 4>, symmetric<8, 64>>;
using dense_f16 = packed<dense, real<f16>>;
using nm_f16 = packed<nm<2, 4>, real<f16>>;

}  // namespace quern_test::table

#define QUERN_CUDA_GEMV(QUERN_CUDA_X)                              \
  QUERN_CUDA_X(gemv_group16_w4_1, group16_w4, f16, 1)              \
  QUERN_CUDA_X(gemv_group16_w4_4, group16_w4, f16, 4)              \
  QUERN_CUDA_X(gemv_group16_w3_1, group16_w3, bf16, 1)             \
  QUERN_CUDA_X(gemv_group8_w2_1, group8_w2, f16, 1)                \
  QUERN_CUDA_X(gemv_group64_w4_1, group64_w4, bf16, 1)             \
  QUERN_CUDA_X(gemv_group_nm_w4_1, group_nm_w4, f16, 1)            \
  QUERN_CUDA_X(gemv_group_nm_w8_4, group_nm_w8, bf16, 4)           \
  QUERN_CUDA_X(gemv_bsr16_w4_1, bsr16_w4, f16, 1)                  \
  QUERN_CUDA_X(gemv_bsr16_w4_4, bsr16_w4, f16, 4)                  \
  QUERN_CUDA_X(gemv_bsr32_w5_1, bsr32_w5, bf16, 1)                 \
  QUERN_CUDA_X(gemv_bsr16_two_level_1, bsr16_w4_two_level, f16, 1) \
  QUERN_CUDA_X(gemv_bsr4_w4_1, bsr4_w4, f16, 1)                    \
  QUERN_CUDA_X(gemv_dense_w4_1, dense_w4, f16, 1)                  \
  QUERN_CUDA_X(gemv_dense_w4_4, dense_w4, bf16, 4)                 \
  QUERN_CUDA_X(gemv_dense_w5_1, dense_w5, f16, 1)                  \
  QUERN_CUDA_X(gemv_dense_w6_1, dense_w6, bf16, 1)                 \
  QUERN_CUDA_X(gemv_dense_w7_1, dense_w7, f16, 1)                  \
  QUERN_CUDA_X(gemv_dense_w8_4, dense_w8, f16, 4)

#define QUERN_CUDA_PACK(QUERN_CUDA_X)    \
  QUERN_CUDA_X(group16_w4, group16_w4)   \
  QUERN_CUDA_X(group16_w3, group16_w3)   \
  QUERN_CUDA_X(group_nm_w4, group_nm_w4) \
  QUERN_CUDA_X(bsr32_w5, bsr32_w5)       \
  QUERN_CUDA_X(dense_w5, dense_w5)

#define QUERN_CUDA_GEMM(QUERN_CUDA_X)                                \
  QUERN_CUDA_X(gemm_dense_w4_8, dense_w4, f16, 8)                    \
  QUERN_CUDA_X(gemm_dense_w4_64, dense_w4, f16, 64)                  \
  QUERN_CUDA_X(gemm_dense_w4_int8_16, dense_w4, std::int8_t, 16)     \
  QUERN_CUDA_X(gemm_dense_w6_16, dense_w6, bf16, 16)                 \
  QUERN_CUDA_X(gemm_dense_w7_16, dense_w7, f16, 16)                  \
  QUERN_CUDA_X(gemm_dense_w8_16, dense_w8, bf16, 16)                 \
  QUERN_CUDA_X(gemm_bsr16_w4_16, bsr16_w4, bf16, 16)                 \
  QUERN_CUDA_X(gemm_bsr16_w4_64, bsr16_w4, f16, 64)                  \
  QUERN_CUDA_X(gemm_bsr16_w4_int8_16, bsr16_w4, std::int8_t, 16)     \
  QUERN_CUDA_X(gemm_bsr16_two_level_32, bsr16_w4_two_level, f16, 32) \
  QUERN_CUDA_X(gemm_bsr32_w5_16, bsr32_w5, f16, 16)                  \
  QUERN_CUDA_X(gemm_bsr4_w4_16, bsr4_w4, f16, 16)                    \
  QUERN_CUDA_X(gemm_group16_w4_16, group16_w4, f16, 16)              \
  QUERN_CUDA_X(gemm_group16_w3_16, group16_w3, bf16, 16)             \
  QUERN_CUDA_X(gemm_group64_w4_16, group64_w4, bf16, 16)             \
  QUERN_CUDA_X(gemm_group_nm_w4_16, group_nm_w4, bf16, 16)           \
  QUERN_CUDA_X(gemm_group_nm_w8_16, group_nm_w8, f16, 16)            \
  QUERN_CUDA_X(sparse_w4_16, nm_w4, bf16, 16)                        \
  QUERN_CUDA_X(sparse_w4_64, nm_w4, f16, 64)                         \
  QUERN_CUDA_X(sparse_f16_16, nm_f16, f16, 16)                       \
  QUERN_CUDA_X(sparse_w8_int8_16, nm_w8, std::int8_t, 16)
