// SPDX-License-Identifier: Apache-2.0
#pragma once
// A product for the tensor core kernel, what the CPU makes of it, and the kernel in the emulator.

#include <cmath>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <quern/kernel/cuda/gemm.hpp>
#include <string>

#include "../support.hpp"
#include "simt.hpp"

namespace quern_test {

/// W, inputs of type T with rows padded to 8, and what the scalar kernel makes of them.
template <class P, class Q, class T>
struct gemm_problem {
  static constexpr bool bytes = std::is_same_v<T, std::int8_t>;
  static constexpr std::size_t group = quern::cuda::gemm_format<quern::matrix_view<P, Q>, T>::k;
  quern::matrix<P, Q> w;
  dense_matrix x, y, bound;  ///< inputs as T has them; W x; largest error that rounding may cause
  std::size_t stride, scale_stride;
  std::vector<quern::cuda::quad> memory;  ///< [tokens][stride] T, NaN (or 127) behind the last input
  std::vector<quern::cuda::quad> scales;  ///< bytes: float [cols / group][scale_stride]

  gemm_problem(quern::matrix<P, Q>&& packed, std::size_t tokens, quern::rng& g)
      : w(std::move(packed)),
        x(tokens, w.cols()),
        y(tokens, w.rows()),
        bound(tokens, w.rows()),
        stride((w.cols() + 15) / 16 * 16 + 16),
        scale_stride((tokens + 3) / 4 * 4 + 4),
        memory(tokens * stride * sizeof(T) / 16),
        scales(bytes ? (w.cols() + group - 1) / group * scale_stride / 4 : 0) {
    T* out = data();
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t c = 0; c < stride; ++c) {
        T v;
        if constexpr (bytes) {
          v = c < w.cols() ? static_cast<T>(static_cast<int>(g.below(255)) - 127) : T{127};
          if (c < w.cols()) {
            float& scale = reinterpret_cast<float*>(scales.data())[c / group * scale_stride + t];
            if (c % group == 0) scale = static_cast<float>(1 + g.below(64)) / 4096;
            x.view()(t, c) = scale * static_cast<float>(v);
          }
        } else {
          v = quern::cuda::narrow<T>(g.normal());
          if (c < w.cols())
            x.view()(t, c) = quern::to_float(v);
          else
            v.bits = 0x7fff;
        }
        out[t * stride + c] = v;
      }
    quern::multiply<quern::isa_list<quern::isa::scalar>>(w, x.view(), y.view());
    dense_matrix weights(w.rows(), w.cols());
    quern::unpack(w.view(), weights.view());
    // Weights (scale * (code - zero)) and inputs are exact on both sides, so are the products of codes and inputs
    // (at most 9 + 11 bits; scales of inputs are short). What is left are float sums of at most cols products and a scaling for each run: each side is
    // off by at most cols + cols / 16 + 2 roundings of 2^-24 of sum |w x|.
    const double roundings = 2.0 * (1.0625 * static_cast<double>(w.cols()) + 2);
    for (std::size_t t = 0; t < tokens; ++t)
      for (std::size_t r = 0; r < w.rows(); ++r) {
        double size = 0;
        for (std::size_t c = 0; c < w.cols(); ++c)
          size += std::abs(static_cast<double>(weights.view()(r, c)) * static_cast<double>(x.view()(t, c)));
        bound.view()(t, r) = static_cast<float>(roundings * 0x1p-24 * size);
      }
  }
  T* data() { return reinterpret_cast<T*>(memory.data()); }
  template <class Kernel>
  typename Kernel::arguments arguments(float* out, std::size_t out_stride) const {
    return {w.view().raw(), reinterpret_cast<const T*>(memory.data()),     stride,      x.rows, out,
            out_stride,     reinterpret_cast<const float*>(scales.data()), scale_stride};
  }
};

template <class P, class Q>
quern::matrix<P, Q> random_packed(std::size_t rows, std::size_t cols, float density, quern::rng& g) {
  const dense_matrix w = random_matrix(rows, cols, g);
  return quern::pack<P, Q>(w.view(), random_mask<P>(rows, cols, density, g));
}

/// Rows that have everything, nothing, or here and there a unit: what a schedule must not rely on.
template <class P>
quern::bit_mask unbalanced_mask(std::size_t rows, std::size_t cols, quern::rng& g) {
  quern::bit_mask m(rows, cols);
  constexpr float densities[] = {0, 1, 0.1f, 0.5f, 0.02f};
  for (std::size_t top = 0; top < rows; top += P::unit_rows) {
    const float density = densities[top / P::unit_rows % 5];
    const quern::bit_mask band = random_mask<P>(P::unit_rows, cols, density, g);
    for (std::size_t r = top; r < top + P::unit_rows && r < rows; ++r)
      for (std::size_t c = 0; c < cols; ++c) m.set(r, c, band(r - top, c));
  }
  return m;
}

/// Outputs of the kernel that are off by more than the bound.
/// @tparam Kernel   cuda::gemm<W, T, Tokens>
/// @tparam Context  simt::context, or one that makes mistakes (faults.hpp)
template <class Kernel, class Context = simt::context, class Problem>
std::size_t wrong_outputs(const Problem& p, std::uint64_t seed) {
  const std::size_t tokens = p.x.rows, rows = p.w.rows(), stride = rows + 3;
  std::vector<float> y((tokens + 1) * stride, -77.0f);
  const typename Kernel::arguments args = p.template arguments<Kernel>(y.data(), stride);
  if (Kernel::refusal(args) != nullptr) throw simt::report(Kernel::refusal(args));
  simt::launch<Context>({.blocks = Kernel::blocks(rows),
                         .blocks_y = Kernel::blocks_y(tokens),
                         .threads = Kernel::threads,
                         .shared_bytes = Kernel::shared_bytes,
                         .seed = seed},
                        [&](Context& ctx) { Kernel::run(ctx, args); });
  std::size_t wrong = 0;
  for (std::size_t t = 0; t < tokens + 1; ++t)
    for (std::size_t r = 0; r < stride; ++r) {
      const float got = y[t * stride + r];
      if (t == tokens || r >= rows)
        wrong += got != -77.0f;  // nothing behind the outputs is written
      else
        wrong += !(std::abs(got - p.y.view()(t, r)) <= p.bound.view()(t, r));
    }
  return wrong;
}

}  // namespace quern_test
