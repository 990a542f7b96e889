// SPDX-License-Identifier: Apache-2.0
// Writes one launch of every kernel of the table, with the oracle's results, into the folder of its argument.
#include "../gemm_problem.hpp"
#include "../gemv.hpp"
#include "../table.hpp"
#include "case.hpp"

namespace {

using namespace quern_test;

template <class F, class T, int Tokens>
void add_gemv(ptx_cases& out, const char* name) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  constexpr std::size_t u = layout<P, Q>::cell_cols;
  // Two blocks of two warps, so that tiles are cut; a right edge that is not a whole cell; the last tile not full.
  gemv_problem<P, Q, T, Tokens> p({2 * lanes + 5, (256 + u - 1) / u * u + 3, Tokens, 2, 64});
  std::vector<double> sums, bounds;
  p.oracle(sums, bounds);
  const auto a = p.arguments();
  std::vector<ptx_cases::memory> memory;
  const storage bytes = p.w.bytes();
  for (int i = 0; i < stream_count; ++i)
    if (bytes.bytes[i] > 0) memory.push_back({a.w.at[i], bytes.bytes[i]});
  memory.push_back({p.memory.data(), p.memory.size() * 16});
  memory.push_back({p.partial.data(), p.partial.size() * 4});
  memory.push_back({p.counters.data(), p.counters.size() * 4});
  memory.push_back({p.y.data(), p.y.size() * 4});
  out.add(name, p.shape.blocks, 1, p.shape.threads,
          decltype(p)::kernel::shared_bytes(p.shape.cols, p.shape.threads), a, memory, memory.size() - 1,
          sums, bounds, p.w.cells() * layout<P, Q>::cell_codes * Tokens);
}

template <class F, class T, int Tokens>
void add_gemm(ptx_cases& out, const char* name) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  using kernel = cuda::gemm<matrix_view<P, Q>, T, Tokens>;
  // A warp without a tile, a tile and a block of tokens that are not full, a right edge that is not a whole cell.
  constexpr std::size_t rows = 2 * lanes + 5, cols = kernel::F::window + 40;
  rng g(7);
  const gemm_problem<P, Q, T> p(random_packed<P, Q>(rows, cols, 0.5f, g), Tokens + 3, g);
  std::vector<float> y(p.x.rows * rows);
  const auto a = p.template arguments<kernel>(y.data(), rows);
  std::vector<ptx_cases::memory> memory;
  const storage bytes = p.w.bytes();
  for (int i = 0; i < stream_count; ++i)
    if (bytes.bytes[i] > 0) memory.push_back({a.w.at[i], bytes.bytes[i]});
  memory.push_back({p.memory.data(), p.memory.size() * 16});
  if (!p.scales.empty()) memory.push_back({p.scales.data(), p.scales.size() * 16});
  memory.push_back({y.data(), y.size() * 4});
  out.add(name, kernel::blocks(rows), kernel::blocks_y(p.x.rows), kernel::threads, kernel::shared_bytes, a,
          memory, memory.size() - 1, {p.y.data.begin(), p.y.data.end()},
          {p.bound.data.begin(), p.bound.data.end()}, p.w.cells() * layout<P, Q>::cell_codes * p.x.rows);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  ptx_cases out(argv[1]);
  if (!out.ok()) return 1;
  using namespace table;
#define QUERN_CUDA_X(name, F, T, Tokens) add_gemv<F, T, Tokens>(out, #name);
  QUERN_CUDA_GEMV(QUERN_CUDA_X)
#undef QUERN_CUDA_X
#define QUERN_CUDA_X(name, F, T, Tokens) add_gemm<F, T, Tokens>(out, #name);
  QUERN_CUDA_GEMM(QUERN_CUDA_X)
#undef QUERN_CUDA_X
  return 0;
}
