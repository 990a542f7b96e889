// SPDX-License-Identifier: Apache-2.0
#include "neon_sweep.hpp"

using namespace quern;
using namespace quern_test;

#if defined(__aarch64__)
// isa::scalar takes the few formats that the vector loop does not.
TEST_CASE_TEMPLATE("NEON multiply agrees with a double loop", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if (missing<isa::neon_dot>()) return;
  if constexpr (in_part<F, 0, QUERN_TEST_FORMATS>()) {
    if constexpr (kernel<isa::neon_dot>::supports<P, Q, float>)
      sweep<isa_list<isa::neon_dot>, P, Q>();
    else
      sweep<isa_list<isa::neon_dot, isa::scalar>, P, Q>();
  }
}
#else
TEST_CASE("NEON multiply agrees with a double loop") { MESSAGE("SKIP: not a 64-bit Arm CPU"); }
#endif
