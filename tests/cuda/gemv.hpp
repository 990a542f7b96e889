// SPDX-License-Identifier: Apache-2.0
#pragma once
// The GEMV kernel on the emulator, beside a double loop over the unpacked weights.

#include <cmath>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/kernel/cuda/gemv.hpp>
#include <string>

#include "../support.hpp"
#include "simt.hpp"

namespace quern_test {

using namespace quern;

/// A product, and how it is launched.
struct gemv_case {
  std::size_t rows, cols, tokens = 1;
  unsigned blocks = 3, threads = 64;
  float density = 0.5f;
  cuda::schedule how = cuda::schedule::tasks;
  std::uint64_t seed = 1;
};

/// Rows of very different length: all of row 0, none of row 1, the rest as @p density says.
template <class P>
bit_mask unbalanced_mask(std::size_t rows, std::size_t cols, float density, rng& g) {
  bit_mask m = random_mask<P>(rows, cols, density, g);
  if constexpr (P::kind != survivors::all && P::of == 0)
    for (std::size_t r = 0; r < rows && r < 2 * P::unit_rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) m.set(r, c, r < P::unit_rows);
  return m;
}

template <class P, class Q, class T, int Tokens>
struct gemv_problem {
  using kernel = cuda::gemv<matrix_view<P, Q>, T, Tokens>;
  gemv_case shape;
  matrix<P, Q> w;
  std::size_t stride;
  std::vector<cuda::quad> memory;  ///< x, [tokens][stride] of T
  std::vector<float> y, partial;
  std::vector<unsigned> counters;

  explicit gemv_problem(const gemv_case& c)
      : shape(c),
        stride((c.cols + 7) / 8 * 8),
        memory(c.tokens * stride * sizeof(T) / 16),
        y(c.tokens * c.rows) {
    rng g(c.seed);
    const dense_matrix dense = random_matrix(c.rows, c.cols, g);
    w = pack<P, Q>(dense.view(), unbalanced_mask<P>(c.rows, c.cols, c.density, g));
    for (std::size_t t = 0; t < c.tokens; ++t)
      for (std::size_t i = 0; i < stride; ++i)
        x()[t * stride + i] =
            cuda::narrow<T>(i < c.cols ? g.normal() : std::nanf(""));  // past the end: not read
    const unsigned warps = c.blocks * c.threads / 32;
    partial.assign(kernel::partial_floats(warps), std::nanf(""));
    counters.assign(warps, 0);
  }
  T* x() { return reinterpret_cast<T*>(memory.data()); }
  const T* x() const { return reinterpret_cast<const T*>(memory.data()); }
  typename kernel::arguments arguments() {
    return {w.view().raw(),  x(),      stride, shape.tokens, y.data(), shape.rows, partial.data(),
            counters.data(), shape.how};
  }
  template <class Context = simt::context>
  void run(std::uint64_t order) {
    for (float& v : y) v = std::nanf("");  // every output must be written
    simt::launch<Context>({.blocks = shape.blocks,
                           .threads = shape.threads,
                           .shared_bytes = kernel::shared_bytes(shape.cols, shape.threads),
                           .seed = order},
                          [a = arguments()](Context& ctx) { kernel::run(ctx, a); });
  }
  /// A sum of n products in float, in any order, is off by at most n * eps * sum |w| |x| (eps = 2^-24 per
  /// operation, two operations per product, first order); joining the parts of a row adds at most one operation per
  /// warp. Sums are made of scale * (code - zero), or, with an fp16 offset, of scale * code and offset * 1 apart,
  /// at most 2^bits |scale| + |offset|.
  void oracle(std::vector<double>& sums, std::vector<double>& bounds) const {
    dense_matrix values(shape.rows, shape.cols);
    unpack(w.view(), values.view());
    bit_mask stored;
    const coded_matrix<Q> coded = unpack_codes(w.view(), &stored);
    for (std::size_t t = 0; t < shape.tokens; ++t)
      for (std::size_t r = 0; r < shape.rows; ++r) {
        double sum = 0, size = 0;
        for (std::size_t c = 0; c < shape.cols; ++c) {
          const double v = static_cast<double>(cuda::widen(x()[t * stride + c]));
          const double p = static_cast<double>(values.view()(r, c)) * v;
          sum += p;
          size += std::abs(p);
          if (kernel::F::has_offset && stored(r, c)) {
            const run_params q = params_at(coded, r, c);
            size += std::abs(static_cast<double>(q.scale) * v) * (1 << Q::bits) +
                    std::abs(static_cast<double>(q.offset) * v);
          }
        }
        const double n = 2 * static_cast<double>(shape.cols + 2) + static_cast<double>(counters.size());
        sums.push_back(sum);
        bounds.push_back(n * 0x1p-24 * size);
      }
  }
  /// Where a result is farther from the oracle than its bound; empty when it is nowhere.
  std::string check() const {
    std::vector<double> sums, bounds;
    oracle(sums, bounds);
    for (std::size_t i = 0; i < y.size(); ++i)
      if (!(std::abs(static_cast<double>(y[i]) - sums[i]) <= bounds[i]))
        return "row " + std::to_string(i % shape.rows) + " token " + std::to_string(i / shape.rows) + ": " +
               std::to_string(y[i]) + " instead of " + std::to_string(sums[i]);
    for (const unsigned n : counters)
      if (n != 0) return "a counter was left at " + std::to_string(n);
    return {};
  }
};

}  // namespace quern_test
