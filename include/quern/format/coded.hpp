// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::coded_matrix<quern::affine<4, 16>> c(rows, cols);   // what GPTQ writes, what a GGUF file holds
// c.row(r).codes[k] = 7;
// auto w = quern::pack<quern::group<16>>(c, mask);           // nothing is requantized

#include <quern/core/config.hpp>
#include <quern/core/span2.hpp>
#include <quern/quant/round.hpp>
#include <vector>

namespace quern::inline v0 {

inline namespace QUERN_BUILD {

/// Codes and parameters of every weight of W [rows x cols], before a pattern is applied: where the choice of
/// codes (rounding, GPTQ, training, another file format) meets storage.
template <quantizer Q>
class coded_matrix {
 public:
  coded_matrix() = default;
  coded_matrix(std::size_t rows, std::size_t cols)
      : rows_(rows),
        cols_(cols),
        runs_(Q::run > 0 ? (cols + run_length - 1) / run_length : 0),
        codes_(rows * cols),
        params_(rows * runs_),
        row_scales_(rows, 1.0f) {}
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  /// Runs per row; 0 for `real`.
  std::size_t runs() const { return runs_; }
  coded_row<Q> row(std::size_t r) {
    return {codes_.data() + r * cols_, params_.data() + r * runs_, row_scales_[r]};
  }
  typename Q::code_type& code(std::size_t r, std::size_t c) { return codes_[r * cols_ + c]; }
  const typename Q::code_type& code(std::size_t r, std::size_t c) const { return codes_[r * cols_ + c]; }
  run_params& params(std::size_t r, std::size_t run) { return params_[r * runs_ + run]; }
  const run_params& params(std::size_t r, std::size_t run) const { return params_[r * runs_ + run]; }
  float& row_scale(std::size_t r) { return row_scales_[r]; }
  float row_scale(std::size_t r) const { return row_scales_[r]; }
  /// The weight that row @p r, column @p c decodes to.
  float value(std::size_t r, std::size_t c) const {
    if constexpr (Q::run > 0)
      return Q::decode(code(r, c), params(r, c / run_length));
    else
      return Q::decode(code(r, c), {1, 0});
  }

 private:
  static constexpr std::size_t run_length = Q::run > 0 ? Q::run : 1;
  std::size_t rows_ = 0, cols_ = 0, runs_ = 0;
  std::vector<typename Q::code_type> codes_;
  std::vector<run_params> params_;
  std::vector<float> row_scales_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
