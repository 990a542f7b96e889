// SPDX-License-Identifier: Apache-2.0
#pragma once
// using p = quern::group<16>; using q = quern::affine<4, 16>;
// auto layer = quern::compress_layer<p, q>(w, inverse, {.density = 0.5}, pool).value();
// auto packed = quern::pack<p>(layer.codes, layer.mask, pool);

#include <quern/compress/masked_least_squares.hpp>
#include <quern/compress/obq.hpp>
#include <quern/format/layout.hpp>

namespace quern::inline v0 {

/// Whether the survivors make up for pruned weights.
enum class compensation { none, obs };
/// How survivors become codes.
enum class rounding { rtn, gptq };
/// When the mask is chosen. What follows decides which is best (docs/results/gqsa.md, "When the mask is chosen"): a sweep
/// alone mends to the right only, and `ahead` knows what that costs; masked least squares afterwards mend in all
/// directions, and then `during` is as good or better, unless 128 columns hold too few units to choose among.
enum class timing {
  /// `during` for patterns of fixed density; else `ahead` where nothing follows the sweep, `during` where masked least
  /// squares do, or `before` where 128 columns hold fewer than four units.
  best,
  /// Before anything else has changed, over the whole scope.
  before,
  /// During the sweep, from the weights as they have become; free densities give every 128 columns their share (SparseGPT).
  during,
  /// The same, but the columns to come compete, so that 128 columns may keep more than others.
  ahead,
  /// W was pruned before, by training for instance; what is zero in it stays zero (see surviving_units).
  given
};

/// How a layer is compressed.
struct compress_options {
  double density = 0.5;  ///< share of the units that survives, where the pattern leaves it free
  saliency score = saliency::obs_block;
  aggregate unit = aggregate::mean;
  scope over = scope::row;
  compensation compensate = compensation::obs;
  rounding round = rounding::gptq;
  timing choose = timing::best;
  /// Iterations of masked_least_squares between pruning with compensation and rounding; 0: none.
  int refine = 0;
  grid_search grid = {};
  friend bool operator==(const compress_options&, const compress_options&) = default;
};

inline namespace QUERN_BUILD {

/// A layer that is ready for pack.
template <quantizer Q>
struct compressed_layer {
  coded_matrix<Q> codes;
  bit_mask mask;  ///< obeys the pattern that it was made for
  /// What the layer computes with, [rows x cols] into @p out.
  void decode(span2<float> out) const {
    for (std::size_t r = 0; r < codes.rows(); ++r)
      for (std::size_t c = 0; c < codes.cols(); ++c) out(r, c) = mask(r, c) ? codes.value(r, c) : 0.0f;
  }
};

/// What timing::best stands for. @param refined  whether masked least squares follow the sweep
constexpr timing best_timing(const unit_shape& p, bool refined) {
  if (p.of > 0) return timing::during;
  if (!refined) return timing::ahead;
  return sweep_cols(p, 1) / p.cols >= 4 ? timing::during : timing::before;
}

/// compress_layer for a pattern that is known by its numbers only; that it can hold the quantizer's runs is
/// the caller's to know.
template <quantizer Q, class Exec = serial>
result<compressed_layer<Q>> compress_layer(span2<const float> w, const unit_shape& p,
                                           const inverse_hessian& h, const compress_options& options = {},
                                           Exec&& exec = Exec{}) {
  if (const auto ok = check_weights("quern::compress_layer", w, h); !ok) return ok.error();
  if (!(options.density >= 0 && options.density <= 1))
    return error("quern::compress_layer: the density is ", options.density, "; it must be 0..1");
  const bool repair = !p.dense && options.compensate == compensation::obs;
  const bool refine = repair && options.refine > 0;
  const timing when = options.choose == timing::best ? best_timing(p, refine) : options.choose;
  const bool during = repair && (when == timing::during || when == timing::ahead);
  std::vector<scorer> choose;  // none or one
  if (during) choose.emplace_back(h, p, options.score, options.unit, true);
  const sweep_plan plan{during ? choose.data() : nullptr, options.density, options.over,
                        when == timing::ahead, options.grid};

  bit_mask mask(w.rows(), w.cols(), p.dense);
  if (!p.dense && !during) {
    auto chosen = when == timing::given ? surviving_units(w, p)
                                        : select(unit_scores(w, p, h, options.score, options.unit, exec), p,
                                                 w.rows(), w.cols(), options.density, options.over);
    if (!chosen) return chosen.error();
    mask = std::move(chosen).value();
  }
  if (options.round == rounding::gptq && !refine) {
    auto codes = sweep_codes<Q>(w, h, p, mask, !repair, plan, exec);
    if (!codes) return codes.error();
    return compressed_layer<Q>{std::move(codes).value(), std::move(mask)};
  }
  eigen_matrix<float> repaired;
  if (repair) {
    repaired = eigen_map(w);
    const span2<float> values(repaired.data(), w.rows(), w.cols());
    if (const auto ok = sweep_in_place(values, h, p, mask, plan, exec); !ok) return ok.error();
    if (refine)
      if (const auto ok = masked_least_squares(values, w, h, mask, options.refine, exec); !ok)
        return ok.error();
    w = values;
  }
  if (options.round == rounding::gptq) {
    auto codes = gptq<Q>(w, h, &mask, options.grid, exec);
    if (!codes) return codes.error();
    return compressed_layer<Q>{std::move(codes).value(), std::move(mask)};
  }
  auto codes = round_to_nearest<Q>(w, h, &mask, options.grid, exec);
  if (!codes) return codes.error();
  return compressed_layer<Q>{std::move(codes).value(), std::move(mask)};
}

/// Prunes and rounds W [rows x cols] in one pass. `dense` is only rounded, `real<float>` only pruned. The
/// result does not depend on the executor. Time: rows * cols^2 flops for the sweep, and about 100 ns per
/// weight and core for the grid of 4-bit runs (Zen 5).
/// @returns an error: the row and column of a weight that is not finite or too large for the scale, a density
/// that is not 0..1, shapes that differ, or a given mask that breaks the pattern
template <sparsity_pattern P, quantizer Q, class Exec = serial>
result<compressed_layer<Q>> compress_layer(span2<const float> w, const inverse_hessian& h,
                                           const compress_options& options = {}, Exec&& exec = Exec{}) {
  static_assert(
      layout<P, Q>::supported,
      "quern::compress_layer: this quantizer cannot follow this pattern; layout<P, Q>::why_not() says why");
  return compress_layer<Q>(w, shape_of<P>(), h, options, exec);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
