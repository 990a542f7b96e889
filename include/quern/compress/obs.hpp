// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::bit_mask keep = quern::sparse_gpt<quern::nm<2, 4>>(w, inverse, 0.5).value();   // changes w
// quern::compensate(w, inverse, group_mask).value();   // any mask: survivors make up for the rest

#include <quern/compress/sweep.hpp>
#include <quern/quant/real.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The first weight that is NaN or infinite, as an error.
inline result<void> check_weights(const char* who, span2<const float> w, const inverse_hessian& h) {
  if (w.cols() != h.cols())
    return error(who, ": W has ", w.cols(), " columns but the Hessian is for ", h.cols(), " inputs");
  for (std::size_t r = 0; r < w.rows(); ++r)
    for (std::size_t c = 0; c < w.cols(); ++c)
      if (!is_finite(w(r, c)))
        return error(who, ": the weight in row ", r, " column ", c,
                     " is NaN or infinite; mend the model before compressing it");
  return {};
}

/// Sweeps without rounding and writes the weights back, unless they overflow.
template <class Exec>
result<void> sweep_in_place(span2<float> w, const inverse_hessian& h, const unit_shape& shape, bit_mask& mask,
                            const sweep_plan& plan, Exec& exec) {
  Eigen::MatrixXf work = by_columns(w);
  coded_matrix<real<float>> codes(w.rows(), w.cols());
  auto ok = sweep(work, h, shape, mask, codes, plan, exec);
  if (ok) eigen_map(w) = work;
  return ok;
}

/// Prunes W [rows x cols] in place: the mask is chosen on the way from the weights as they have become, and
/// the survivors right of a pruned weight make up for it. SparseGPT (arXiv 2301.00774, algorithm 1) for `nm`
/// and `bitmap`; the same with units for the other patterns. `nm` and `group_nm` choose window by window,
/// patterns of free density every 128 columns, each of which keeps its share.
/// @param density  0..1 for patterns of free density
/// @param kind     magnitude and Wanda are possible too, on the weights as they have become
/// @returns the mask, or an error: the row and column of a weight that is not finite, or the density
template <sparsity_pattern P, class Exec = serial>
result<bit_mask> sparse_gpt(span2<float> w, const inverse_hessian& h, double density = 0.5,
                            scope over = scope::row, saliency kind = saliency::obs_block,
                            Exec&& exec = Exec{}) {
  static_assert(P::kind != survivors::all,
                "quern::sparse_gpt: `dense` prunes nothing; choose another pattern");
  if (const auto ok = check_weights("quern::sparse_gpt", w, h); !ok) return ok.error();
  if (!(density >= 0 && density <= 1))
    return error("quern::sparse_gpt: the density is ", density, "; it must be 0..1");
  bit_mask mask(w.rows(), w.cols());
  const scorer choose(h, shape_of<P>(), kind, aggregate::mean, true);
  const auto ok =
      sweep_in_place(w, h, shape_of<P>(), mask, {.choose = &choose, .density = density, .over = over}, exec);
  if (!ok) return ok.error();
  return mask;
}

/// Prunes W [rows x cols] in place where @p mask says, and lets the survivors right of every pruned weight
/// make up for it: the exact left-to-right block solve for masks of any pattern (see sweep).
/// @returns an error that names the row and column of a weight that is not finite, or the shapes that differ
template <class Exec = serial>
result<void> compensate(span2<float> w, const inverse_hessian& h, const bit_mask& mask,
                        Exec&& exec = Exec{}) {
  if (auto ok = check_weights("quern::compensate", w, h); !ok) return ok;
  if (mask.rows() != w.rows() || mask.cols() != w.cols())
    return error("quern::compensate: the mask is ", mask.rows(), " x ", mask.cols(), " but W is ", w.rows(),
                 " x ", w.cols(), "; they must agree");
  bit_mask given = mask.clone();
  return sweep_in_place(w, h, {}, given, {}, exec);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
