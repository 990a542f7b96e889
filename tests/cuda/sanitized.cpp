// SPDX-License-Identifier: Apache-2.0
// One launch of every kind of kernel, for the builds with sanitizers.
#include <doctest/doctest.h>

#include "faults.hpp"
#include "gemv.hpp"
#include "table.hpp"

namespace {

using namespace quern_test;

template <class F, int Tokens, class Context = simt::context>
std::string run_gemv(std::uint64_t order) {
  gemv_problem<typename F::pattern, typename F::quantizer, f16, Tokens> problem({37, 280, Tokens, 3, 64});
  problem.template run<Context>(order);
  return problem.check();
}

TEST_CASE_TEMPLATE("GEMV", F, table::group16_w4, table::group_nm_w4, table::bsr32_w5, table::dense_w4) {
  for (std::uint64_t order = 1; order <= 4; ++order) CHECK(run_gemv<F, 2>(order) == "");
}

TEST_SUITE("faults") {
  TEST_CASE("GEMV without its barriers") { run_gemv<table::dense_w4, 1, simt::without_barriers>(1); }
}

}  // namespace
