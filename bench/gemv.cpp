// SPDX-License-Identifier: Apache-2.0
// One vector times a packed matrix, cold weights: gemv/<pattern>/<quantizer>/<isa>/N4096/K4096/M1. Copies of the matrix
// are rotated through 256 MB, more than any cache. Eigen fp32 and a plain read of memory stand beside them.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <numeric>
#include <quern/core/rng.hpp>
#include <quern/quern.hpp>
#include <string>
#include <vector>

namespace {

using namespace quern;

constexpr std::size_t rows = 4096, cols = 4096, rotated_bytes = std::size_t{256} << 20;

const std::vector<float>& inputs() {
  static const std::vector<float> x = [] {
    rng g(1);
    std::vector<float> v(cols);
    for (float& f : v) f = g.normal();
    return v;
  }();
  return x;
}

/// A matrix with about half of its units kept, where the pattern leaves a choice.
template <class P, class Q>
matrix<P, Q> example() {
  rng g(2);
  std::vector<float> w(rows * cols);
  for (float& f : w) f = g.normal();
  bit_mask keep(rows, cols, P::kind == survivors::all);
  if (P::kind != survivors::all)
    for (std::size_t top = 0; top < rows; top += P::unit_rows)
      for (std::size_t unit = 0; unit < cols / P::unit_cols; ++unit) {
        const bool alive = P::of > 0 ? unit % P::of < P::keep : g.uniform() < 0.5f;
        for (std::size_t i = 0; alive && i < P::unit_rows * P::unit_cols; ++i)
          keep.set(top + i / P::unit_cols, unit * P::unit_cols + i % P::unit_cols, true);
      }
  return pack<P, Q>(span2<const float>(w.data(), rows, cols), keep);
}

template <class Isa, class P, class Q>
void gemv(benchmark::State& state) {
  if (!Isa::available()) return state.SkipWithError("this CPU lacks the instruction set");
  const auto w = example<P, Q>();
  const std::vector<float>& x = inputs();
  std::vector<float> y(rows), expected(rows);
  multiply<isa_list<isa::scalar>>(w, x, expected);
  multiply<isa_list<Isa>>(w, x, y);
  for (std::size_t r = 0; r < rows;
       ++r)  // a bench of a wrong kernel is worth nothing; sums of 4096 products of size 1
    if (!(std::abs(y[r] - expected[r]) < 0.01f)) return state.SkipWithError("differs from the scalar kernel");
  std::vector<matrix<P, Q>> copies;
  const std::size_t bytes = w.bytes().total();
  while (copies.size() * bytes < rotated_bytes) copies.push_back(w.clone());
  std::size_t i = 0;
  for (auto _ : state) {
    multiply<isa_list<Isa>>(copies[i++ % copies.size()], x, y);
    benchmark::DoNotOptimize(y.data());
  }
  const auto passes = static_cast<std::int64_t>(state.iterations());
  state.SetBytesProcessed(passes * static_cast<std::int64_t>(bytes));
  state.SetItemsProcessed(passes * static_cast<std::int64_t>(2 * rows * cols));
  state.counters["bits_per_weight"] = w.bits_per_weight();
}

void eigen_fp32(benchmark::State& state) {
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const row_major one = row_major::Random(rows, cols);
  const std::vector<row_major> copies(rotated_bytes / (rows * cols * 4), one);
  const Eigen::Map<const Eigen::VectorXf> x(inputs().data(), cols);
  Eigen::VectorXf y(rows);
  std::size_t i = 0;
  for (auto _ : state) {
    y.noalias() = copies[i++ % copies.size()] * x;
    benchmark::DoNotOptimize(y.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * rows * cols * 4));
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * 2 * rows * cols));
}

/// What memory gives a plain sum: the roof of everything above.
void plain_read(benchmark::State& state) {
  const std::vector<std::uint64_t> data(rotated_bytes / 8, 1);
  for (auto _ : state) benchmark::DoNotOptimize(std::accumulate(data.begin(), data.end(), std::uint64_t{0}));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * rotated_bytes));
}

template <class P, class Q>
void add() {
  const std::string name = std::string("gemv/") + P::label().c_str() + "/" + Q::label().c_str();
  benchmark::RegisterBenchmark((name + "/avx512/N4096/K4096/M1").c_str(), gemv<isa::avx512, P, Q>);
  benchmark::RegisterBenchmark((name + "/scalar/N4096/K4096/M1").c_str(), gemv<isa::scalar, P, Q>);
}

}  // namespace

int main(int argc, char** argv) {
  add<dense, affine<4, 32>>();
  add<dense, affine<2, 16, two_level>>();
  add<group<16>, affine<4, 16>>();
  add<group_nm<2, 4, 16>, affine<4, 16>>();
  add<bsr<16, 32>, affine<4, 32>>();
  add<nm<2, 4>, affine<4, 32>>();
  benchmark::RegisterBenchmark("gemv/eigen/f32/N4096/K4096/M1", eigen_fp32);
  benchmark::RegisterBenchmark("stream/read", plain_read);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
