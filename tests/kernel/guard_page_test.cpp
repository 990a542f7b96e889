// SPDX-License-Identifier: Apache-2.0
// Nothing that takes a matrix reads behind one of its streams: each ends where a page ends that is followed by one that
// may not be read.
#include <doctest/doctest.h>

#include <cstring>
#include <quern/core/rng.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/format/validate.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <string>
#include <utility>

#include "../formats.hpp"
#include "../support.hpp"

#if defined(__unix__)
#include <sys/mman.h>
#include <unistd.h>

using namespace quern;
using namespace quern_test;

namespace {

/// A copy of a matrix, every stream of which ends at a page that may not be read.
template <class P, class Q>
class guarded {
 public:
  explicit guarded(const matrix_view<P, Q>& w) : view_(w.raw()) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const storage sizes = w.bytes();
    for (const std::size_t bytes : sizes.bytes) size_ += (bytes + page - 1) / page * page + page;
    void* const memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    memory_ = static_cast<std::byte*>(memory);
    std::byte* end = memory_;
    for (int i = 0; i < stream_count; ++i, end += page) {
      end += (sizes.bytes[i] + page - 1) / page * page;
      REQUIRE(mprotect(end, page, PROT_NONE) == 0);
      if (sizes.bytes[i] > 0) std::memcpy(end - sizes.bytes[i], view_.at[i], sizes.bytes[i]);
      view_.at[i] = end - sizes.bytes[i];
    }
  }
  guarded(const guarded&) = delete;
  ~guarded() { munmap(memory_, size_); }
  matrix_view<P, Q> view() const { return matrix_view<P, Q>(view_); }

 private:
  packed_view view_;
  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
};

template <class A, class Isas = default_isas, class P, class Q>
void same_product(const matrix<P, Q>& w, const matrix_view<P, Q>& copy, const dense_matrix& x) {
  dense_matrix expected(x.rows, w.rows()), y(x.rows, w.rows());
  const activations<A> a(x.view());
  multiply<Isas>(w, a.view(), expected.view());
  read_ahead(copy);
  multiply<Isas>(copy, a.view(), y.view());
  CHECK(y.data == expected.data);
}

template <class P, class Q>
void read_no_further() {
  CAPTURE(std::string(P::label().c_str()));
  CAPTURE(std::string(Q::label().c_str()));
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
      using narrower = isa_list<isa::avx2, isa::scalar>;
      same_product<float, narrower>(m, copy.view(), x);
      same_product<int8_groups<32>, narrower>(m, copy.view(), x);
      same_product<bf16>(m, copy.view(), x);
      same_product<int24>(m, copy.view(), x);
      CHECK(checked<P, Q>(copy.view().raw(), copy.view().bytes()).has_value());
      dense_matrix values(rows, cols), expected(rows, cols);
      unpack(copy.view(), values.view());
      unpack(m.view(), expected.view());
      CHECK(values.data == expected.data);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("kernels read no further than the streams of a matrix", F, QUERN_TEST_FORMATS,
                   format<dense, affine<2, 32>>, format<dense, affine<4, 32, f16_offset>>,
                   format<bsr<16, 8>, affine<2, 8>>, format<bsr<16, 32>, affine<2, 32>>,
                   format<group_nm<2, 4, 16>, affine<2, 16>>, format<group<8>, affine<2, 8>>,
                   format<nm<2, 4>, affine<2, 32>>, format<bitmap, affine<2, 16>>) {
  read_no_further<typename F::pattern, typename F::quantizer>();
}
#else
TEST_CASE("kernels read no further than the streams of a matrix") { MESSAGE("SKIP: no mprotect"); }
#endif
