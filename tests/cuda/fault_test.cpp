// SPDX-License-Identifier: Apache-2.0
// Mistakes planted in the GEMV kernel by contexts that make them: the comparison with the oracle must notice each.
#include "faults.hpp"

#include <doctest/doctest.h>

#include "gemv.hpp"
#include "table.hpp"

namespace {

using namespace quern_test;

/// Orders of the threads, of eight, in which the fault shows.
template <class Context, class F>
int noticed() {
  gemv_problem<typename F::pattern, typename F::quantizer, f16, 1> problem({37, 280, 1, 2, 64});
  int shown = 0;
  for (std::uint64_t order = 1; order <= 8; ++order) {
    problem.counters.assign(problem.counters.size(), 0);
    problem.template run<Context>(order);
    shown += problem.check() != "";
  }
  return shown;
}

TEST_CASE_TEMPLATE("planted faults", F, table::group16_w4, table::dense_w4, table::bsr16_w4) {
  CHECK(noticed<simt::context, F>() == 0);  // without one, in every order
  CHECK(noticed<simt::without_barriers, F>() > 0);
  CHECK(noticed<simt::early_wait, F>() == 8);
  CHECK(noticed<simt::shifted_copy, F>() == 8);
}

TEST_CASE("a removed barrier of the warp") {
  // Where votes and shuffles stand between the copy and the first read, they order the lanes of the emulator as well.
  CHECK(noticed<simt::without_warp_barriers, table::dense_w4>() > 0);
}

}  // namespace
