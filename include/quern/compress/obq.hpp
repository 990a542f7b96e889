// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto a = quern::round_to_nearest<quern::affine<4, 16>>(w, inverse, nullptr, {}).value();
// auto b = quern::gptq<quern::affine<3, 16, quern::two_level>>(w, inverse, &mask, {}).value();
// auto packed = quern::pack<quern::dense>(b);

#include <quern/compress/obs.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The first run whose parameters or weights the format cannot hold, as an error.
template <quantizer Q>
result<void> check_codes(const coded_matrix<Q>& codes) {
  for (std::size_t r = 0; r < codes.rows(); ++r)
    for (std::size_t c = 0; c < codes.cols(); ++c)
      if (!is_finite(codes.value(r, c)))
        return error(
            "quern::", Q::label(), ": row ", r, " column ", c,
            ": the weights are too large for this format's scale; use a bf16 scale or rescale the layer");
  return {};
}

/// Chooses the row scales of two-level quantizers from the weights of @p w [rows x cols] that survive (null:
/// all), each error weighted by @p importance [cols]. Other quantizers have none.
template <quantizer Q, class Exec>
void fit_row_scales(span2<const float> w, const bit_mask* mask, const std::vector<float>& importance,
                    grid_search grid, coded_matrix<Q>& codes, Exec& exec) {
  if constexpr (Q::row_scaled)
    exec.parallel_for(w.rows(), 16, [&](std::size_t first, std::size_t end) {
      std::vector<float> row(w.cols());
      for (std::size_t r = first; r < end; ++r) {
        for (std::size_t c = 0; c < w.cols(); ++c) row[c] = mask == nullptr || (*mask)(r, c) ? w(r, c) : 0.0f;
        codes.row_scale(r) = fit_row_scale<Q>(row.data(), importance.data(), w.cols(), grid);
      }
    });
}

/// Rounds every surviving weight of W [rows x cols] to the nearest code (RTN); the parameters of a run are
/// those of the grid with the least squared error, weighted by the mean square of the inputs.
/// @param mask  which weights survive (null: all); the others get the code of zero
/// @returns the codes, or an error: row and column of a weight that is not finite or too large for the scale,
/// or shapes that differ
template <quantizer Q, class Exec = serial>
result<coded_matrix<Q>> round_to_nearest(span2<const float> w, const inverse_hessian& h, const bit_mask* mask,
                                         grid_search grid = {}, Exec&& exec = Exec{}) {
  if (const auto ok = check_weights("quern::round_to_nearest", w, h); !ok) return ok.error();
  if (mask != nullptr && (mask->rows() != w.rows() || mask->cols() != w.cols()))
    return error("quern::round_to_nearest: the mask is ", mask->rows(), " x ", mask->cols(), " but W is ",
                 w.rows(), " x ", w.cols(), "; they must agree");
  coded_matrix<Q> codes(w.rows(), w.cols());
  // An input that was never seen still wants its weights kept.
  std::vector<float> importance = h.diagonal;
  float mean = 0;
  for (const float d : importance) mean += d / static_cast<float>(importance.size());
  for (float& d : importance) d = mean > 0 ? d + 0.01f * mean : 1;
  fit_row_scales<Q>(w, mask, importance, grid, codes, exec);
  exec.parallel_for(w.rows(), 16, [&](std::size_t first, std::size_t end) {
    std::vector<float> values(w.cols());
    const auto alive = [&](std::size_t r, std::size_t c) { return mask == nullptr || (*mask)(r, c); };
    for (std::size_t r = first; r < end; ++r) {
      coded_row<Q> row = codes.row(r);
      for (std::size_t c = 0; c < w.cols(); ++c) values[c] = alive(r, c) ? w(r, c) : 0.0f;
      if constexpr (Q::run > 0)
        for (std::size_t run = 0; run < codes.runs(); ++run) {
          const std::size_t c = run * Q::run;
          row.params[run] = fit_run<Q>(values.data() + c, importance.data() + c,
                                       std::min<std::size_t>(Q::run, w.cols() - c), row.row_scale, grid);
        }
      encode_row<Q>(values.data(), w.cols(), row);
    }
  });
  if (const auto ok = check_codes(codes); !ok) return ok.error();
  return codes;
}

/// Sweeps with rounding to codes of Q. @p drop: pruned weights count as zero from the start; else the
/// survivors make up for them too.
template <quantizer Q, class Exec>
result<coded_matrix<Q>> sweep_codes(span2<const float> w, const inverse_hessian& h, const unit_shape& shape,
                                    bit_mask& mask, bool drop, const sweep_plan& plan, Exec& exec) {
  coded_matrix<Q> codes(w.rows(), w.cols());
  fit_row_scales<Q>(w, plan.choose == nullptr ? &mask : nullptr, sweep_importance(h), plan.grid, codes, exec);
  Eigen::MatrixXf work = by_columns(w);
  if (drop)
    for (std::size_t r = 0; r < w.rows(); ++r)
      for (std::size_t c = 0; c < w.cols(); ++c)
        if (!mask(r, c)) work(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)) = 0;
  const auto swept = sweep(work, h, shape, mask, codes, plan, exec);
  // A scale that overflows spoils all that comes after it: name the place, not the consequence.
  if (const auto ok = check_codes(codes); !ok) return ok.error();
  if (!swept) return swept.error();
  return codes;
}

/// GPTQ (arXiv 2210.17323, algorithm 1) for the weights of W [rows x cols] that survive: columns are rounded
/// from left to right and the survivors right of them make up for the error. The parameters of a run are
/// chosen when its first column is reached, from the weights as they have become; the row scales of two-level
/// quantizers beforehand, from W. A pruned weight is 0 from the start, is not an error, and takes up none.
/// @param mask  which weights survive (null: all)
/// @returns as round_to_nearest
template <quantizer Q, class Exec = serial>
result<coded_matrix<Q>> gptq(span2<const float> w, const inverse_hessian& h, const bit_mask* mask,
                             grid_search grid = {}, Exec&& exec = Exec{}) {
  if (const auto ok = check_weights("quern::gptq", w, h); !ok) return ok.error();
  if (mask != nullptr && (mask->rows() != w.rows() || mask->cols() != w.cols()))
    return error("quern::gptq: the mask is ", mask->rows(), " x ", mask->cols(), " but W is ", w.rows(),
                 " x ", w.cols(), "; they must agree");
  bit_mask keep = mask != nullptr ? mask->clone() : bit_mask(w.rows(), w.cols(), true);
  return sweep_codes<Q>(w, h, {}, keep, true, {.grid = grid}, exec);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
