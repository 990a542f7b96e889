// SPDX-License-Identifier: Apache-2.0
#pragma once
// bench::add<quern::isa::avx512_vnni, quern::int8_groups<32>, P, Q>("gemv", "", shapes);
//
// Registers <kind>/<pattern>/<quantizer>/<isa>[-<activations>]/N<rows>/K<cols>/M<tokens>/T<threads>[/cached]: tokens
// times a packed matrix, whose copies are rotated through more memory than any cache holds, or one copy: cached.
// read_ahead() of the copy and quantizing the activations are part of the time. Counters: bits_per_weight; GB/s of packed
// bytes; stream = GB/s of a plain read of the same memory, measured right after; of_stream = their ratio; GOP/s counted
// dense, pruned weights included; error = relative error against exact activations; of batches also peak = GOP/s of dot
// products in registers, measured right after, and of_peak = their ratio.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <quern/core/thread_pool.hpp>
#include <quern/quern.hpp>
#include <string>

#include "examples.hpp"
#include "roof.hpp"

namespace bench {

using namespace quern;

/// Copies of a matrix, as many as the shape asks for, one behind the other in one buffer: so the weights of a model lie.
template <class P, class Q>
class copies {
 public:
  copies(const matrix<P, Q>& w, const shape& s)
      : first_(w.view().raw()),
        size_((w.bytes().total() + 63) / 64 * 64),
        count_(s.rotated / size_ + 1),
        memory_(size_ * count_) {
    for (std::size_t i = 0; i < count_; ++i)
      std::memcpy(memory_.data() + i * size_, first_[stream::begin], w.bytes().total());
  }
  /// Copy @p i, modulo their number.
  matrix_view<P, Q> operator[](std::size_t i) const {
    packed_view v = first_;
    for (const std::byte*& at : v.at) at = memory_.data() + i % count_ * size_ + (at - first_[stream::begin]);
    return matrix_view<P, Q>(v);
  }
  std::span<const std::byte> memory() const { return {memory_.data(), memory_.size()}; }

 private:
  packed_view first_;
  std::size_t size_, count_;
  buffer memory_;
};

/// Times f(copy) with the copies in turn, and sets the counters of bytes and operations.
template <class P, class Q, class F>
void time_copies(benchmark::State& state, const copies<P, Q>& all, const shape& s, thread_pool& pool, F&& f) {
  const std::size_t bytes = all[0].bytes().total();
  std::size_t i = 0;
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) f(all[i++]);
  const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
  const auto passes = static_cast<double>(state.iterations());
  const double rate = passes * static_cast<double>(bytes) / spent.count();
  const double stream = read_rate({all.memory()}, 0.03, pool);
  state.counters["bits_per_weight"] = all[0].bits_per_weight();
  state.counters["GB/s"] = rate;
  state.counters["stream"] = stream;
  state.counters["of_stream"] = rate / stream;
  const double operations = passes * 2 * static_cast<double>(s.rows * s.cols * s.tokens) / spent.count();
  state.counters["GOP/s"] = operations;
  if (s.tokens <= gemv_tokens) return;
  const double peak = dot_rate(0.03, pool);
  state.counters["peak"] = peak;
  if (peak > 0) state.counters["of_peak"] = operations / peak;
}

template <class Isa, class A, class P, class Q>
void product(benchmark::State& state, shape s) {
  if (!Isa::available()) return state.SkipWithError("this CPU lacks the instruction set");
  using isas = isa_list<Isa, isa::scalar>;
  const matrix<P, Q>& w = example<P, Q>(s.rows, s.cols);
  const std::vector<float>& x = inputs(s.tokens * s.cols);
  const span2<const float> in(x.data(), s.tokens, s.cols);
  std::vector<float> y(s.tokens * s.rows);
  const span2<float> out(y.data(), s.tokens, s.rows);
  thread_pool pool(s.threads);
  activations<A, isas> a;
  a.assign(in);
  multiply<isas>(w, a.view(), out, pool);
  // A bench of a wrong kernel is worth nothing: the first two tokens, sums of K products of size 1.
  const std::size_t checked = s.tokens < 2 ? s.tokens : 2;
  std::vector<float> expected(checked * s.rows);
  const activations<A, isas> few(span2<const float>(x.data(), checked, s.cols));
  multiply<isa_list<isa::scalar>>(w, few.view(), span2<float>(expected.data(), checked, s.rows), pool);
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!(std::abs(y[i] - expected[i]) < 0.02f)) return state.SkipWithError("differs from the scalar kernel");
  // What quantizing the activations costs: relative error of the first tokens against exact ones.
  multiply(w, span2<const float>(x.data(), checked, s.cols), span2<float>(expected.data(), checked, s.rows),
           pool);
  double off = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    off += std::pow(static_cast<double>(y[i] - expected[i]), 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  state.counters["error"] = std::sqrt(off / size);
  time_copies(state, copies(w, s), s, pool, [&](const matrix_view<P, Q>& copy) {
    read_ahead(copy);
    a.assign(in, {}, tables_of<P>);
    multiply<isas>(copy, a.view(), out, pool);
    benchmark::DoNotOptimize(y.data());
  });
}

inline void eigen_fp32(benchmark::State& state, shape s) {
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

inline std::string ending(const shape& s) {
  return "/N" + std::to_string(s.rows) + "/K" + std::to_string(s.cols) + "/M" + std::to_string(s.tokens) +
         "/T" + std::to_string(s.threads) + (s.rotated == cached ? "/cached" : "");
}

template <class Isa, class A, class P, class Q>
void add(const std::string& kind, const std::string& activations_name, const std::vector<shape>& shapes) {
  for (const shape& s : shapes)
    benchmark::RegisterBenchmark((kind + "/" + P::label().c_str() + "/" + Q::label().c_str() + "/" +
                                  Isa::label().c_str() + activations_name + ending(s))
                                     .c_str(),
                                 product<Isa, A, P, Q>, s)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
}
inline void add_eigen(const std::string& kind, const std::vector<shape>& shapes) {
  for (const shape& s : shapes)
    if (s.threads == 1)
      benchmark::RegisterBenchmark((kind + "/eigen/f32" + ending(s)).c_str(), eigen_fp32, s)
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
}
inline int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace bench
