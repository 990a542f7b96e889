// SPDX-License-Identifier: Apache-2.0
// Scoring, choosing, quantizing and packing on the emulator: the same bits as on the CPU.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <quern/format/pack.hpp>
#include <quern/kernel/cuda/pack.hpp>
#include <quern/kernel/cuda/select.hpp>
#include <string>

#include "../formats.hpp"
#include "simt.hpp"
#include "units.hpp"

namespace {

using namespace quern;
using namespace quern_test;

const simt::config grid{.blocks = 2, .threads = 64, .seed = 3};

template <class P, class Q>
void compare(std::size_t rows, std::size_t cols, float density) {
  INFO(std::string(P::label().c_str())
       << " " << std::string(Q::label().c_str()) << " " << rows << " x " << cols);
  using W = matrix_view<P, Q>;
  using kernel = cuda::packer<W>;
  rng g(rows * cols);
  const dense_matrix w = random_matrix(rows, cols, g);
  const bit_mask mask = random_mask<P>(rows, cols, density, g);
  const matrix<P, Q> expected = pack<P, Q>(w.view(), mask);

  const std::vector<std::uint8_t> alive = units_of<P>(mask);
  std::vector<std::uint8_t> codes(rows * cols);
  std::vector<run_params> params(rows * ((cols + Q::run - 1) / Q::run));
  std::vector<float> row_scale(rows);
  unsigned faults = 0;
  const cuda::quantize_arguments<Q> q{w.data.data(),    alive.data(), codes.data(), params.data(),
                                      row_scale.data(), &faults,      rows,         cols};
  simt::launch(grid, [&](simt::context& ctx) { cuda::quantize<P, Q>(ctx, q); });

  std::vector<unsigned> counts(kernel::counted(rows));
  matrix<P, Q> got(rows, cols, expected.cells());
  typename kernel::arguments a{got.view().raw(), alive.data(),  codes.data(), params.data(),
                               row_scale.data(), counts.data(), &faults};
  simt::launch(grid, [&](simt::context& ctx) { kernel::count(ctx, a); });
  // On a device cub::DeviceScan does this.
  unsigned sum = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    sum += counts[i];
    std::memcpy(got.writable(stream::begin) + 4 * (i + 1), &sum, 4);
  }
  simt::launch(grid, [&](simt::context& ctx) { kernel::write(ctx, a); });
  REQUIRE(faults == 0);
  for (int s = 0; s < stream_count; ++s) {
    const std::string name = stream_name(static_cast<stream>(s));
    CAPTURE(name);
    REQUIRE(std::memcmp(got.view().raw().at[s], expected.view().raw().at[s], expected.bytes().bytes[s]) == 0);
  }
}

TEST_CASE_TEMPLATE("packed bytes are those of the CPU", F, QUERN_TEST_FORMATS) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  if constexpr (Q::run > 0 && layout<P, Q>::params_in_cells && P::kind != survivors::positions) {
    constexpr std::size_t u = layout<P, Q>::cell_cols, b = P::unit_rows;
    compare<P, Q>(1, 1, 1);
    compare<P, Q>(b + 1, u - 1, 1);
    compare<P, Q>(17, 17 * u + 3, 0.5f);
    compare<P, Q>(2 * b + 5, 35 * u, 0.3f);
    compare<P, Q>(40, 20 * u, 0);
  }
}

TEST_CASE("faults are counted, not packed") {
  using P = group_nm<2, 4, 16>;
  using Q = affine<4, 16>;
  rng g(1);
  dense_matrix w = random_matrix(16, 64, g);
  w.data[70] = std::nanf("");
  std::vector<std::uint8_t> codes(16 * 64), alive(16 * 4, 1);
  std::vector<run_params> params(16 * 4);
  std::vector<float> row_scale(16);
  unsigned faults = 0;
  const cuda::quantize_arguments<Q> q{w.data.data(),    nullptr, codes.data(), params.data(),
                                      row_scale.data(), &faults, 16,           64};
  simt::launch(grid, [&](simt::context& ctx) { cuda::quantize<P, Q>(ctx, q); });
  CHECK(faults == cuda::not_finite);
  w.data[70] = 1e30f;
  faults = 0;
  simt::launch(grid, [&](simt::context& ctx) { cuda::quantize<P, Q>(ctx, q); });
  CHECK(faults == cuda::too_large);
  // Four of four units survive where two may.
  using kernel = cuda::packer<matrix_view<P, Q>>;
  matrix<P, Q> m(16, 64, 0);
  faults = 0;
  const matrix<P, Q> larger(
      32, 128, 0);  // as the cells of a broken mask need room that is not there, only the mask is made
  typename kernel::arguments a{larger.view().raw(), alive.data(), codes.data(), params.data(),
                               row_scale.data(),    nullptr,      &faults};
  a.w.rows = 16;
  a.w.cols = 64;
  simt::launch(grid, [&](simt::context& ctx) { kernel::write(ctx, a); });
  CHECK(faults == cuda::too_many);
}

/// Scores of every kind: equal ones, and a pattern's right edge.
TEST_CASE("the best units of a row and of a window survive, of equal ones the first") {
  const std::size_t blocks = 5, units = 11;
  rng g(9);
  std::vector<float> scores(blocks * units);
  for (float& s : scores) s = static_cast<float>(g.below(6));
  for (const std::size_t window : {std::size_t{4}, units})
    for (const std::size_t keep : {std::size_t{0}, std::size_t{2}, units}) {
      std::vector<std::uint8_t> alive(scores.size(), 9);
      unsigned nan = 0;
      const cuda::select_arguments a{scores.data(), alive.data(), blocks, units, window, keep, &nan};
      simt::launch(grid, [&](simt::context& ctx) { cuda::keep_best(ctx, a); });
      CHECK(nan == 0);
      for (std::size_t b = 0; b < blocks; ++b)
        for (std::size_t first = 0; first < units; first += window) {
          const std::size_t end = std::min(units, first + window);
          std::vector<std::size_t> order;
          for (std::size_t u = first; u < end; ++u) order.push_back(b * units + u);
          std::stable_sort(order.begin(), order.end(),
                           [&](std::size_t x, std::size_t y) { return scores[x] > scores[y]; });
          for (std::size_t i = 0; i < order.size(); ++i) CHECK(alive[order[i]] == (i < keep ? 1 : 0));
        }
    }
  scores[7] = std::nanf("");
  std::vector<std::uint8_t> alive(scores.size());
  unsigned nan = 0;
  const cuda::select_arguments a{scores.data(), alive.data(), blocks, units, units, 3, &nan};
  simt::launch(grid, [&](simt::context& ctx) { cuda::keep_best(ctx, a); });
  CHECK(nan == 1);
}

TEST_CASE("scores are mean magnitudes, and an order is marked from its start") {
  rng g(4);
  const dense_matrix w = random_matrix(9, 40, g);
  using P = bsr<4, 16>;
  std::vector<float> scores(3 * 3), factor(40, 2.0f);
  cuda::score_arguments s{w.data.data(), nullptr, scores.data(), 9, 40};
  simt::launch(grid, [&](simt::context& ctx) { cuda::unit_scores<P>(ctx, s); });
  for (std::size_t b = 0; b < 3; ++b)
    for (std::size_t u = 0; u < 3; ++u) {
      double sum = 0;
      std::size_t n = 0;
      for (std::size_t r = b * 4; r < std::min<std::size_t>(9, b * 4 + 4); ++r)
        for (std::size_t c = u * 16; c < std::min<std::size_t>(40, u * 16 + 16); ++c, ++n)
          sum += std::abs(static_cast<double>(w.view()(r, c)));
      // At most 64 terms, each addition off by at most 2^-24 of the sum.
      CHECK(std::abs(static_cast<double>(scores[b * 3 + u]) - sum / static_cast<double>(n)) <=
            66 * 0x1p-24 * sum / static_cast<double>(n));
    }
  const std::vector<float> plain = scores;
  s.factor = factor.data();
  simt::launch(grid, [&](simt::context& ctx) { cuda::unit_scores<P>(ctx, s); });
  for (std::size_t i = 0; i < scores.size(); ++i) CHECK(scores[i] == 2 * plain[i]);

  const std::vector<std::uint32_t> order{3, 0, 2, 1};
  std::vector<std::uint8_t> alive(4, 9);
  const cuda::mark_arguments m{order.data(), alive.data(), 4, 2};
  simt::launch(grid, [&](simt::context& ctx) { cuda::mark_first(ctx, m); });
  CHECK(alive == std::vector<std::uint8_t>{1, 0, 0, 1});
}

}  // namespace
