// SPDX-License-Identifier: Apache-2.0
#pragma once
// The formats that the tests sweep: every pattern, every quantizer, every number of bits, and pairs that meet
// a special case of the layout (cells shorter than a chunk, runs longer or shorter than a unit, windows of
// 15).

#include <quern/pattern/bitmap.hpp>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/codebook.hpp>
#include <quern/quant/real.hpp>
#include <quern/quant/symmetric.hpp>

#include "support.hpp"

#define QUERN_TEST_FORMATS                                                                       \
  quern_test::format<quern::dense, quern::affine<2, 16>>,                                        \
      quern_test::format<quern::dense, quern::affine<3, 16>>,                                    \
      quern_test::format<quern::dense, quern::affine<4, 32>>,                                    \
      quern_test::format<quern::dense, quern::affine<5, 32, quern::f16_offset>>,                 \
      quern_test::format<quern::dense, quern::affine<6, 8>>,                                     \
      quern_test::format<quern::dense, quern::affine<7, 96>>,                                    \
      quern_test::format<quern::dense, quern::symmetric<8, 32>>,                                 \
      quern_test::format<quern::dense, quern::affine<8, 32>>,                                    \
      quern_test::format<quern::dense, quern::affine<3, 16, quern::two_level>>,                  \
      quern_test::format<quern::dense, quern::codebook<quern::nf4, 64>>,                         \
      quern_test::format<quern::dense, quern::real<float>>,                                      \
      quern_test::format<quern::dense, quern::real<quern::f16>>,                                 \
      quern_test::format<quern::group<16>, quern::affine<4, 16>>,                                \
      quern_test::format<quern::group<16>, quern::affine<3, 16, quern::two_level>>,              \
      quern_test::format<quern::group<8>, quern::affine<2, 8>>,                                  \
      quern_test::format<quern::group<64>, quern::symmetric<4, 32, quern::bf16>>,                \
      quern_test::format<quern::group<32>, quern::real<quern::bf16>>,                            \
      quern_test::format<quern::group_nm<2, 4, 16>, quern::affine<4, 16>>,                       \
      quern_test::format<quern::group_nm<1, 4, 32>, quern::symmetric<4, 16, quern::two_level>>,  \
      quern_test::format<quern::group_nm<2, 3, 16>, quern::affine<8, 16, quern::bf16>>,          \
      quern_test::format<quern::group_nm<1, 4, 64>, quern::affine<4, 64>>,                       \
      quern_test::format<quern::bsr<16, 32>, quern::affine<4, 32>>,                              \
      quern_test::format<quern::bsr<32, 16>, quern::symmetric<5, 16>>,                           \
      quern_test::format<quern::bsr<32, 64>, quern::symmetric<4, 16, quern::two_level>>,         \
      quern_test::format<quern::bsr<16, 64>, quern::codebook<quern::fp4, 16, quern::two_level>>, \
      quern_test::format<quern::bsr<4, 16>, quern::affine<4, 16>>,                               \
      quern_test::format<quern::bsr<8, 32>, quern::affine<3, 16>>,                               \
      quern_test::format<quern::bsr<1, 16>, quern::real<float>>,                                 \
      quern_test::format<quern::nm<2, 4>, quern::affine<4, 32>>,                                 \
      quern_test::format<quern::nm<2, 4>, quern::affine<4, 8>>,                                  \
      quern_test::format<quern::nm<1, 4>, quern::symmetric<8, 64>>,                              \
      quern_test::format<quern::nm<2, 4>, quern::symmetric<4, 32, quern::two_level>>,            \
      quern_test::format<quern::nm<4, 8>, quern::affine<4, 16, quern::f16_offset>>,              \
      quern_test::format<quern::nm<3, 4>, quern::affine<2, 16, quern::two_level>>,               \
      quern_test::format<quern::nm<2, 4>, quern::real<float>>,                                   \
      quern_test::format<quern::nm<1, 2>, quern::real<quern::f16>>,                              \
      quern_test::format<quern::bitmap, quern::affine<4, 16>>,                                   \
      quern_test::format<quern::bitmap, quern::affine<3, 32, quern::two_level>>,                 \
      quern_test::format<quern::bitmap, quern::codebook<quern::nf4, 32>>,                        \
      quern_test::format<quern::bitmap, quern::real<quern::f16>>,                                \
      quern_test::format<quern::bitmap, quern::real<float>>
