// SPDX-License-Identifier: Apache-2.0
// The comparison must see the mistakes that such kernels have: each is made here, by a context that does one thing
// wrong under the unchanged kernel.
#include "faults.hpp"
#include "gemm_problem.hpp"

#include <doctest/doctest.h>

#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>

using namespace quern;
using namespace quern_test;

namespace {

template <class T>
struct is_multiplication : std::false_type {};
template <int A, int B, class C>
struct is_multiplication<cuda::emulation::operands<A, B, C>> : std::true_type {};

/// Registers 1 and 2 of A (upper and lower rows, first and second half of k) are exchanged.
struct swapped_operand : simt::context {
  using simt::context::context;
  template <class Out, class In, class Op>
  Out collective(std::uint32_t mask, In in, Op op, simt::site at = simt::site::here()) {
    if constexpr (is_multiplication<In>::value) std::swap(in.a[1], in.a[2]);
    return simt::context::collective<Out>(mask, in, op, at);
  }
};
/// The metadata of 2:4 comes from the neighbouring lane.
struct swapped_metadata : simt::context {
  using simt::context::context;
  template <class Out, class In, class Op>
  Out collective(std::uint32_t mask, In in, Op op, simt::site at = simt::site::here()) {
    if constexpr (is_multiplication<In>::value) in.metadata = shuffle_xor(in.metadata, 1);
    return simt::context::collective<Out>(mask, in, op, at);
  }
};
/// Rows of ldmatrix start one row (16 bytes) late.
struct shifted_index : simt::context {
  using simt::context::context;
  template <class Out, class In, class Op>
  Out collective(std::uint32_t mask, In in, Op op, simt::site at = simt::site::here()) {
    if constexpr (std::is_same_v<In, cuda::emulation::row_pointer>)
      in.row = static_cast<const char*>(in.row) + 16;
    return simt::context::collective<Out>(mask, in, op, at);
  }
};
/// Waits for nothing.
struct no_wait : simt::context {
  using simt::context::context;
  template <int N>
  void wait_async() {}
};

template <class Context, class P, class Q>
std::size_t wrong_with(float density) {
  rng g(11);
  const gemm_problem<P, Q, f16> p(random_packed<P, Q>(64, 600, density, g), 8, g);
  return wrong_outputs<cuda::gemm<matrix_view<P, Q>, f16, 8>, Context>(p, 5);
}
template <class Context>
void is_seen() {
  CHECK(wrong_with<Context, dense, affine<4, 32>>(1) > 0);
  CHECK(wrong_with<Context, bsr<16, 32>, affine<4, 32>>(0.5f) > 0);
  CHECK(wrong_with<Context, nm<2, 4>, affine<4, 32>>(0.5f) > 0);
}

}  // namespace

TEST_CASE("without a fault nothing is wrong") {
  CHECK(wrong_with<simt::context, dense, affine<4, 32>>(1) == 0);
  CHECK(wrong_with<simt::context, bsr<16, 32>, affine<4, 32>>(0.5f) == 0);
  CHECK(wrong_with<simt::context, nm<2, 4>, affine<4, 32>>(0.5f) == 0);
}
TEST_CASE("operands of mma swapped") { is_seen<swapped_operand>(); }
TEST_CASE("metadata of mma.sp from the wrong lane") {
  CHECK(wrong_with<swapped_metadata, nm<2, 4>, affine<4, 32>>(0.5f) > 0);
}
TEST_CASE("index into shared memory shifted") { is_seen<shifted_index>(); }
TEST_CASE("wait one group too early, or not at all") {
  is_seen<simt::early_wait>();
  is_seen<no_wait>();
}
TEST_CASE("barrier removed") { is_seen<simt::without_barriers>(); }
TEST_CASE("a copy lands at its neighbour's place") { is_seen<simt::shifted_copy>(); }
