// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::mask_rule rule{.shape = quern::shape_of<quern::nm<2, 4>>()};
// quern::learned_mask mask(quern::magnitude_mask(w, rule).value());
// if (step % 10 == 0) { quern::flips f = mask.update(w, rule).value(); log(f.since_last, f.since_start); }
// quern::apply_mask<float>(mask.now(), w, effective);       // what the forward pass multiplies with

#include <cmath>
#include <cstdint>
#include <quern/pattern/select.hpp>
#include <span>
#include <utility>
#include <vector>

namespace quern::inline v0 {

/// Which units survive: those of the largest magnitude.
struct mask_rule {
  unit_shape shape;
  double density = 0.5;  ///< share that survives, where the pattern leaves it free
  scope over = scope::row;
  friend bool operator==(const mask_rule&, const mask_rule&) = default;
};

/// Shares of the weights whose mask changed (the flip rates that AST logs).
struct flips {
  double since_last = 0;   ///< since the update before
  double since_start = 0;  ///< since the first mask
};

/// Gradual magnitude pruning (Zhu and Gupta, arXiv 1710.01878, eq. 1): the density that is left at a step, falling
/// from 1 to `final` at step `end` along a cubic.
struct gradual_schedule {
  double final = 0.5;
  std::uint64_t end = 0;
  double operator()(std::uint64_t step) const {
    if (step >= end) return final;
    const double left = 1 - static_cast<double>(step) / static_cast<double>(end);
    return final + (1 - final) * left * left * left;
  }
};

/// Iterative magnitude pruning: `rounds` equal stages up to step `end`, each of which prunes at its start and trains
/// with what is left; every round keeps the same share, final^(1 / rounds), of what the one before kept.
struct iterative_schedule {
  double final = 0.5;
  std::uint64_t rounds = 2, end = 0;
  double operator()(std::uint64_t step) const {
    if (step >= end || rounds == 0) return final;
    const std::uint64_t round = step * rounds / end + 1;
    return std::pow(final, static_cast<double>(round) / static_cast<double>(rounds));
  }
};

/// The rule on the way to a pattern: at @p density patterns of fixed density keep the least number of units of every
/// window that reaches it, but never fewer than their own; the others just keep that share.
inline mask_rule rule_at(mask_rule rule, double density) {
  if (rule.shape.of > 0) {
    // A share that should be whole may be a rounding error above it.
    const double units = std::ceil(density * static_cast<double>(rule.shape.of) - 1e-9);
    rule.shape.keep = std::min(rule.shape.of, std::max(rule.shape.keep, static_cast<std::size_t>(units)));
  }
  rule.density = density;
  return rule;
}

inline namespace QUERN_BUILD {

/// The mask of the units of W [rows x cols] with the largest mean magnitude.
/// @param factor  [cols] multiplies the magnitudes of a column (the norm of its input makes it Wanda's score), or
///                empty
/// @returns an error that names the row and column of a unit with a NaN, or a density that is not 0..1
inline result<bit_mask> magnitude_mask(span2<const float> w, const mask_rule& rule,
                                       std::span<const float> factor = {}) {
  const unit_shape& p = rule.shape;
  if (p.dense) return bit_mask(w.rows(), w.cols(), true);
  const std::size_t blocks = (w.rows() + p.rows - 1) / p.rows, units = (w.cols() + p.cols - 1) / p.cols;
  std::vector<float> scores(blocks * units);
  const span2<float> view(scores.data(), blocks, units);
  unit_magnitudes(w, p, factor, view);
  return select(view, p, w.rows(), w.cols(), rule.density, rule.over);
}

/// A mask that follows the weights while they train, with its flip rates. Not a schedule: the caller says when.
class learned_mask {
 public:
  explicit learned_mask(bit_mask first) : now_(first.clone()), start_(std::move(first)) {}
  /// As a checkpoint left it. @throws shape_error if the shapes differ
  learned_mask(bit_mask now, bit_mask start) : now_(std::move(now)), start_(std::move(start)) {
    require(now_.rows() == start_.rows() && now_.cols() == start_.cols(),
            "quern::learned_mask: the masks must have one shape");
  }
  const bit_mask& now() const { return now_; }
  const bit_mask& start() const { return start_; }

  /// Chooses the mask anew from W [rows x cols], all of it: weights that were masked may come back.
  /// @returns how much changed, or the error of magnitude_mask, with the mask as it was
  result<flips> update(span2<const float> w, const mask_rule& rule, std::span<const float> factor = {}) {
    auto next = magnitude_mask(w, rule, factor);
    if (!next) return next.error();
    const flips f{flip_rate(*next, now_), flip_rate(*next, start_)};
    now_ = std::move(*next);
    return f;
  }

 private:
  bit_mask now_, start_;
};

/// out = mask (.) W: [rows x cols] of the mask; out may be W. @throws shape_error on a shape mismatch
template <class T>
void apply_mask(const bit_mask& mask, span2<const T> w, span2<T> out) {
  require(w.rows() == mask.rows() && w.cols() == mask.cols() && out.rows() == mask.rows() &&
              out.cols() == mask.cols(),
          "quern::apply_mask: W and out must have the shape of the mask, ", mask.rows(), " x ", mask.cols());
  for (std::size_t r = 0; r < mask.rows(); ++r)
    for (std::size_t c = 0; c < mask.cols(); ++c) out(r, c) = mask(r, c) ? w(r, c) : T{};
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
