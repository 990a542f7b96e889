// SPDX-License-Identifier: Apache-2.0
// SLoRB on the GPU: the pooled inputs, and the product with the side matrix in the same launch.
#include <doctest/doctest.h>

#include <quern/pattern/bsr.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/symmetric.hpp>

#include "gemm_side_problem.hpp"

using namespace quern;
using namespace quern_test;

namespace {

/// Leaves out barrier number 18: with 1100 inputs in steps of 64 the one behind the first product.
struct without_barrier_between : simt::context {
  using simt::context::context;
  int number = 0;
  void sync(simt::site at = simt::site::here()) {
    if (number++ != 18) simt::context::sync(at);
  }
};

template <class P, class Q, class Context = simt::context>
std::size_t wrong_outputs_with_side(std::size_t rows, std::size_t cols, std::size_t tokens) {
  using problem = side_problem<P, Q, 8>;
  using kernel = typename problem::kernel;
  rng g(rows + cols);
  problem p(rows, cols, tokens, g);
  const auto args = p.arguments();
  REQUIRE(kernel::refusal(args) == nullptr);
  simt::launch<Context>({.blocks = kernel::blocks(rows),
                         .blocks_y = kernel::blocks_y(tokens),
                         .threads = kernel::threads,
                         .shared_bytes = kernel::shared_bytes,
                         .seed = 3},
                        [&](Context& ctx) { kernel::run(ctx, args); });
  return p.wrong_outputs();
}

}  // namespace

TEST_CASE("W x + S p in one launch") {
  CHECK(wrong_outputs_with_side<nm<2, 4>, affine<4, 32>>(37, 200, 9) == 0);
  CHECK(wrong_outputs_with_side<nm<2, 4>, symmetric<4, 32, two_level>>(64, 1100, 3) == 0);
  CHECK(wrong_outputs_with_side<bsr<16, 32>, affine<4, 32>>(80, 333, 8) == 0);
}

TEST_CASE("the barrier between the two products is needed") {
  CHECK(wrong_outputs_with_side<nm<2, 4>, affine<4, 32>, without_barrier_between>(64, 1100, 9) > 0);
}

TEST_CASE("pooled inputs are the sums of every k") {
  using problem = side_problem<nm<2, 4>, affine<4, 32>, 8>;
  rng g(4);
  problem p(16, 333, 5, g);
  std::vector<f16> out(5 * 30, f16{0x7fff});
  const problem::pool::arguments args{
      p.main.arguments<problem::main_kernel>(nullptr, 0).x, p.main.stride, 5, 333, 16, out.data(), 30};
  simt::launch({.blocks = problem::pool::blocks(args), .threads = problem::pool::threads},
               [&](simt::context& ctx) { problem::pool::run(ctx, args); });
  for (std::size_t t = 0; t < 5; ++t)
    for (std::size_t j = 0; j < 30; ++j)
      CHECK(out[t * 30 + j].bits == (j < 21 ? p.sums()[t * p.stride + j].bits : 0x7fff));
}

TEST_CASE("shapes that do not belong together are refused") {
  using problem = side_problem<nm<2, 4>, affine<4, 32>, 8>;
  rng g(5);
  problem p(16, 64, 3, g);
  problem::kernel::arguments a = p.arguments();
  CHECK(problem::kernel::refusal(a) == nullptr);
  a.side.w.rows = 4;
  REQUIRE(problem::kernel::refusal(a) != nullptr);
  CHECK(std::string(problem::kernel::refusal(a)).find("equally many rows") != std::string::npos);
  a = p.arguments();
  a.side.x_stride = 3;
  REQUIRE(problem::kernel::refusal(a) != nullptr);
  CHECK(std::string(problem::kernel::refusal(a)).find("multiple of 16 bytes") != std::string::npos);
}
