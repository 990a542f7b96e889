// SPDX-License-Identifier: Apache-2.0
// How a product is cut among threads: by surviving groups (GQSA's task-centric schedule, what quern::multiply does)
// against equally many rows each, with rows that keep unequal numbers of groups and, for reference, with rows that
// keep about equally many. Names: schedule/<pattern>/<quantizer>/<isa>/<rows kept>/<cut>/N<rows>/K<cols>/M1/T<threads>;
// `quarter` keeps .9 to 1 of the groups of the first quarter of the rows and .1 to .2 of the others, `even` .325 to
// .375 of all: 35 % of the matrix both times. Counters: `busiest`, the share of the work that the thread with most has;
// `longest` and `shortest`, microseconds of a thread's part alone in one thread, the fastest of 50: the longest is what
// the product takes where every thread has a core to itself, and the figure to read on a machine that is shared. The
// others are those of product.hpp.
#include <algorithm>
#include <bit>

#include "product.hpp"

namespace {

using namespace bench;
using pattern = group<16>;
using quantizer = affine<4, 16>;
using weights = matrix<pattern, quantizer>;
using view = matrix_view<pattern, quantizer>;
using isas = isa_list<isa::avx512_vnni, isa::scalar>;

weights with_rows_kept(std::size_t rows, std::size_t cols, bool even) {
  rng g(3);
  std::vector<float> w(rows * cols);
  for (float& f : w) f = g.normal();
  bit_mask keep(rows, cols);
  for (std::size_t r = 0; r < rows; ++r) {
    const float density =
        even ? 0.325f + 0.05f * g.uniform() : (r < rows / 4 ? 0.9f : 0.1f) + 0.1f * g.uniform();
    for (std::size_t c = 0; c < cols; c += 16)
      if (g.uniform() < density)
        for (std::size_t i = c; i < c + 16; ++i) keep.set(r, i, true);
  }
  return pack<pattern, quantizer>(span2<const float>(w.data(), rows, cols), keep);
}

/// Tiles of 16 rows, equally many for every thread.
template <executor Exec>
void multiply_by_rows(const view& w, const activation_view<int8_groups<32>>& x, span2<float> y, Exec&& exec) {
  exec.parallel_for(layout<pattern, quantizer>::tiles(w.rows()), 1, [&](std::size_t begin, std::size_t end) {
    static_cast<void>(multiply_tiles<isas>(w, begin, end, x, y));
  });
}

void scheduled(benchmark::State& state, shape s, bool even, bool by_rows) {
  if (!isa::avx512_vnni::available()) return state.SkipWithError("this CPU lacks the instruction set");
  const weights w = with_rows_kept(s.rows, s.cols, even);
  const span2<const float> in(inputs(s.cols).data(), 1, s.cols);
  std::vector<float> y(s.rows), other(s.rows);
  const span2<float> out(y.data(), 1, s.rows);
  thread_pool pool(s.threads);
  activations<int8_groups<32>, isas> a;
  a.assign(in);
  multiply<isas>(w, a.view(), out, pool);
  multiply_by_rows(w.view(), a.view(), span2<float>(other.data(), 1, s.rows), pool);
  if (y != other) return state.SkipWithError("the cut changes the result");
  multiply<isa_list<isa::scalar>>(w, a.view(), span2<float>(other.data(), 1, s.rows));
  for (std::size_t r = 0; r < s.rows; ++r)
    if (!(std::abs(y[r] - other[r]) < 0.02f)) return state.SkipWithError("differs from the scalar kernel");
  const auto run = [&](const view& copy, auto&& exec) {
    if (by_rows)
      multiply_by_rows(copy, a.view(), out, exec);
    else
      multiply<isas>(copy, a.view(), out, exec);
    benchmark::DoNotOptimize(y.data());
  };
  const copies weights_of(w, s);
  time_copies(state, weights_of, s, pool, [&](const view& copy) {
    a.assign(in);
    run(copy, pool);
  });
  double longest = 0, shortest = 1e30;
  for (std::size_t t = 0; t < s.threads; ++t) {
    double fastest = 1e30;
    for (std::size_t pass = 0; pass < 50; ++pass) {
      const auto start = std::chrono::steady_clock::now();
      run(weights_of[pass], part_of(t, s.threads));
      const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - start;
      fastest = std::min(fastest, spent.count());
    }
    longest = std::max(longest, fastest);
    shortest = std::min(shortest, fastest);
  }
  state.counters["longest"] = longest;
  state.counters["shortest"] = shortest;
  using l = layout<pattern, quantizer>;
  const work_split<pattern, quantizer> work(w.view());
  const std::size_t tiles = l::tiles(s.rows);
  std::size_t most = 0, all = 0;
  for (std::size_t t = 0; t < s.threads; ++t) {
    const auto tile = [&](std::size_t i) {
      return by_rows ? part_begin(tiles, s.threads, i) : work.tile(part_begin(work.size(), s.threads, i));
    };
    // Slots that run: in a window as many as the fullest of 16 rows has.
    std::size_t slots = 0;
    for (std::size_t i = tile(t); i < tile(t + 1); ++i)
      for (std::size_t window = 0; window < l::mask_windows(s.cols); ++window) {
        int fullest = 0;
        for (std::size_t row = 0; row < lanes; ++row)
          fullest = std::max(fullest, std::popcount(w.view().mask(i, window, row)));
        slots += static_cast<std::size_t>(fullest);
      }
    most = std::max(most, slots);
    all += slots;
  }
  state.counters["busiest"] = static_cast<double>(most) / static_cast<double>(all);
}

}  // namespace

int main(int argc, char** argv) {
  const shape shapes[] = {{4096, 4096, 1, 2, cold}, {1536, 576, 1, 2, cached}};
  for (const shape& s : shapes)
    for (const bool even : {false, true})
      for (const bool by_rows : {false, true})
        benchmark::RegisterBenchmark(
            (std::string("schedule/") + pattern::label().c_str() + "/" + quantizer::label().c_str() + "/" +
             isa::avx512_vnni::label().c_str() + (even ? "/even" : "/quarter") +
             (by_rows ? "/by_rows" : "/by_groups") + ending(s))
                .c_str(),
            scheduled, s, even, by_rows)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
  return run(argc, argv);
}
