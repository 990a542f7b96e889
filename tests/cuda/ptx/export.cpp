// SPDX-License-Identifier: Apache-2.0
// Writes one launch of every kernel of the table, with the oracle's results, into the folder of its argument.
#include <quern/kernel/cuda/pack.hpp>
#include <quern/kernel/cuda/select.hpp>
#include <quern/pattern/select.hpp>

#include "../gemm_side_problem.hpp"
#include "../gemv.hpp"
#include "../table.hpp"
#include "../units.hpp"
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

/// 2:4 with SLoRB's side matrix: the fused product, and the pooling of its inputs.
void add_side(ptx_cases& out) {
  using memory = ptx_cases::memory;
  using problem = side_problem<table::nm_w4::pattern, table::nm_w4::quantizer, 16>;
  using kernel = problem::kernel;
  const std::size_t rows = 2 * lanes + 5, cols = 300, tokens = 19;
  rng g(8);
  problem p(rows, cols, tokens, g);
  const kernel::arguments a = p.arguments();
  std::vector<memory> all;
  const auto add_streams = [&](const packed_view& w, const storage& bytes) {
    for (int i = 0; i < stream_count; ++i)
      if (bytes.bytes[i] > 0) all.push_back({w.at[i], bytes.bytes[i]});
  };
  add_streams(a.main.w, p.main.w.bytes());
  add_streams(a.side.w, p.s.bytes());
  all.push_back({p.main.memory.data(), p.main.memory.size() * 16});
  all.push_back({p.pooled.data(), p.pooled.size() * 16});
  all.push_back({p.y.data(), p.y.size() * 4});
  out.add("sparse_w4_slorb_16", kernel::blocks(rows), kernel::blocks_y(tokens), kernel::threads,
          kernel::shared_bytes, a, all, all.size() - 1, p.expected, p.bound,
          (p.main.w.cells() + p.s.cells()) * lanes * tokens);
  const std::vector<f16> none(p.pooled.size() * 8);
  const problem::pool::arguments pool{
      a.main.x, p.main.stride, tokens, cols, 16, const_cast<f16*>(none.data()), p.stride};
  out.add("pool_inputs_16", problem::pool::blocks(pool), 1, problem::pool::threads, 0, pool,
          {memory{p.main.memory.data(), p.main.memory.size() * 16}, memory{none.data(), none.size() * 2}}, 0,
          {}, {}, tokens * cols, {{1, p.pooled.data()}});
}

template <class F>
void add_pack(ptx_cases& out, const std::string& name) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  using kernel = cuda::packer<matrix_view<P, Q>>;
  const std::size_t rows = 2 * lanes + 5, cols = 5 * layout<P, Q>::cell_cols + 3;
  rng g(5);
  dense_matrix w = random_matrix(rows, cols, g);
  const bit_mask mask = random_mask<P>(rows, cols, 0.5f, g);
  const std::vector<std::uint8_t> alive = units_of<P>(mask);
  matrix<P, Q> packed = pack<P, Q>(std::as_const(w).view(), mask);
  const dense_matrix whole = w;
  apply(mask, w);
  std::vector<std::uint8_t> codes(rows * cols);
  const std::size_t runs = layout<P, Q>::runs(cols);
  std::vector<run_params> params(rows * runs);
  std::vector<float> row_scale(rows, 1);
  for (std::size_t r = 0; r < rows; ++r) {
    coded_row<Q> row{codes.data() + r * cols, params.data() + r * runs, 1};
    round_row<Q>(std::as_const(w).view().row(r), cols, row);
    row_scale[r] = row.row_scale;
  }
  const std::vector<std::uint8_t> no_codes(codes.size());
  const std::vector<run_params> no_params(params.size());
  const std::vector<float> no_scale(rows);
  unsigned faults = 0;
  using memory = ptx_cases::memory;
  {
    const cuda::quantize_arguments<Q> a{whole.data.data(),
                                        alive.data(),
                                        const_cast<std::uint8_t*>(no_codes.data()),
                                        const_cast<run_params*>(no_params.data()),
                                        const_cast<float*>(no_scale.data()),
                                        &faults,
                                        rows,
                                        cols};
    out.add(
        ("quantize_" + name).c_str(), 2, 1, 64, 0, a,
        {memory{whole.data.data(), whole.data.size() * 4}, memory{alive.data(), alive.size()},
         memory{no_codes.data(), codes.size()}, memory{no_params.data(), params.size() * sizeof(run_params)},
         memory{no_scale.data(), rows * 4}, memory{&faults, 4}},
        0, {}, {}, rows * cols, {{2, codes.data()}, {3, params.data()}, {4, row_scale.data()}, {5, &faults}});
  }
  cuda::pack_arguments<Q> a{packed.view().raw(), alive.data(), codes.data(), params.data(),
                            row_scale.data(),    nullptr,      &faults};
  const std::size_t lists = kernel::counted(rows);
  std::vector<unsigned> counts(lists), no_counts(lists, 99);
  for (std::size_t i = 0; i < lists; ++i)
    counts[i] = static_cast<unsigned>(packed.view().begin(i + 1) - packed.view().begin(i));
  if (lists > 0) {
    a.counts = no_counts.data();
    out.add(("count_" + name).c_str(), 2, 1, 64, 0, a,
            {memory{alive.data(), alive.size()}, memory{no_counts.data(), lists * 4}}, 0, {}, {}, rows * cols,
            {{1, counts.data()}});
    a.counts = nullptr;
  }
  // Every stream but `begin` starts as zeros.
  matrix<P, Q> empty(rows, cols, packed.cells());
  const storage bytes = packed.bytes();
  std::memcpy(empty.writable(stream::begin), packed.writable(stream::begin), bytes[stream::begin]);
  a.w = empty.view().raw();
  std::vector<memory> all{{alive.data(), alive.size()},
                          {codes.data(), codes.size()},
                          {params.data(), params.size() * sizeof(run_params)},
                          {row_scale.data(), rows * 4},
                          {&faults, 4}};
  std::vector<ptx_cases::exact> exactly{{4, &faults}};
  for (int i = 0; i < stream_count; ++i)
    if (bytes.bytes[i] > 0) {
      exactly.push_back({all.size(), packed.view().raw().at[i]});
      all.push_back({a.w.at[i], bytes.bytes[i]});
    }
  out.add(("pack_" + name).c_str(), 2, 1, 64, 0, a, all, 0, {}, {}, rows * cols, exactly);
}

/// Scores of group<16>, the best five of every row, and the first seven of an order.
void add_select(ptx_cases& out) {
  using memory = ptx_cases::memory;
  using P = table::group16_w4::pattern;
  const std::size_t rows = 9, cols = 16 * 11 + 4, units = 12;
  rng g(6);
  const dense_matrix w = random_matrix(rows, cols, g);
  std::vector<float> scores(rows * units), no_scores(rows * units);
  unit_magnitudes(w.view(), shape_of<P>(), {}, {scores.data(), rows, units});
  const cuda::score_arguments s{w.data.data(), nullptr, no_scores.data(), rows, cols};
  // At most 16 terms, each addition off by at most 2^-24 of a sum that is at most 16 * 6.
  out.add("select_scores", 2, 1, 64, 0, s,
          {memory{w.data.data(), w.data.size() * 4}, memory{no_scores.data(), rows * units * 4}}, 1,
          {scores.begin(), scores.end()}, std::vector<double>(rows * units, 17 * 0x1p-24 * 6), rows * cols);
  const bit_mask mask = select<P>({scores.data(), rows, units}, rows, cols, 5.0 / 12).value();
  const std::vector<std::uint8_t> alive = units_of<P>(mask), none(alive.size(), 9);
  const unsigned nan = 0;
  const cuda::select_arguments k{scores.data(),
                                 const_cast<std::uint8_t*>(none.data()),
                                 rows,
                                 units,
                                 units,
                                 5,
                                 const_cast<unsigned*>(&nan)};
  out.add("select_keep_best", 2, 1, 64, 0, k,
          {memory{scores.data(), scores.size() * 4}, memory{none.data(), none.size()}, memory{&nan, 4}}, 0,
          {}, {}, rows * cols, {{1, alive.data()}, {2, &nan}});
  const std::vector<std::uint32_t> order{3, 9, 0, 2, 8, 7, 5, 1, 4, 6};
  const std::vector<std::uint8_t> first{1, 0, 1, 1, 0, 1, 0, 1, 1, 1};
  const cuda::mark_arguments m{order.data(), const_cast<std::uint8_t*>(none.data()), 10, 7};
  out.add("select_mark_first", 1, 1, 32, 0, m, {memory{order.data(), 40}, memory{none.data(), 10}}, 0, {}, {},
          10, {{1, first.data()}});
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
#define QUERN_CUDA_X(suffix, F) add_pack<F>(out, #suffix);
  QUERN_CUDA_PACK(QUERN_CUDA_X)
#undef QUERN_CUDA_X
  add_side(out);
  add_select(out);
  return 0;
}
