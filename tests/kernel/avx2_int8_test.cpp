// SPDX-License-Identifier: Apache-2.0
#include "int8_sweep.hpp"

using namespace quern;
using namespace quern_test;

namespace {

using isas = isa_list<isa::avx2, isa::scalar>;

bool missing() {
  if (isa::avx2::available()) return false;
  MESSAGE("SKIP: this CPU has no AVX2");
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("AVX2 multiply of int8 activations agrees with a double loop", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if (missing()) return;
  if constexpr (has_int8_kernel<P, Q, int8_groups<32>>()) sweep_integers<isas, int8_groups<32>, P, Q>();
}

TEST_CASE_TEMPLATE("so it does with other groups of activations", F, QUERN_INT8_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if (missing()) return;
  sweep_integers<isas, int8_groups<128>, P, Q>();
  sweep_integers<isas, int8_per_token, P, Q>();
}

TEST_CASE_TEMPLATE("so it does with activations of 24 bits", F, QUERN_INT24_FORMATS) {
  if (missing()) return;
  sweep_integers<isas, int24, typename F::pattern, typename F::quantizer>();
}
