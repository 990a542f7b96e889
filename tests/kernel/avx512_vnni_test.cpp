// SPDX-License-Identifier: Apache-2.0
#include "int8_sweep.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE_TEMPLATE("AVX-512 VNNI multiply agrees with a double loop", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if (!isa::avx512_vnni::available()) {
    MESSAGE("SKIP: this CPU has no AVX-512 VNNI");
    return;
  }
  if constexpr (has_int8_kernel<P, Q, int8_groups<32>>())
    sweep_int8<isa_list<isa::avx512_vnni, isa::scalar>, int8_groups<32>, P, Q>();
}
