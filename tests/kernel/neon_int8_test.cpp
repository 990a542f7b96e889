// SPDX-License-Identifier: Apache-2.0
#include "neon_sweep.hpp"

using namespace quern;
using namespace quern_test;

#if defined(__aarch64__)
TEST_CASE_TEMPLATE("NEON int8 multiply agrees with a double loop", F, QUERN_TEST_FORMATS) {
  if constexpr (in_part<F, 0, QUERN_TEST_FORMATS>()) sweep_format<isa::neon_dot, int8_groups<32>, F>();
  if constexpr (in_part<F, 1, QUERN_TEST_FORMATS>()) sweep_format<isa::i8mm, int8_groups<32>, F>();
}

TEST_CASE_TEMPLATE("so it does with other groups of activations", F, QUERN_INT8_FORMATS) {
  if constexpr (in_part<F, 0, QUERN_INT8_FORMATS>()) {
    sweep_format<isa::neon_dot, int8_groups<64>, F>();
    sweep_format<isa::neon_dot, int8_groups<128>, F>();
    sweep_format<isa::neon_dot, int8_per_token, F>();
  }
  // What i8mm has of its own, sums that start at 128 times the inputs, shows with groups of 32 and without groups.
  if constexpr (in_part<F, 1, QUERN_INT8_FORMATS>()) sweep_format<isa::i8mm, int8_per_token, F>();
}

TEST_CASE_TEMPLATE("so it does with activations of 24 bits", F, QUERN_INT24_FORMATS) {
  if constexpr (in_part<F, 0, QUERN_INT24_FORMATS>()) sweep_format<isa::neon_dot, int24, F>();
  if constexpr (in_part<F, 1, QUERN_INT24_FORMATS>()) sweep_format<isa::i8mm, int24, F>();
}

TEST_CASE_TEMPLATE("NEON prepares what scalar does", A, int8_groups<32>, int8_groups<64>, int8_groups<128>,
                   int8_per_token, int24) {
  compare_prepared<isa::neon_dot, A>();
  compare_prepared<isa::i8mm, A>();
}
#else
TEST_CASE("NEON int8 multiply agrees with a double loop") { MESSAGE("SKIP: not a 64-bit Arm CPU"); }
#endif
