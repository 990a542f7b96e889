// SPDX-License-Identifier: Apache-2.0
// One launch of every kind of kernel, for the builds with sanitizers.
#include <doctest/doctest.h>

#include "faults.hpp"
#include "gemm_problem.hpp"
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

template <class F, class T, class Context = simt::context>
std::size_t run_gemm(std::uint64_t order) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  using kernel = cuda::gemm<matrix_view<P, Q>, T, 8>;
  rng g(3);
  const gemm_problem<P, Q, T> p(random_packed<P, Q>(37, kernel::F::window + 40, 0.5f, g), 5, g);
  return wrong_outputs<kernel, Context>(p, order);
}

TEST_CASE_TEMPLATE("GEMM", F, table::group16_w4, table::bsr16_w4, table::nm_w4) {
  for (std::uint64_t order = 1; order <= 2; ++order) CHECK(run_gemm<F, f16>(order) == 0);
}
TEST_CASE("GEMM of bytes") { CHECK(run_gemm<table::nm_w8, std::int8_t>(1) == 0); }

TEST_SUITE("faults") {
  TEST_CASE("GEMM without its barriers") { run_gemm<table::bsr16_w4, f16, simt::without_barriers>(1); }
  TEST_CASE("GEMV without its barriers") { run_gemv<table::dense_w4, 1, simt::without_barriers>(1); }
}

}  // namespace
