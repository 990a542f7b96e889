// SPDX-License-Identifier: Apache-2.0
// Nothing that takes a matrix reads behind it: it ends where a page ends that is followed by one that may not be read.
#include <doctest/doctest.h>

#include <cstring>
#include <quern/core/rng.hpp>
#include <quern/format/pack.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <utility>

#include "../formats.hpp"
#include "../support.hpp"

#if defined(__unix__)
#include <sys/mman.h>
#include <unistd.h>

using namespace quern;
using namespace quern_test;

namespace {

/// A copy of a matrix that ends at a page that may not be read.
template <class P, class Q>
class guarded {
 public:
  explicit guarded(const matrix_view<P, Q>& w) : view_(w.raw()) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)), bytes = w.bytes().total();
    const std::size_t readable = (bytes + page - 1) / page * page;
    size_ = readable + page;
    memory_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory_ != MAP_FAILED);
    REQUIRE(mprotect(static_cast<std::byte*>(memory_) + readable, page, PROT_NONE) == 0);
    std::byte* const at = static_cast<std::byte*>(memory_) + (readable - bytes);
    const std::byte* const from = view_[stream::begin];
    std::memcpy(at, from, bytes);
    for (const std::byte*& s : view_.at) s = at + (s - from);
  }
  guarded(const guarded&) = delete;
  ~guarded() { munmap(memory_, size_); }
  matrix_view<P, Q> view() const { return matrix_view<P, Q>(view_); }

 private:
  packed_view view_;
  void* memory_;
  std::size_t size_;
};

template <class A, class P, class Q>
void same_product(const matrix<P, Q>& w, const matrix_view<P, Q>& copy, const dense_matrix& x) {
  dense_matrix expected(x.rows, w.rows()), y(x.rows, w.rows());
  const activations<A> a(x.view());
  multiply(w, a.view(), expected.view());
  read_ahead(copy);
  multiply(copy, a.view(), y.view());
  CHECK(y.data == expected.data);
}

template <class P, class Q>
void read_no_further() {
  CAPTURE(P::label().c_str());
  CAPTURE(Q::label().c_str());
  rng g(11);
  using size = std::pair<std::size_t, std::size_t>;
  for (const size& n : {size{1, 3}, size{16, 64}, size{33, 200}, size{48, 512}})
    for (const std::size_t tokens : {1u, 2u, 4u, 7u}) {
      const std::size_t rows = n.first, cols = n.second;
      CAPTURE(rows);
      CAPTURE(cols);
      CAPTURE(tokens);
      const dense_matrix w = random_matrix(rows, cols, g), x = random_matrix(tokens, cols, g);
      const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(rows, cols, 0.5f, g));
      const guarded<P, Q> copy(m.view());
      same_product<float>(m, copy.view(), x);
      same_product<int8_groups<32>>(m, copy.view(), x);
    }
}

}  // namespace

TEST_CASE("kernels read no further than the matrix") {
  read_no_further<group<16>, affine<4, 16>>();
  read_no_further<group<16>, symmetric<4, 16>>();
  read_no_further<group<64>, affine<4, 64>>();
  read_no_further<group<16>, affine<3, 16, two_level>>();
  read_no_further<group_nm<2, 4, 16>, affine<4, 16>>();
  read_no_further<bsr<8, 32>, affine<4, 32>>();
  read_no_further<bsr<16, 32>, affine<4, 32>>();
  read_no_further<bsr<32, 32>, symmetric<4, 16, two_level>>();
  read_no_further<nm<2, 4>, affine<4, 32>>();
  read_no_further<dense, affine<4, 32, f16_offset>>();
}
#else
TEST_CASE("kernels read no further than the matrix") { MESSAGE("SKIP: no mprotect"); }
#endif
