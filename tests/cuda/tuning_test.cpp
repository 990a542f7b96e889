// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/kernel/cuda/tuning.hpp>

#include "gemv.hpp"
#include "table.hpp"

namespace {

using namespace quern_test;
using F = table::group16_w4;
using kernel = cuda::gemv<matrix_view<F::pattern, F::quantizer>, f16, 1>;

constexpr cuda::architecture a100{80, 108, std::size_t{164} << 10, std::size_t{163} << 10};
constexpr cuda::architecture h100{90, 132, std::size_t{228} << 10, std::size_t{227} << 10};
constexpr cuda::architecture ada{89, 128, std::size_t{100} << 10, std::size_t{99} << 10};

static_assert(cuda::tune_gemv(a100) == cuda::gemv_tuning{});
static_assert(cuda::tune_gemv(h100) == cuda::gemv_tuning{.threads = 512});
static_assert(cuda::tune_gemv(ada) == cuda::gemv_tuning{.threads = 384});
// Two blocks of 512 threads on each multiprocessor: 32 warps, each with two partial sums of 16 rows x 4 vectors.
static_assert(cuda::workspace_bytes(a100) == std::size_t{108} * 32 * (2 * 16 * 4 * 4 + 4));
static_assert(cuda::workspace_bytes(ada) < cuda::workspace_bytes(a100));

/// A packed view with that many cells, for plans only.
constexpr packed_view shape(std::size_t rows, std::size_t cols, std::size_t cells) {
  packed_view v;
  v.rows = rows;
  v.cols = cols;
  v.cells = cells;
  return v;
}

// GQSA's 4096 x 4096 at half density: every multiprocessor has two blocks, half of its threads or more.
constexpr packed_view w4096 = shape(4096, 4096, 4096 * 128);
static_assert(cuda::plan_gemv<kernel>(a100, cuda::tune_gemv(a100), w4096).blocks == 216);
static_assert(cuda::plan_gemv<kernel>(h100, cuda::tune_gemv(h100), w4096).blocks == 258);
static_assert(2 * (cuda::plan_gemv<kernel>(a100, {}, w4096).shared_bytes + 1024) <=
              a100.shared_per_multiprocessor);
// 28672 inputs (the longest of LLaMA 70B) still leave room for two blocks on sm_80.
static_assert(2 * (kernel::shared_bytes(28672, 512) + 1024) <= a100.shared_per_multiprocessor);
// A small matrix gets no blocks without work.
static_assert(cuda::plan_gemv<kernel>(h100, {}, shape(64, 64, 64 * 2)).blocks == 1);
static_assert(cuda::plan_gemv<kernel>(h100, {.how = cuda::schedule::rows}, w4096).blocks == 16);

TEST_CASE("a tuning is printed as it is written") {
  std::FILE* f = std::tmpfile();
  REQUIRE(f != nullptr);
  print(f, cuda::gemv_tuning{});
  std::rewind(f);
  char text[128] = {};
  REQUIRE(std::fgets(text, sizeof text, f) != nullptr);
  std::fclose(f);
  CHECK(std::string(text) == "{.threads = 512, .blocks_per_multiprocessor = 2, .how = schedule::tasks}");
}

/// The sentence with which a launch is refused; empty when it is not.
template <class Change>
std::string refusal(Change change) {
  gemv_problem<F::pattern, F::quantizer, f16, 1> problem({20, 40});
  struct {
    cuda::architecture a = a100;
    kernel::arguments args;
    std::size_t x_cols = 40, y_rows = 1, y_cols = 20;
  } call;
  call.args = problem.arguments();
  change(call);
  try {
    cuda::check_shapes(call.a, call.args.w, 1, call.x_cols, call.y_rows, call.y_cols);
    cuda::check_gemv<kernel>(call.a, cuda::tune_gemv(call.a), call.args);
  } catch (const shape_error& e) {
    return e.what();
  }
  return {};
}
void says(const std::string& text, const char* part) {
  INFO(text);
  CHECK(text.find(part) != std::string::npos);
}

TEST_CASE("what cannot run is refused before the launch, with a sentence") {
  CHECK(refusal([](auto&) {}) == "");
  says(refusal([](auto& c) { c.a.compute = 75; }),
       "needs compute capability 8.0 (asynchronous copies, bf16), this is 7.5");
  says(refusal([](auto& c) { c.x_cols = 41; }), "x must have W.cols = 40 columns, got 41");
  says(refusal([](auto& c) { c.y_rows = 2; }), "equally many vectors, got 1 and 2");
  says(refusal([](auto& c) { c.y_cols = 19; }), "y must have W.rows = 20 columns, got 19");
  says(refusal([](auto& c) { ++c.args.x; }), "every row of x must start at a multiple of 16 bytes");
  says(refusal([](auto& c) {
         c.args.tokens = 2;
         c.args.x_stride = 41;
       }),
       "pad its stride to 8 elements");
  says(refusal([](auto& c) { c.args.w.at[static_cast<int>(stream::codes)] += 4; }),
       "stream 'codes' of W must start");
  says(refusal([](auto& c) { c.x_cols = c.args.w.cols = 100000; }), "split W by columns");
  says(refusal([](auto& c) { c.args.w.cells = std::size_t{1} << 31; }), "split it by rows");
  says(refusal([](auto& c) { c.args.y = reinterpret_cast<float*>(reinterpret_cast<char*>(c.args.y) + 1); }),
       "y must be aligned");
}

TEST_CASE("formats without a kernel say why") {
  using nm_format = cuda::gemv_format<matrix_view<nm<2, 4>, affine<4, 32>>>;
  CHECK(std::string(nm_format::why_not()).find("nm has the tensor core kernel") != std::string::npos);
  static_assert(!nm_format::supported);
}

}  // namespace
