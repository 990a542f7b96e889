// SPDX-License-Identifier: Apache-2.0
#pragma once
// Shared by obs.hpp and obq.hpp:
// Eigen::MatrixXf w = quern::eigen_map(weights);             // becomes what the layer computes with
// quern::sweep<quern::nm<2, 4>>(w, inverse, mask, codes, {.choose = &scorer}, pool);

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
  grid_search grid = {};    ///< for the parameters of runs
};

/// Stands for any pattern where the mask is given and a sweep only reads it.
struct unruled {
  static constexpr int unit_rows = 1, unit_cols = 1, keep = 0, of = 0;
  static constexpr survivors kind = survivors::masked;
  static constexpr name label() { return name("unruled"); }
};

/// Columns that are decided together: updates stay within them until all are decided, then one matrix product
/// carries them to the columns further right. 128 as in SparseGPT and GPTQ, rounded up to whole units, N:M
/// windows and runs.
template <sparsity_pattern P, quantizer Q>
inline constexpr std::size_t sweep_cols = [] {
  constexpr std::size_t part = std::lcm<std::size_t, std::size_t>(
      static_cast<std::size_t>(P::unit_cols) * (P::of > 0 ? static_cast<std::size_t>(P::of) : 1),
      Q::run > 0 ? static_cast<std::size_t>(Q::run) : 1);
  return (128 + part - 1) / part * part;
}();

/// One layer's sweep. The state that its steps share.
template <sparsity_pattern P, quantizer Q>
struct sweep_state {
  Eigen::MatrixXf& w;
  const inverse_hessian& h;
  bit_mask& mask;
  coded_matrix<Q>& codes;
  const sweep_plan& plan;
  Eigen::MatrixXf lost;  // [rows x sweep_cols] (w - kept) / U_cc of the current columns
  std::vector<float>
      importance;  // [cols] 1 / U_cc^2: what an error in a column costs once those left are fixed

  std::size_t rows() const { return static_cast<std::size_t>(w.rows()); }
  std::size_t cols() const { return static_cast<std::size_t>(w.cols()); }
  auto panel(std::size_t r, std::size_t rows_here, std::size_t c, std::size_t cols_here) {
    return w.block(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c),
                   static_cast<Eigen::Index>(rows_here), static_cast<Eigen::Index>(cols_here));
  }

  /// Chooses the units of columns [c, end) of a band, for patterns that keep `keep` of `of`.
  void choose(std::size_t top, std::size_t tall, std::size_t c, std::size_t end,
              eigen_matrix<float>& scores) {
    const std::size_t stop = std::min(end, cols());
    scores.resize(static_cast<Eigen::Index>(block_rows<P>(tall)),
                  static_cast<Eigen::Index>(units_per_row<P>(stop - c)));
    plan.choose->score(panel(top, tall, c, stop - c), c, scores);
    select_units<P>(scores, top / P::unit_rows, c / P::unit_cols, plan.density, plan.over, mask);
  }

  /// Parameters of the run that starts at column c, from the weights that survive as they are now.
  void fit(std::size_t top, std::size_t tall, std::size_t c) {
    if constexpr (Q::run > 0) {
      float values[Q::run], weights[Q::run];
      const std::size_t end = std::min(cols(), c + static_cast<std::size_t>(Q::run));
      for (std::size_t r = top; r < top + tall; ++r) {
        std::size_t n = 0;
        for (std::size_t i = c; i < end; ++i)
          if (mask(r, i)) {
            values[n] = w(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(i));
            weights[n++] = importance[i];
          }
        codes.params(r, c / Q::run) = fit_run<Q>(values, weights, n, codes.row_scale(r), plan.grid);
      }
    }
  }

  /// Decides column c of a band: rounds what survives, drops the rest, and notes what was lost.
  void decide(std::size_t top, std::size_t tall, std::size_t c, std::size_t first_col) {
    const Eigen::Index col = static_cast<Eigen::Index>(c);
    const float pivot = 1 / h.upper(col, col);
    for (std::size_t r = top; r < top + tall; ++r) {
      const Eigen::Index row = static_cast<Eigen::Index>(r);
      run_params p{1, 0};
      if constexpr (Q::run > 0) p = codes.params(r, c / Q::run);
      const bool alive = mask(r, c);
      const std::uint32_t code = Q::encode(alive ? w(row, col) : 0.0f, p);
      const float kept = alive ? Q::decode(code, p) : 0.0f;
      codes.code(r, c) = static_cast<typename Q::code_type>(code);
      lost(row, static_cast<Eigen::Index>(c - first_col)) = (w(row, col) - kept) * pivot;
      w(row, col) = kept;
    }
  }

  /// Columns [first, end) of rows [top, top + tall), then the update of all columns right of them.
  void advance(std::size_t top, std::size_t tall, std::size_t first, std::size_t end,
               eigen_matrix<float>& scores) {
    constexpr std::size_t window = static_cast<std::size_t>(P::unit_cols) * static_cast<std::size_t>(P::of);
    constexpr std::size_t run = static_cast<std::size_t>(Q::run);
    const auto errors = lost.middleRows(static_cast<Eigen::Index>(top), static_cast<Eigen::Index>(tall));
    for (std::size_t c = first; c < end; ++c) {
      if constexpr (window > 0)
        if (plan.choose != nullptr && c % window == 0) choose(top, tall, c, c + window, scores);
      if constexpr (run > 0)
        if (c % run == 0) {
          // All windows of the run are chosen for the sake of its range, and each again when it is reached.
          if constexpr (window > 0 && run > window)
            if (plan.choose != nullptr) choose(top, tall, c, c + run, scores);
          fit(top, tall, c);
        }
      decide(top, tall, c, first);
      panel(top, tall, c + 1, end - c - 1).noalias() -=
          errors.col(static_cast<Eigen::Index>(c - first)) *
          h.upper.row(static_cast<Eigen::Index>(c))
              .segment(static_cast<Eigen::Index>(c + 1), static_cast<Eigen::Index>(end - c - 1));
    }
    panel(top, tall, end, cols() - end).noalias() -=
        errors.leftCols(static_cast<Eigen::Index>(end - first)) *
        h.upper.block(static_cast<Eigen::Index>(first), static_cast<Eigen::Index>(end),
                      static_cast<Eigen::Index>(end - first), static_cast<Eigen::Index>(cols() - end));
  }
};

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
/// @param mask   which weights survive; written if plan.choose is set. Patterns of free density then choose
///               per sweep_cols columns
/// @param codes  [rows x cols]; row scales must be set, codes and parameters are written
template <sparsity_pattern P, quantizer Q, class Exec>
void sweep(Eigen::MatrixXf& w, const inverse_hessian& h, bit_mask& mask, coded_matrix<Q>& codes,
           const sweep_plan& plan, Exec& exec) {
  constexpr std::size_t step = sweep_cols<P, Q>, band = sweep_rows<P>;
  sweep_state<P, Q> state{w, h, mask, codes, plan, {}, {}};
  const std::size_t rows = state.rows(), cols = state.cols();
  state.lost.resize(w.rows(), static_cast<Eigen::Index>(std::min(step, cols)));
  for (Eigen::Index c = 0; c < w.cols(); ++c) state.importance.push_back(1 / (h.upper(c, c) * h.upper(c, c)));
  const auto bands = [&](auto&& f) {
    exec.parallel_for((rows + band - 1) / band, 1, [&](std::size_t first, std::size_t end) {
      for (std::size_t b = first; b < end; ++b) f(b * band, std::min(band, rows - b * band));
    });
  };
  for (std::size_t first = 0; first < cols; first += step) {
    const std::size_t end = std::min(cols, first + step);
    if constexpr (P::kind != survivors::all && P::of == 0)
      if (plan.choose != nullptr) {
        eigen_matrix<float> scores(static_cast<Eigen::Index>(block_rows<P>(rows)),
                                   static_cast<Eigen::Index>(units_per_row<P>(end - first)));
        bands([&](std::size_t top, std::size_t tall) {
          plan.choose->score(state.panel(top, tall, first, end - first), first,
                             scores.middleRows(static_cast<Eigen::Index>(top / P::unit_rows),
                                               static_cast<Eigen::Index>(block_rows<P>(tall))));
        });
        select_units<P>(scores, 0, first / P::unit_cols, plan.density, plan.over, mask);
      }
    bands([&](std::size_t top, std::size_t tall) {
      eigen_matrix<float> scores;
      state.advance(top, tall, first, end, scores);
    });
  }
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
