// SPDX-License-Identifier: Apache-2.0
#pragma once
// using q = quern::affine<4, 16>;
// quern::fake_quantize_row<q>(w, cols, keep, params, out);              // what the stored row computes with
// quern::fake_quantize_row_backward<q>(w, cols, keep, params, g, sums); // g: dL/d out, becomes dL/dw

#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/quant/concept.hpp>

namespace quern::inline v0 {

/// Derivatives of a loss with respect to the scale and the zero of a run.
struct run_gradient {
  float scale = 0, zero = 0;
};

/// Whether @p w lies where rounding moves it by half a step at most: outside, the code is clamped. Quantizers
/// without a grid (`real`) clamp nothing.
template <quantizer Q>
QUERN_HD constexpr bool inside_grid(float w, run_params p) {
  if constexpr (requires { Q::top; }) {
    const float code = (w - p.offset) / (p.scale == 0 ? 1.0f : p.scale) + 0.5f;
    return p.scale != 0 && code >= 0 && code < static_cast<float>(Q::top + 1);
  } else if constexpr (requires { Q::table::largest; }) {
    const float size = w < 0 ? -w : w, scale = p.scale < 0 ? -p.scale : p.scale;
    return scale != 0 && size <= Q::table::largest * scale;
  } else {
    return true;
  }
}

inline namespace QUERN_BUILD {

/// Sets x [cols] to 0 where @p keep [ceil(cols / 64)], one bit per weight as in quern::bit_mask, says that the
/// weight is pruned. Null keeps all.
inline void zero_pruned(const std::uint64_t* keep, std::size_t cols, float* x) {
  for (std::size_t c = 0; keep != nullptr && c < cols; c += 64) {
    const std::uint64_t word = keep[c / 64];
    if (word == ~std::uint64_t{0}) continue;
    for (std::size_t i = c; i < cols && i < c + 64; ++i)
      if ((word >> (i - c) & 1) == 0) x[i] = 0;
  }
}

/// Calls f(first, end, run) for each run of a row; f(0, cols, 0) for quantizers without runs.
template <quantizer Q, class F>
void for_runs(std::size_t cols, F&& f) {
  constexpr std::size_t length = Q::run;
  if constexpr (length == 0)
    f(std::size_t{0}, cols, std::size_t{0});
  else
    for (std::size_t r = 0, c = 0; c < cols; ++r, c += length) f(c, c + length < cols ? c + length : cols, r);
}

/// The parameters of run @p run; `real` has none.
template <quantizer Q>
run_params params_of(const run_params* params, std::size_t run) {
  if constexpr (Q::run == 0)
    return {1, 0};
  else
    return params[run];
}

/// out = decode(encode(w)) where @p keep, 0 elsewhere: with s = scale and z = -offset / s,
///   w^ = s (clamp(round(w / s) + z, 0, top) - z)   (GQSA section 3; EfficientQAT, arXiv 2407.11062, section 3).
/// @param w       [cols] one row
/// @param keep    [ceil(cols / 64)] bits of the survivors; null: all
/// @param params  [ceil(cols / run)] as they come back from storage
/// @param out     [cols]; may be w
template <quantizer Q>
void fake_quantize_row(const float* w, std::size_t cols, const std::uint64_t* keep, const run_params* params,
                       float* out) {
  for_runs<Q>(cols, [&](std::size_t first, std::size_t end, std::size_t run) {
    const run_params p = params_of<Q>(params, run);
    for (std::size_t i = first; i < end; ++i) out[i] = Q::decode(Q::encode(w[i], p), p);
  });
  zero_pruned(keep, cols, out);
}

/// The straight-through gradient of fake_quantize_row (EfficientQAT section 3; LSQ, arXiv 1902.08153, eq. 3, for
/// the scale): round counts as the identity, clamp as what it is. With g = dL/dw^ of a survivor,
///   inside the grid:  dw = g,  ds += g (round(w / s) - w / s) = g (w^ - w) / s,  dz += 0;
///   clamped:          dw = 0,  ds += g (code - z)             = g w^ / s,        dz += -s g;
/// pruned weights get and give nothing. A run of scale 0 has no grid: all of it is 0.
/// @param w         [cols] what the forward pass saw
/// @param gradient  [cols] dL/dw^, replaced by dL/dw
/// @param sums      [ceil(cols / run)] added to; not looked at for `real`
template <quantizer Q>
void fake_quantize_row_backward(const float* w, std::size_t cols, const std::uint64_t* keep,
                                const run_params* params, float* gradient, run_gradient* sums) {
  zero_pruned(keep, cols, gradient);
  if constexpr (Q::run > 0)
    for_runs<Q>(cols, [&](std::size_t first, std::size_t end, std::size_t run) {
      const run_params p = params[run];
      const float inverse = p.scale == 0 ? 0.0f : 1 / p.scale;
      constexpr std::size_t width = 8;  // sums side by side, which a compiler turns into vectors
      float scale[width] = {}, outside[width] = {};
      const auto one = [&](std::size_t i, std::size_t k) {
        const float g = gradient[i];
        const bool in = inside_grid<Q>(w[i], p);
        scale[k] += g * (Q::decode(Q::encode(w[i], p), p) - (in ? w[i] : 0.0f));
        outside[k] += in ? 0.0f : g;
        gradient[i] = in ? g : 0.0f;
      };
      std::size_t i = first;
      for (; i + width <= end; i += width)
        for (std::size_t k = 0; k < width; ++k) one(i + k, k);
      for (; i < end; ++i) one(i, 0);
      for (std::size_t k = 0; k < width; ++k) {
        sums[run].scale += inverse * scale[k];
        sums[run].zero -= p.scale * outside[k];
      }
    });
}

/// What codes that no longer change decode to: fake_quantize_row with the codes [cols] given.
template <quantizer Q>
void decode_row(const typename Q::code_type* codes, std::size_t cols, const std::uint64_t* keep,
                const run_params* params, float* out) {
  for_runs<Q>(cols, [&](std::size_t first, std::size_t end, std::size_t run) {
    const run_params p = params_of<Q>(params, run);
    for (std::size_t i = first; i < end; ++i) out[i] = Q::decode(codes[i], p);
  });
  zero_pruned(keep, cols, out);
}

/// The gradient of decode_row, exact: ds += g (code - z), dz += -s g (GQSA's second stage).
/// @param values    [cols] what decode_row made
/// @param gradient  [cols] dL/d values; pruned ones become 0
template <quantizer Q>
void decode_row_backward(const float* values, std::size_t cols, const std::uint64_t* keep,
                         const run_params* params, float* gradient, run_gradient* sums) {
  zero_pruned(keep, cols, gradient);
  if constexpr (Q::run > 0)
    for_runs<Q>(cols, [&](std::size_t first, std::size_t end, std::size_t run) {
      const run_params p = params[run];
      float along = 0, all = 0;
      for (std::size_t i = first; i < end; ++i) {
        along += gradient[i] * values[i];
        all += gradient[i];
      }
      if (p.scale == 0) return;
      sums[run].scale += along / p.scale;
      sums[run].zero -= p.scale * all;
    });
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
