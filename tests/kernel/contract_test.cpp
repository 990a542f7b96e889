// SPDX-License-Identifier: Apache-2.0
// What multiply() promises besides the right numbers.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <string>
#include <utility>

#include "../formats.hpp"
#include "../support.hpp"
#if defined(__unix__)
#include <pthread.h>
#endif

using namespace quern;
using namespace quern_test;

namespace {
std::atomic<std::size_t> allocations{0};
}  // namespace

[[gnu::noinline]] void* operator new(std::size_t n) {
  ++allocations;
  if (void* p = std::malloc(n == 0 ? 1 : n)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t n, std::align_val_t a) {
  ++allocations;
  const std::size_t to = static_cast<std::size_t>(a);
  if (void* p = std::aligned_alloc(to, (n + to - 1) / to * to)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace {

template <class P, class Q, class A>
void no_allocation(std::size_t tokens) {
  rng g(3);
  const dense_matrix w = random_matrix(64, 512, g), x = random_matrix(tokens, 512, g);
  const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(64, 512, 0.5f, g));
  dense_matrix y(tokens, 64);
  buffer memory(workspace_bytes<A>(tokens, 512));
  const std::size_t before = allocations;
  const activation_view<A> a = prepare<A>(x.view(), memory.data());
  multiply(m, a, y.view());
  CHECK(allocations == before);
}

/// Relative error of the outputs against those of exact activations.
template <class A>
double error_of(const matrix<dense, affine<4, 32>>& w, const dense_matrix& x) {
  dense_matrix exact(x.rows, w.rows()), y(x.rows, w.rows());
  multiply(w, x.view(), exact.view());
  const activations<A> a(x.view());
  multiply(w, a.view(), y.view());
  double off = 0, size = 0;
  for (std::size_t i = 0; i < y.data.size(); ++i) {
    off += std::pow(static_cast<double>(y.data[i] - exact.data[i]), 2);
    size += std::pow(static_cast<double>(exact.data[i]), 2);
  }
  return std::sqrt(off / size);
}

}  // namespace

TEST_CASE("kernels allocate nothing: workspace_bytes() tells what a call needs") {
  for (const std::size_t tokens : {1u, 3u, 4u, 5u, 29u}) {
    CAPTURE(tokens);
    no_allocation<dense, affine<4, 32>, int8_groups<32>>(tokens);
    no_allocation<bsr<16, 32>, symmetric<4, 16, two_level>, int8_per_token>(tokens);
    no_allocation<group<16>, affine<4, 16>, int8_groups<128>>(tokens);
    no_allocation<nm<2, 4>, affine<4, 32>, int8_groups<64>>(tokens);
    no_allocation<dense, affine<4, 32>, bf16>(tokens);
    no_allocation<bsr<16, 32>, affine<4, 32>, int24>(tokens);
    no_allocation<bitmap, affine<4, 16>, float>(tokens);
  }
}

TEST_CASE("int8 activations: error by group, with and without outlier channels") {
  // Rounding to 1/127 of a group's largest input: the expected error of Gaussian inputs is the ratio of
  // max / 127 / sqrt(12) to sigma, .0049 for groups of 32 (max about 2.1 sigma) and .0085 per token of 4096; the
  // bounds leave a third.
  rng g(8);
  const std::size_t cols = 1024;
  const dense_matrix w = random_matrix(64, cols, g);
  const auto m = pack<dense, affine<4, 32>>(w.view());
  dense_matrix x = random_matrix(8, cols, g);
  const double of[] = {error_of<int8_groups<32>>(m, x), error_of<int8_groups<64>>(m, x),
                       error_of<int8_groups<128>>(m, x), error_of<int8_per_token>(m, x),
                       error_of<bf16>(m, x)};
  CHECK(of[0] < .0070);
  CHECK(of[1] < .0078);
  CHECK(of[2] < .0088);
  CHECK(of[3] < .0115);
  CHECK(of[4] < .0030);
  for (std::size_t t = 0; t < 8; ++t)
    for (const std::size_t c : {17u, 300u, 301u, 900u}) x.view()(t, c) *= 100;
  const double with[] = {error_of<int8_groups<32>>(m, x), error_of<int8_per_token>(m, x)};
  CHECK(with[0] < .02);
  CHECK(with[1] > 3 * with[0]);  // why groups are the default
  MESSAGE("relative error, Gaussian: groups of 32, 64, 128 ", of[0], " ", of[1], " ", of[2], ", per token ",
          of[3], ", bf16 ", of[4], "; with outliers x 100: groups of 32 ", with[0], ", per token ", with[1]);
}

TEST_CASE_TEMPLATE("inputs of 24 bits are as good as floats", Q, affine<4, 32>, symmetric<4, 32>,
                   affine<3, 16, two_level>) {
  // A step is 2^-23 of the largest of 32 inputs, .29 steps (rms) are lost: 7e-8 of Gaussian inputs, of which the
  // largest is at 2.1 sigma. Where four channels are 100 times as large, the other 31 in their groups lose 100 times as
  // much: 3.4e-6 sqrt(4 * 31 / (2048 + 4e4)) = 1.9e-7 of the outputs. Sums in float lose about 2e-7 in either case, so
  // both together are below 1.5 times that.
  rng g(9);
  const std::size_t rows = 64, cols = 2048, tokens = 4;
  const auto m = pack<dense, Q>(random_matrix(rows, cols, g).view());
  dense_matrix values(rows, cols), x = random_matrix(tokens, cols, g), y(tokens, rows);
  unpack(m.view(), values.view());
  for (const float outlier : {1.0f, 100.0f}) {
    for (std::size_t t = 0; t < tokens; ++t)
      for (const std::size_t c : {17u, 300u, 301u, 900u}) x.view()(t, c) *= outlier;
    const auto error = [&] {
      double off = 0, size = 0;
      for (std::size_t t = 0; t < tokens; ++t)
        for (std::size_t r = 0; r < rows; ++r) {
          double sum = 0;
          for (std::size_t c = 0; c < cols; ++c)
            sum += static_cast<double>(values.view()(r, c)) * static_cast<double>(x.view()(t, c));
          off += std::pow(static_cast<double>(y.view()(t, r)) - sum, 2);
          size += sum * sum;
        }
      return std::sqrt(off / size);
    };
    multiply(m, std::as_const(x).view(), y.view());
    const double of_floats = error();
    const activations<int24> a(std::as_const(x).view());
    multiply(m, a.view(), y.view());
    const double of_int24 = error();
    MESSAGE("relative error, outliers x ", outlier, ": floats ", of_floats, ", 24 bits ", of_int24);
    CHECK(of_int24 < 1.5 * of_floats);
  }
}

TEST_CASE("a NaN or infinite input does not get lost") {
  rng g(4);
  const dense_matrix w = random_matrix(20, 96, g);
  const auto m = pack<dense, affine<4, 32>>(w.view());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const std::size_t tokens : {1u, 6u}) {
      dense_matrix x = random_matrix(tokens, 96, g), y(tokens, 20);
      x.view()(tokens - 1, 40) = bad;
      const activations<> a(std::as_const(x).view());
      multiply(m, a.view(), y.view());
      for (std::size_t r = 0; r < 20; ++r) {
        CHECK_FALSE(std::isfinite(y.view()(tokens - 1, r)));
        if (tokens > 1) CHECK(std::isfinite(y.view()(0, r)));
      }
    }
}

namespace {

/// Every instruction set that has a kernel for P x Q with A.
template <class P, class Q, class A, class F>
void for_each_isa(F&& f) {
  const auto one = [&]<class I>() {
    if constexpr (kernel<I>::template supports<P, Q, A>)
      if (I::available()) f(I{});
  };
  [&]<class... I>(isa_list<I...>) { (one.template operator()<I>(), ...); }(default_isas{});
}

}  // namespace

TEST_CASE_TEMPLATE("a row does not see what it does not read", F, format<group<16>, affine<4, 16>>,
                   format<group<64>, symmetric<4, 32, two_level>>, format<bsr<4, 16>, affine<3, 16>>,
                   format<bitmap, affine<4, 16>>, format<group<16>, affine<4, 16, f16_offset>>) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  constexpr std::size_t rows = 16, unit = P::unit_cols, cols = 16 * unit, kept = 2;
  rng g(5);
  const dense_matrix w = random_matrix(rows, cols, g);
  // The first rows keep one unit, the others all: most slots have no cell of the first ones.
  bit_mask mask(rows, cols, true);
  for (std::size_t r = 0; r < P::unit_rows; ++r)
    for (std::size_t c = 0; c < cols; ++c) mask.set(r, c, c / unit == kept);
  const matrix<P, Q> m = pack<P, Q>(w.view(), mask);
  const auto check = [&]<class A>() {
    for_each_isa<P, Q, A>([&]<class I>(I) {
      CAPTURE(std::string(I::label().c_str()));
      for (const std::size_t tokens : {1u, 2u, 3u, 4u})
        for (std::size_t bad = 0; bad < 16; ++bad) {
          // Units of 16 inputs share their scales with another.
          if (bad == kept || (is_int8<A> && bad * unit / 32 == kept * unit / 32)) continue;
          CAPTURE(tokens);
          CAPTURE(bad);
          dense_matrix x = random_matrix(tokens, cols, g), y(tokens, rows);
          for (std::size_t t = 0; t < tokens; ++t) x.view()(t, bad * unit) = HUGE_VALF;
          const activations<A> a(std::as_const(x).view());
          multiply<isa_list<I>>(m, a.view(), y.view());
          for (std::size_t t = 0; t < tokens; ++t)
            for (std::size_t r = 0; r < rows; ++r) CHECK(std::isfinite(y.view()(t, r)) == (r < P::unit_rows));
        }
    });
  };
  check.template operator()<float>();
  if constexpr (has_int8_kernel<P, Q, int8_groups<32>>()) check.template operator()<int8_groups<32>>();
}

TEST_CASE("without inputs the outputs are zeros") {
  const auto check = [&]<class A, class P, class Q>() {
    const matrix<P, Q> m(20, 0, 0);
    for_each_isa<P, Q, A>([&]<class I>(I) {
      CAPTURE(std::string(I::label().c_str()));
      CAPTURE(std::string(P::label().c_str()));
      for (const std::size_t tokens : {1u, 4u, 5u, 13u}) {
        CAPTURE(tokens);
        const activations<A> a(span2<const float>(nullptr, tokens, 0));
        dense_matrix y(tokens, 20);
        for (float& v : y.data) v = 7;
        multiply<isa_list<I>>(m, a.view(), y.view());
        for (const float v : y.data) CHECK(v == 0);
      }
    });
  };
  check.operator()<float, dense, affine<4, 32>>();
  check.operator()<int8_groups<32>, dense, affine<4, 32>>();
  check.operator()<int8_per_token, dense, affine<4, 32>>();
  check.operator()<bf16, dense, affine<4, 32>>();
  check.operator()<int24, dense, affine<4, 32>>();
  check.operator()<float, group<16>, affine<4, 16>>();
  check.operator()<int8_groups<32>, group<16>, affine<4, 16>>();
  check.operator()<int8_groups<32>, bsr<16, 32>, affine<4, 32>>();
  check.operator()<float, nm<2, 4>, affine<4, 32>>();
  check.operator()<int8_groups<32>, nm<2, 4>, affine<4, 32>>();
}

TEST_CASE("activations are prepared whatever the list can do") {
  rng g(6);
  const dense_matrix w = random_matrix(20, 96, g), x = random_matrix(2, 96, g);
  const auto m = pack<dense, affine<4, 32>>(w.view());
  const auto same = [&]<class A>() {
    dense_matrix expected(2, 20), y(2, 20);
    const activations<A> a(x.view());
    multiply(m, a.view(), expected.view());
    const activations<A, isa_list<isa::avx512>> b(x.view());  // for exact floats alone
    multiply(m, b.view(), y.view());
    for (std::size_t i = 0; i < y.data.size(); ++i)
      CHECK(y.data[i] == doctest::Approx(static_cast<double>(expected.data[i])));
  };
  same.operator()<int8_groups<32>>();
  same.operator()<int24>();
  same.operator()<bf16>();
}

TEST_CASE("tables of a vector are made of its own inputs") {
  // Other parts of the memory may be written at the same time.
  rng g(6);
  constexpr std::size_t cols = 300;  // a window of 16 units of 64 inputs ends in the second vector after
  const dense_matrix x = random_matrix(4, cols, g);
  dense_matrix other = x;
  for (std::size_t c = 0; c < cols; ++c)
    for (std::size_t t = 1; t < 4; ++t) other.view()(t, c) = g.normal();
  activations<> a, b;
  a.assign(x.view());
  b.assign(std::as_const(other).view());
  const activation_layout shape = a.view().shape;
  for (int u = 0; u < 3; ++u)
    CHECK(std::memcmp(a.view().memory + shape.table(u, 0), b.view().memory + shape.table(u, 0),
                      shape.table_bytes(activation_layout::units[u])) == 0);
}

#if defined(__unix__)
TEST_CASE("kernels take little stack, however wide a unit is") {
  struct problem {
    matrix<group<8192>, affine<4, 64>> w;
    dense_matrix x, y;
  };
  rng g(6);
  problem p{pack<group<8192>, affine<4, 64>>(random_matrix(16, 8192, g).view()), random_matrix(4, 8192, g),
            dense_matrix(4, 16)};
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, std::size_t{512} << 10) == 0);
  pthread_t thread;
  const auto work = [](void* memory) -> void* {
    problem& q = *static_cast<problem*>(memory);
    multiply(q.w, std::as_const(q.x).view(), q.y.view());
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, work, &p) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
  for (const float v : p.y.data) CHECK(v != 0);
}
#endif

namespace {

template <class T>
concept shows = requires(T&& owner) {
  std::forward<T>(owner).view();
};

}  // namespace

TEST_CASE("what owns memory shows it as long as it is there") {
  using m = matrix<dense, affine<4, 32>>;
  static_assert(shows<m&> && shows<const m&> && !shows<m> && !shows<const m>);
  static_assert(shows<activations<>&> && !shows<activations<>>);
}

TEST_CASE("a format can be asked whether it runs") {
  CHECK(is_runnable<dense, affine<4, 32>>());
  CHECK(is_runnable<nm<2, 4>, affine<4, 24>, int8_groups<32>>());
  CHECK(is_runnable<isa_list<isa::scalar>, dense, affine<4, 32>, bf16>());
  CHECK_FALSE(is_runnable<isa_list<>, dense, affine<4, 32>>());
  dense_matrix x(1, 64), y(1, 16);
  const matrix<dense, affine<4, 32>> w(16, 64, 0);
  CHECK_FALSE(
      multiply_tiles<isa_list<>>(w.view(), 0, 1, activation_view<float>{std::as_const(x).view()}, y.view()));
  CHECK(multiply_tiles(w.view(), 0, 1, activation_view<float>{std::as_const(x).view()}, y.view()));
}

TEST_CASE("inputs and outputs need no alignment") {
  rng g(6);
  const dense_matrix w = random_matrix(33, 200, g), x = random_matrix(1, 203, g);
  const auto m = pack<group<16>, affine<4, 16>>(w.view());
  std::vector<float> first, y(40);
  for (std::size_t shift = 0; shift < 3; ++shift) {
    std::vector<float> moved(x.data.begin(), x.data.begin() + 200);
    moved.insert(moved.begin(), shift, 0.0f);
    const span2<const float> in(moved.data() + shift, 1, 200);
    const activations<> a(in);
    multiply(m, a.view(), span2<float>(y.data() + shift, 1, 33));
    const std::vector<float> now(y.begin() + static_cast<std::ptrdiff_t>(shift),
                                 y.begin() + static_cast<std::ptrdiff_t>(shift) + 33);
    if (shift == 0) first = now;
    CHECK(now == first);
  }
}

TEST_CASE("work is cut by survivors, and every tile is done once") {
  rng g(9);
  const std::size_t rows = 16 * 40, cols = 1024;
  const dense_matrix w = random_matrix(rows, cols, g);
  bit_mask mask(rows, cols);
  for (std::size_t r = 0; r < rows; ++r)  // nearly everything in the last eight tiles
    for (std::size_t c = 0; c < cols; ++c) mask.set(r, c, r >= 16 * 32 || (r / 16 % 10 == 0 && c < 16));
  const auto check = [&](const auto& m) {
    using format = std::remove_cvref_t<decltype(m.view())>;
    const work_split<typename format::pattern, typename format::quantizer> work(m.view());
    for (const std::size_t parts : {1u, 2u, 3u, 7u, 100u}) {
      CAPTURE(parts);
      std::size_t next = 0;
      for (std::size_t i = 0; i < parts; ++i) {
        const std::size_t from = work.tile(work.size() * i / parts),
                          to = work.tile(work.size() * (i + 1) / parts);
        CHECK(from == next);
        CHECK(to >= from);
        next = to;
      }
      CHECK(next == 40);
    }
    return work.tile(work.size() / 2);
  };
  // Half of the work begins within the dense tiles, where half of the rows would be tile 20.
  CHECK(check(pack<group<16>, affine<4, 16>>(w.view(), mask)) >= 34);
  CHECK(check(pack<bsr<16, 16>, affine<4, 16>>(w.view(), mask)) >= 34);
  CHECK(check(pack<dense, affine<4, 16>>(w.view())) == 20);
}

TEST_CASE("work is cut by the slots that run, not by those that would if rows were alike") {
  // A quarter of the rows keeps nearly all of its units, the others few. The fullest of 16 rows decides how many slots
  // a window takes: counting survivors alone would leave one thread 59 % of the slots (57 % of blocks of
  // 4 rows).
  rng g(12);
  const std::size_t rows = 1024, cols = 2048;
  const dense_matrix w = random_matrix(rows, cols, g);
  const auto busier_half = [&]<class P>(P) {
    bit_mask mask(rows, cols);
    for (std::size_t r = 0; r < rows; r += P::unit_rows) {
      const float density = (r < rows / 4 ? 0.9f : 0.1f) + 0.1f * g.uniform();
      for (std::size_t c = 0; c < cols; c += 16)
        if (g.uniform() < density)
          for (std::size_t k = 0; k < 16 * P::unit_rows; ++k) mask.set(r + k / 16, c + k % 16, true);
    }
    const auto m = pack<P, affine<4, 16>>(w.view(), mask);
    const work_split<P, affine<4, 16>> work(m.view());
    using l = layout<P, affine<4, 16>>;
    const std::size_t cut = work.tile(work.size() / 2), tiles = l::tiles(rows);
    std::size_t first = 0, all = 0;
    for (std::size_t t = 0; t < tiles; ++t)
      for (std::size_t window = 0; window < l::mask_windows(cols); ++window) {
        int fullest = 0;
        for (std::size_t b = 0; b < l::blocks_per_tile; ++b)
          fullest = std::max(fullest, std::popcount(m.view().mask(t, window, b)));
        all += static_cast<std::size_t>(fullest);
        if (t < cut) first += static_cast<std::size_t>(fullest);
      }
    return static_cast<double>(std::max(first, all - first)) / static_cast<double>(all);
  };
  // A full tile is 1 / 29 of the work here, and the cut is at a tile; the rest is the estimate's.
  CHECK(busier_half(group<16>{}) < 0.55);
  CHECK(busier_half(bsr<4, 16>{}) < 0.55);
}

TEST_CASE("an engine's own threads: every part of the same call") {
  rng g(10);
  const dense_matrix w = random_matrix(1600, 256, g), x = random_matrix(1, 256, g);
  const auto m = pack<dense, affine<4, 32>>(w.view());
  const activations<> a(x.view());
  dense_matrix whole(1, 1600), parts(1, 1600);
  multiply(m, a.view(), whole.view());
  for (float& v : parts.data) v = std::nanf("");
  for (int i = 0; i < 3; ++i) multiply(m, a.view(), parts.view(), part_of(i, 3));
  CHECK(whole.data == parts.data);
}

TEST_CASE("vectors prepared for a pattern hold its tables only") {
  static_assert(tables_of<> == 0 && tables_of<dense, bsr<16, 32>, nm<2, 4>> == 0);
  static_assert(tables_of<group<16>> == 1 && tables_of<group_nm<2, 4, 32>> == 2 && tables_of<group<64>> == 4);
  static_assert(tables_of<bsr<16, 32>, group<64>, group_nm<2, 4, 16>> == 5);
  rng random(8);
  constexpr std::size_t rows = 40, cols = 200;
  const dense_matrix w = random_matrix(rows, cols, random), x = random_matrix(4, cols, random),
                     many = random_matrix(5, cols, random);
  const auto same = [&]<class P, class Q>() {
    const matrix<P, Q> m = pack<P, Q>(w.view(), random_mask<P>(rows, cols, 0.5f, random));
    dense_matrix expected(4, rows), y(4, rows), batch(5, rows);
    const activations<> all(x.view());
    multiply(m, all.view(), expected.view());
    const std::size_t bytes = workspace_bytes<int8_groups<32>>(4, cols);
    buffer memory(bytes);
    for (unit_tables tables = 0; tables <= all_tables; ++tables) {
      CAPTURE(tables);
      std::memset(memory.data(), 0x7f, bytes);  // what is not filled is not zero either
      const auto a = prepare<int8_groups<32>>(x.view(), memory.data(), serial{}, tables);
      if ((tables_of<P> & ~tables) != 0) {
        CHECK_THROWS_AS(multiply(m, a, y.view()), shape_error);
        continue;
      }
      multiply(m, a, y.view());
      CHECK(y.data == expected.data);
    }
    // Batches have no tables.
    activations<> a;
    a.assign(many.view(), {}, 0);
    CHECK_NOTHROW(multiply(m, a.view(), batch.view()));
  };
  same.operator()<bsr<16, 32>, affine<4, 32>>();
  same.operator()<nm<2, 4>, affine<4, 32>>();
  same.operator()<group<16>, symmetric<4, 16>>();
  same.operator()<group_nm<2, 4, 32>, affine<4, 32>>();
  same.operator()<group<64>, affine<4, 64>>();
}

TEST_CASE("inputs prepared by several threads are those prepared by one") {
  rng random(6);
  thread_pool pool(3);
  const auto same = [&]<class A>() {
    constexpr std::size_t cols = 3000;  // above grain_prepared with a few tokens
    for (std::size_t tokens = 1; tokens <= 53; ++tokens) {
      CAPTURE(tokens);
      std::vector<float> x(tokens * cols);
      for (float& v : x) v = random.normal();
      const span2<const float> in(x.data(), tokens, cols);
      const std::size_t bytes = workspace_bytes<A>(tokens, cols);
      buffer one(bytes), many(bytes);
      const auto a = prepare<A>(in, one.data());
      prepare<A>(in, many.data(), pool);
      CHECK(std::memcmp(one.data(), many.data(), bytes) == 0);
      // Parts are whole tiles: every tile starts a part or lies within one.
      std::size_t first = 0;
      for (std::size_t i = 0; a.shape.tiled() && i < a.shape.parts(); ++i) {
        CHECK(a.shape.part_token(i) == first);
        while (first < a.shape.part_token(i + 1)) first += tile_tokens(tokens, first);
      }
      if (a.shape.tiled()) CHECK(first >= tokens);
    }
  };
  same.operator()<int8_groups<32>>();
  same.operator()<int8_per_token>();
  same.operator()<bf16>();
  same.operator()<int24>();
}
