// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::decay_schedule lambda = quern::annealed_decay(2e-3f, 100);   // AST eq. 2
// quern::masked_adamw_update<float>(options, {.learning_rate = lr, .step = step + 1}, lambda(step), mask,
//                                   gradient, m, v, weights, pool);         // all but the mask [rows x cols]

#include <cmath>
#include <cstdint>
#include <quern/core/span2.hpp>
#include <quern/pattern/mask.hpp>
#include <quern/train/adamw.hpp>

namespace quern::inline v0 {

/// How strongly masked weights are pulled towards zero: lambda(t) = final * min(t, ramp) / ramp for steps counted
/// from 0. AST eq. 2 writes alpha for final / ramp and T0 for ramp. Too strong a pull freezes the mask, too weak
/// a one lets it oscillate: weak first to explore, strong later to settle.
struct decay_schedule {
  float final = 0;
  std::uint64_t ramp = 0;
  float operator()(std::uint64_t step) const {
    return step >= ramp ? final
                        : static_cast<float>(static_cast<double>(final) * static_cast<double>(step) /
                                             static_cast<double>(ramp));
  }
  friend bool operator==(const decay_schedule&, const decay_schedule&) = default;
};
/// STE alone: masks are learned, masked weights are left where they are.
inline decay_schedule no_decay() { return {}; }
/// SR-STE (Zhou et al., arXiv 2102.04010, eq. 9): the same pull at every step.
inline decay_schedule static_decay(float lambda) { return {lambda, 0}; }
/// ARS-STE (AST eq. 2).
inline decay_schedule annealed_decay(float final, std::uint64_t ramp) { return {final, ramp}; }

inline namespace QUERN_BUILD {
namespace detail {

/// Calls row(r, kept) for every row of a mask, in parallel; kept(c) says whether a weight of the row survives.
template <class Exec, class Row>
void for_masked_rows(const bit_mask& mask, Exec& exec, Row&& row) {
  const std::size_t grain = mask.cols() == 0 ? 1 : (1 << 14) / mask.cols() + 1;
  exec.parallel_for(mask.rows(), grain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      row(r, [bits = mask.row(r)](std::size_t c) { return (bits[c / 64] >> c % 64 & 1) != 0; });
  });
}

/// The loop of both masked forms of AdamW: pull(kept, mean, w) gives the direction, whose square is the second
/// moment's.
template <class T, class Exec, class Pull>
void masked_adamw(const char* name, const adamw_options& options, const adamw_step& at, const bit_mask& mask,
                  std::span<const T> gradient, std::span<T> m, std::span<T> v, std::span<T> weights,
                  Exec& exec, Pull&& pull) {
  check_step(name, gradient.size(), m.size(), v.size(), weights.size(), at.step);
  require(weights.size() == mask.rows() * mask.cols(), name, ": ", weights.size(), " weights for a mask of ",
          mask.rows(), " x ", mask.cols(), "; they must be equal");
  const adamw_factors<T> f(options, at);
  for_masked_rows(mask, exec, [&](std::size_t r, auto kept) {
    const std::size_t first = r * mask.cols();
    adamw_range<T>(f, gradient.data() + first, m.data() + first, v.data() + first, weights.data() + first,
                   mask.cols(), [&](std::size_t c, T, T mean, T w) {
                     const T u = pull(kept(c), mean, w);
                     return adamw_pull<T>{u, u};
                   });
  });
}

}  // namespace detail

/// One step of gradient descent with decay on masked weights (AST eq. 3):
///   W = W - rate * (scale * gradient + lambda * (1 - mask) W).
/// The gradient is that of the masked matrix, passed straight through to all weights. Kept weights get no decay.
/// @throws shape_error on a length mismatch
template <class T, executor Executor = serial>
void masked_sgd_update(T rate, T scale, T lambda, const bit_mask& mask, std::span<const T> gradient,
                       std::span<T> weights, Executor&& exec = {}) {
  require(gradient.size() == weights.size() && weights.size() == mask.rows() * mask.cols(),
          "quern::masked_sgd_update: ", gradient.size(), " gradients and ", weights.size(),
          " weights for a mask of ", mask.rows(), " x ", mask.cols(), "; they must be equal");
  detail::for_masked_rows(mask, exec, [&](std::size_t r, auto kept) {
    const T* const g = gradient.data() + r * mask.cols();
    T* const w = weights.data() + r * mask.cols();
    for (std::size_t c = 0; c < mask.cols(); ++c)
      w[c] -= rate * (scale * g[c] + (kept(c) ? T{} : lambda * w[c]));
  });
}

/// One AdamW step with decay on masked weights that stays out of the first moment but enters the second (AST
/// section 3.2, from the masked decay of Hu et al., arXiv 2404.01847). With g = gradient_scale * gradient:
///   W = (1 - rate * weight_decay) W,  m = beta1 m + (1 - beta1) g,  u = m + lambda (1 - mask) W,
///   v = beta2 v + (1 - beta2) u^2,    W = W - rate * (u / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
/// The mean square is that of u for kept weights too, where u = m: not AdamW's mean of g^2, and as in the paper's
/// code. All spans are [rows x cols] of the mask; the state to checkpoint is that of adamw_update.
/// @throws shape_error on a length mismatch or step 0
template <class T, executor Executor = serial>
void masked_adamw_update(const adamw_options& options, const adamw_step& at, T lambda, const bit_mask& mask,
                         std::span<const T> gradient, std::span<T> m, std::span<T> v, std::span<T> weights,
                         Executor&& exec = {}) {
  detail::masked_adamw<T>("quern::masked_adamw_update", options, at, mask, gradient, m, v, weights, exec,
                          [lambda](bool kept, T mean, T w) { return kept ? mean : mean + lambda * w; });
}

/// One step of AdamS (CAST, arXiv 2509.25996, algorithm 1): the pull is of L1, and it takes over from the gradient
/// as training goes on. With share = t / T:
///   u = (1 - share) m + share * lambda * sign(W) where masked, u = m where kept; m, v and W as above.
/// Because u is divided by its own root mean square, a masked weight at the end moves by about the learning rate
/// per step, whatever lambda: that is what makes the decay adaptive. sign(0) = 0 (reconstructed).
/// @param share  0 at the first step, 1 after the last
/// @throws shape_error on a length mismatch, step 0, or a share outside 0..1
template <class T, executor Executor = serial>
void adams_update(const adamw_options& options, const adamw_step& at, T lambda, T share, const bit_mask& mask,
                  std::span<const T> gradient, std::span<T> m, std::span<T> v, std::span<T> weights,
                  Executor&& exec = {}) {
  require(share >= 0 && share <= 1, "quern::adams_update: share is ", share, "; it must be 0..1");
  const T pull = share * lambda;
  detail::masked_adamw<T>("quern::adams_update", options, at, mask, gradient, m, v, weights, exec,
                          [share, pull](bool kept, T mean, T w) {
                            const T sign = static_cast<T>(w > 0) - static_cast<T>(w < 0);
                            return kept ? mean : (T{1} - share) * mean + pull * sign;
                          });
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
