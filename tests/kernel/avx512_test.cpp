// SPDX-License-Identifier: Apache-2.0
#include "sweep.hpp"

using namespace quern;
using namespace quern_test;

// isa::scalar stands behind isa::avx512 in the list: a format whose runs the vector loop does not take must
// still be multiplied.
TEST_CASE_TEMPLATE("AVX-512 multiply agrees with a double loop", F, QUERN_TEST_FORMATS) {
  if (!isa::avx512::available()) {
    MESSAGE("SKIP: this CPU has no AVX-512");
    return;
  }
  sweep<isa_list<isa::avx512, isa::scalar>, typename F::pattern, typename F::quantizer>();
}

// A unit's inputs come in parts of 256 into the table of a window; here a run goes across their ends.
TEST_CASE("so it does with units wider than a table") {
  if (isa::avx512::available()) sweep<isa_list<isa::avx512>, group<536>, affine<4, 536>>();
}
