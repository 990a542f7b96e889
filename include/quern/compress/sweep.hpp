// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by obs.hpp and obq.hpp:
// Eigen::MatrixXf w = quern::eigen_map(weights);             // becomes what the layer computes with
// quern::sweep(w, inverse, quern::shape_of<quern::nm<2, 4>>(), mask, codes, {.choose = &scorer}, pool);

#include <numeric>
#include <quern/compress/fit_run.hpp>
#include <quern/compress/score.hpp>
#include <quern/format/coded.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// What a sweep decides on its way; pruned weights and rounded ones push their error on to the columns right
/// of them.
struct sweep_plan {
  const scorer* choose =
      nullptr;              ///< chooses the mask from the weights as they have become; null: it is given
  double density = 1;       ///< of patterns of free density, when the mask is chosen here
  scope over = scope::row;  ///< the same
  bool ahead = false;       ///< the same: the columns to come compete, too; else each panel keeps its share
  grid_search grid = {};    ///< for the parameters of runs
};

/// W with its columns contiguous, as sweeps want it.
inline Eigen::MatrixXf by_columns(span2<const float> w) { return eigen_map(w); }

/// What an error in a column costs once all columns left of it are fixed: [cols] 1 / U_cc^2.
inline std::vector<float> sweep_importance(const inverse_hessian& h) {
  std::vector<float> out(h.cols());
  for (Eigen::Index c = 0; c < h.upper.cols(); ++c)
    out[static_cast<std::size_t>(c)] = 1 / (h.upper(c, c) * h.upper(c, c));
  return out;
}

/// Columns that are decided together: updates stay within them until all are decided, then one matrix product
/// carries them to the columns further right. 128 as in SparseGPT and GPTQ, rounded up to whole units, N:M
/// windows and runs.
constexpr std::size_t sweep_cols(const unit_shape& p, std::size_t run) {
  const std::size_t part = std::lcm(p.of > 0 ? p.window() : p.cols, run);
  return (128 + part - 1) / part * part;
}

/// The part of a sweep that knows no codes: the weights, the mask, and how errors travel.
struct sweep_state {
  Eigen::MatrixXf& w;  // [rows x cols] column-major, so that a column of a band is contiguous
  const inverse_hessian& h;
  const unit_shape& shape;
  const sweep_plan& plan;
  bit_mask& mask;
  Eigen::MatrixXf lost;  // [rows x sweep_cols] (w - kept) / U_cc of the columns being decided

  sweep_state(Eigen::MatrixXf& weights, const inverse_hessian& inverse, const unit_shape& units,
              const sweep_plan& what, bit_mask& keep, std::size_t step)
      : w(weights),
        h(inverse),
        shape(units),
        plan(what),
        mask(keep),
        lost(w.rows(), std::min(at(step), w.cols())) {}

  static Eigen::Index at(std::size_t i) { return static_cast<Eigen::Index>(i); }
  std::size_t rows() const { return static_cast<std::size_t>(w.rows()); }
  std::size_t cols() const { return static_cast<std::size_t>(w.cols()); }
  auto panel(std::size_t r, std::size_t tall, std::size_t c, std::size_t end) {
    return w.block(at(r), at(c), at(tall), at(end - c));
  }
  /// Scores of the units of columns [c, end) in a band of rows.
  void score(std::size_t top, std::size_t tall, std::size_t c, std::size_t end,
             Eigen::Ref<eigen_matrix<float>> out) {
    plan.choose->score(panel(top, tall, c, end), c, out);
  }
  /// Chooses the units of columns [c, end) of a band, for patterns that keep `keep` of `of`.
  void choose(std::size_t top, std::size_t tall, std::size_t c, std::size_t end) {
    end = std::min(end, cols());
    eigen_matrix<float> scores(at((tall + shape.rows - 1) / shape.rows),
                               at((end - c + shape.cols - 1) / shape.cols));
    score(top, tall, c, end, scores);
    select_units(view_of(scores), shape, top / shape.rows, c / shape.cols, plan.density, plan.over, mask);
  }
  /// Columns c + 1 .. end - 1 of a band take up what column c lost; @p first is the first one being decided.
  void carry_column(std::size_t top, std::size_t tall, std::size_t first, std::size_t c, std::size_t end) {
    panel(top, tall, c + 1, end).noalias() -= lost.col(at(c - first)).segment(at(top), at(tall)) *
                                              h.upper.row(at(c)).segment(at(c + 1), at(end - c - 1));
  }
  /// All columns right of [first, end) take up what those lost.
  void carry_panel(std::size_t top, std::size_t tall, std::size_t first, std::size_t end) {
    panel(top, tall, end, cols()).noalias() -=
        lost.block(at(top), 0, at(tall), at(end - first)) *
        h.upper.block(at(first), at(end), at(end - first), at(cols() - end));
  }
};

/// Calls f(top, tall) for every band of rows.
template <class Exec, class F>
void for_bands(const sweep_state& s, Exec& exec, F&& f) {
  const std::size_t rows = s.rows(), band = band_rows_of(s.shape);
  exec.parallel_for((rows + band - 1) / band, 1, [&](std::size_t first, std::size_t end) {
    for (std::size_t b = first; b < end; ++b) f(b * band, std::min(band, rows - b * band));
  });
}

/// Chooses the units of columns [first, end) of all rows, for patterns of free density.
template <class Exec>
void choose_panel(sweep_state& s, std::size_t first, std::size_t end, Exec& exec) {
  const unit_shape& p = s.shape;
  const std::size_t known = s.plan.ahead ? s.cols() : end, unit = first / p.cols;
  const auto blocks_of = [&](std::size_t rows) { return (rows + p.rows - 1) / p.rows; };
  const auto units_of = [&](std::size_t cols) { return (cols + p.cols - 1) / p.cols; };
  const auto choose = [&](const eigen_matrix<float>& scores, std::size_t top) {
    select_units(view_of(scores), p, top / p.rows, unit, s.plan.density, s.plan.over, s.mask,
                 units_of(end - first));
  };
  // Bands choose for themselves where no scope spans two of them.
  const std::size_t blocks = blocks_of(s.rows()), band = band_rows_of(p) / p.rows;
  const bool whole = band % scope_height(p, s.plan.over, blocks) != 0;
  eigen_matrix<float> all;
  if (whole) all.resize(s.at(blocks), s.at(units_of(known - first)));
  for_bands(s, exec, [&](std::size_t top, std::size_t tall) {
    if (whole)
      return s.score(top, tall, first, known, all.middleRows(s.at(top / p.rows), s.at(blocks_of(tall))));
    eigen_matrix<float> scores(s.at(blocks_of(tall)), s.at(units_of(known - first)));
    s.score(top, tall, first, known, scores);
    choose(scores, top);
  });
  if (whole) choose(all, 0);
}

/// Parameters of the run that starts at column @p c for rows [top, top + tall), from the weights that survive
/// as they are now.
template <quantizer Q>
void fit_runs(const sweep_state& s, const std::vector<float>& importance, std::size_t top, std::size_t tall,
              std::size_t c, coded_matrix<Q>& codes) {
  if constexpr (Q::run > 0) {
    float values[Q::run], weights[Q::run];
    const std::size_t end = std::min(s.cols(), c + static_cast<std::size_t>(Q::run));
    for (std::size_t r = top; r < top + tall; ++r) {
      std::size_t n = 0;
      for (std::size_t i = c; i < end; ++i)
        if (s.mask(r, i)) {
          values[n] = s.w(s.at(r), s.at(i));
          weights[n++] = importance[i];
        }
      codes.params(r, c / Q::run) = fit_run<Q>(values, weights, n, codes.row_scale(r), s.plan.grid);
    }
  }
}

/// Decides column @p c of a band: rounds what survives, drops the rest, and notes what was lost in column
/// @p slot. @returns whether all weights of the column were finite
template <quantizer Q>
bool decide_column(sweep_state& s, std::size_t top, std::size_t tall, std::size_t c, std::size_t slot,
                   coded_matrix<Q>& codes) {
  const float pivot = 1 / s.h.upper(s.at(c), s.at(c));
  bool finite = true;
  for (std::size_t r = top; r < top + tall; ++r) {
    float& w = s.w(s.at(r), s.at(c));
    run_params p{1, 0};
    if constexpr (Q::run > 0) p = codes.params(r, c / Q::run);
    finite = finite && is_finite(w);
    const bool alive = s.mask(r, c);
    const std::uint32_t code = Q::encode(alive ? w : 0.0f, p);
    const float kept = alive ? Q::decode(code, p) : 0.0f;
    codes.code(r, c) = static_cast<typename Q::code_type>(code);
    s.lost(s.at(r), s.at(slot)) = (w - kept) * pivot;
    w = kept;
  }
  return finite;
}

/// Walks over the columns of W from left to right. Column c is pruned or rounded; its error e = (w_c - kept)
/// / U_cc changes the columns right of it by -e U_{c,:}, the best answer in the squared output error when the
/// columns left of it are fixed (GPTQ, arXiv 2210.17323, section 3.3; SparseGPT, arXiv 2301.00774, section
/// 3). For a mask that was given this is the exact block solve dW = -w_g ([H_F^-1]_gg)^-1 [H_F^-1]_{g,:} of
/// every group, F being the columns not yet fixed: with [H_F^-1]_gg = U_gg^T U_gg and [H_F^-1]_{g,:} = U_gg^T
/// U_{g,:} it is -(w_g U_gg^-1) U_{g,:}, and solving with U_gg column by column are the steps above.
///
/// rows * cols^2 flops; rows are independent and go in fixed bands, so the result does not depend on the
/// executor.
/// @param w      [rows x cols] column-major; on return what the codes decode to, 0 where pruned
/// @param shape  of the pattern; where the mask is given, any ({}) will do
/// @param mask   which weights survive; written if plan.choose is set. Patterns of free density then choose
///               sweep_cols columns at a time, of these alone or with those to come (sweep_plan::ahead)
/// @param codes  [rows x cols]; row scales must be set, codes and parameters are written
/// @returns an error that names the rows whose weights overflow
template <quantizer Q, class Exec>
result<void> sweep(Eigen::MatrixXf& w, const inverse_hessian& h, const unit_shape& shape, bit_mask& mask,
                   coded_matrix<Q>& codes, const sweep_plan& plan, Exec& exec) {
  constexpr std::size_t run = Q::run > 0 ? static_cast<std::size_t>(Q::run) : 1;
  constexpr bool has_runs = Q::run > 0;
  const std::size_t step = sweep_cols(shape, run), band = band_rows_of(shape), window = shape.window();
  sweep_state state(w, h, shape, plan, mask, step);
  const std::size_t rows = state.rows(), cols = state.cols();
  const std::vector<float> importance = sweep_importance(h);
  std::vector<unsigned char> overflow((rows + band - 1) / band);
  for (std::size_t first = 0; first < cols; first += step) {
    const std::size_t end = std::min(cols, first + step);
    if (plan.choose != nullptr && window == 0) choose_panel(state, first, end, exec);
    for_bands(state, exec, [&](std::size_t top, std::size_t tall) {
      for (std::size_t c = first; c < end; ++c) {
        if (plan.choose != nullptr && window > 0) {
          // All windows of a run are chosen for the sake of its range, and each again when it is reached.
          if (run > window && c % run == 0)
            state.choose(top, tall, c, c + run);
          else if (c % window == 0)
            state.choose(top, tall, c, c + window);
        }
        if (has_runs && c % run == 0) fit_runs(state, importance, top, tall, c, codes);
        if (!decide_column(state, top, tall, c, c - first, codes)) overflow[top / band] = 1;
        state.carry_column(top, tall, first, c, end);
      }
      state.carry_panel(top, tall, first, end);
    });
  }
  for (std::size_t b = 0; b < overflow.size(); ++b)
    if (overflow[b] != 0)
      return error("quern::sweep: making up for lost weights overflows in rows ", b * band, " to ",
                   std::min(rows, (b + 1) * band) - 1, "; take a larger damp or more calibration text");
  return {};
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
