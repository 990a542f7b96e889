// SPDX-License-Identifier: Apache-2.0
// Vectors times a packed matrix, cold weights: gemv/<pattern>/<quantizer>/<isa>[-<activations>]/N<rows>/K<cols>/M<vectors>/T<threads>.
// Copies of the matrix are rotated through 256 MB, more than any cache. Quantizing the activations is part of the time.
// Counters: bits_per_weight; GB/s of packed bytes; stream = GB/s of a plain read of the same memory, measured right
// after; of_stream = their ratio; GOP/s counted dense. Eigen fp32 stands beside.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <map>
#include <memory>
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/quern.hpp>
#include <string>

#include "examples.hpp"
#include "roof.hpp"

namespace {

using namespace quern;

constexpr std::size_t rotated_bytes = std::size_t{256} << 20;

template <class Isa, class A, class P, class Q>
void gemv(benchmark::State& state, bench::shape s) {
  if (!Isa::available()) return state.SkipWithError("this CPU lacks the instruction set");
  using isas = isa_list<Isa, isa::scalar>;
  const matrix<P, Q>& w = bench::example<P, Q>(s.rows, s.cols);
  const std::vector<float>& x = bench::inputs(s.tokens * s.cols);
  const span2<const float> in(x.data(), s.tokens, s.cols);
  std::vector<float> y(s.tokens * s.rows), expected(y.size());
  const span2<float> out(y.data(), s.tokens, s.rows), oracle(expected.data(), s.tokens, s.rows);
  thread_pool pool(s.threads);
  activations<A, isas> a;
  a.assign(in);
  multiply<isa_list<isa::scalar>>(w, a.view(), oracle, pool);
  multiply<isas>(w, a.view(), out, pool);
  // A bench of a wrong kernel is worth nothing; sums of K products of size 1.
  for (std::size_t i = 0; i < y.size(); ++i)
    if (!(std::abs(y[i] - expected[i]) < 0.02f)) return state.SkipWithError("differs from the scalar kernel");
  std::vector<matrix<P, Q>> copies;
  const std::size_t bytes = w.bytes().total();
  while (copies.size() * bytes < s.rotated) copies.push_back(w.clone());
  std::size_t i = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) {
    a.assign(in);
    multiply<isas>(copies[i++ % copies.size()], a.view(), out, pool);
    benchmark::DoNotOptimize(y.data());
  }
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
  std::vector<std::span<const std::byte>> memory;
  for (const auto& c : copies) memory.emplace_back(c.view()[stream::begin], bytes);
  const auto passes = static_cast<double>(state.iterations());
  const double rate = passes * static_cast<double>(bytes) / spent.count();
  const double stream = bench::read_rate(memory, 0.03, pool);
  state.counters["bits_per_weight"] = w.bits_per_weight();
  state.counters["GB/s"] = rate;
  state.counters["stream"] = stream;
  state.counters["of_stream"] = rate / stream;
  state.counters["GOP/s"] = passes * 2 * static_cast<double>(s.rows * s.cols * s.tokens) / spent.count();
}

void eigen_fp32(benchmark::State& state, bench::shape s) {
  using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto n = [](std::size_t i) { return static_cast<Eigen::Index>(i); };
  const row_major one = row_major::Random(n(s.rows), n(s.cols));
  const std::vector<row_major> copies(s.rotated / (s.rows * s.cols * 4) + 1, one);
  const row_major x = row_major::Random(n(s.tokens), n(s.cols));
  row_major y(n(s.tokens), n(s.rows));
  std::size_t i = 0;
  for (auto _ : state) {
    y.noalias() = x * copies[i++ % copies.size()].transpose();
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["GOP/s"] = benchmark::Counter(static_cast<double>(2 * s.rows * s.cols * s.tokens) / 1e9,
                                               benchmark::Counter::kIsIterationInvariantRate);
}

std::string ending(const bench::shape& s) {
  return "/N" + std::to_string(s.rows) + "/K" + std::to_string(s.cols) + "/M" + std::to_string(s.tokens) +
         "/T" + std::to_string(s.threads);
}

std::vector<bench::shape> shapes;

template <class Isa, class A, class P, class Q>
void add(const char* activations_name) {
  for (const bench::shape& s : shapes) {
    const std::string name = std::string("gemv/") + P::label().c_str() + "/" + Q::label().c_str() + "/" +
                             Isa::label().c_str() + activations_name + ending(s);
    benchmark::RegisterBenchmark(name.c_str(), gemv<Isa, A, P, Q>, s)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
}
template <class P, class Q>
void add_int8() {
  add<isa::avx512_vnni, int8_groups<32>, P, Q>("");
}

}  // namespace

int main(int argc, char** argv) {
  for (const std::size_t threads : {1, 2}) {
    shapes.push_back({4096, 4096, 1, threads, rotated_bytes});
    shapes.push_back({11008, 4096, 1, threads, rotated_bytes});
    shapes.push_back({576, 576, 1, threads, 0});
    shapes.push_back({1536, 576, 1, threads, 0});
  }
  add_int8<bsr<16, 32>, affine<4, 32>>();
  add_int8<bsr<16, 64>, affine<4, 64>>();
  add_int8<bsr<32, 32>, symmetric<4, 16, two_level>>();
  add_int8<group_nm<2, 4, 16>, affine<4, 16>>();
  add_int8<group<16>, affine<4, 16>>();
  add_int8<nm<2, 4>, affine<4, 32>>();
  add_int8<dense, symmetric<4, 32>>();
  add_int8<dense, affine<4, 32>>();
  add_int8<dense, affine<3, 16, two_level>>();
  add_int8<dense, affine<2, 16, two_level>>();
  add_int8<dense, symmetric<8, 32>>();
  add_int8<dense, affine<4, 32, f16_offset>>();
  add<isa::avx512, float, bsr<16, 32>, affine<4, 32>>("");
  for (const bench::shape& s : shapes)
    if (s.threads == 1)
      benchmark::RegisterBenchmark(("gemv/eigen/f32" + ending(s)).c_str(), eigen_fp32, s)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
