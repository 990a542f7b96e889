// SPDX-License-Identifier: Apache-2.0
#pragma once
// SLoRB's y = W x + S p for the GPU, with p the pooled inputs, and what it must come to.

#include <quern/kernel/cuda/gemm_side.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/quant/real.hpp>

#include "gemm_problem.hpp"

namespace quern_test {

template <class P, class Q, int Tokens>
struct side_problem {
  static constexpr unsigned k = 16;
  using side_view = quern::matrix_view<quern::dense, quern::real<quern::f16>>;
  using main_kernel = quern::cuda::gemm<quern::matrix_view<P, Q>, quern::f16, Tokens>;
  using side_kernel = quern::cuda::gemm<side_view, quern::f16, Tokens>;
  using kernel = quern::cuda::gemm_with_side<main_kernel, side_kernel>;
  using pool = quern::cuda::pool_inputs<quern::f16>;

  gemm_problem<P, Q, quern::f16> main;
  std::size_t groups, stride;
  quern::matrix<quern::dense, quern::real<quern::f16>> s;  ///< [rows x groups]
  std::vector<quern::cuda::quad> pooled;                   ///< [tokens][stride] f16
  std::vector<float> y;                                    ///< [tokens][rows], for the kernel
  std::vector<double> expected, bound;

  side_problem(std::size_t rows, std::size_t cols, std::size_t tokens, quern::rng& g)
      : main(random_packed<P, Q>(rows, cols, 0.5f, g), tokens, g),
        groups((cols + k - 1) / k),
        stride((groups + 7) / 8 * 8),
        s(random_packed<quern::dense, quern::real<quern::f16>>(rows, groups, 1, g)),
        pooled(tokens * stride / 8),
        y(tokens * rows),
        expected(tokens * rows),
        bound(tokens * rows) {
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t j = 0; j < groups; ++j) {
        float sum = 0;
        for (std::size_t c = j * k; c < cols && c < (j + 1) * k; ++c) sum += main.x.view()(t, c);
        sums()[t * stride + j] = quern::to_f16(sum);
      }
    dense_matrix w(rows, cols), side(rows, groups);
    quern::unpack(main.w.view(), w.view());
    quern::unpack(s.view(), side.view());
    // The pooled inputs above are those the kernel gets, so all that is left are float sums of exact products: those
    // of gemm_problem, and one for each group.
    const double roundings = 1.0625 * static_cast<double>(cols + groups) + 2;
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t r = 0; r < rows; ++r) {
        double sum = 0, size = 0;
        const auto add = [&](float a, float b) {
          sum += static_cast<double>(a) * static_cast<double>(b);
          size += std::abs(static_cast<double>(a) * static_cast<double>(b));
        };
        for (std::size_t c = 0; c < cols; ++c) add(w.view()(r, c), main.x.view()(t, c));
        for (std::size_t j = 0; j < groups; ++j)
          add(side.view()(r, j), quern::to_float(sums()[t * stride + j]));
        expected[t * rows + r] = sum;
        bound[t * rows + r] = roundings * 0x1p-24 * size;
      }
  }
  quern::f16* sums() { return reinterpret_cast<quern::f16*>(pooled.data()); }
  typename kernel::arguments arguments() {
    return {main.template arguments<main_kernel>(y.data(), main.w.rows()),
            {s.view().raw(), sums(), stride, main.x.rows, nullptr, 0, nullptr, 0}};
  }
  std::size_t wrong_outputs() const {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < y.size(); ++i)
      wrong += !(std::abs(static_cast<double>(y[i]) - expected[i]) <= bound[i]);
    return wrong;
  }
};

}  // namespace quern_test
