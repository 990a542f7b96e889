// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto w = quern::trained_weight::start<q>(rows, cols, mask, [&](std::size_t r) { return codes.row(r); });
// w.quantize(out, pool);                     // what the packed matrix would compute with
// w.backward(gradient, sums, pool);          // dL/d out -> dL/d weights in place, scales and zeros in sums
// w.freeze();                                // from here on only scales and zeros change
// codes.row_scale(r) = w.store<q>(r, codes.row(r));   // ready for quern::pack: nothing is rounded again

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <quern/core/error.hpp>
#include <quern/core/executor.hpp>
#include <quern/core/half.hpp>
#include <quern/core/span2.hpp>
#include <quern/pattern/mask.hpp>
#include <quern/quant/fake_quant.hpp>
#include <quern/quant/round.hpp>
#include <span>
#include <utility>
#include <vector>

namespace quern::inline v0 {

/// What can be trained of a quantized linear.
enum class trained {
  weight,     ///< [rows x cols] the survivors before rounding
  scale,      ///< [rows x runs] of a run, as a multiple of its start
  zero,       ///< [rows x runs] in codes; rounded to a whole one where it is used
  row_scale,  ///< [rows] of two-level scales, as a multiple of its start
};
inline constexpr trained trained_kinds[] = {trained::weight, trained::scale, trained::zero,
                                            trained::row_scale};

inline namespace QUERN_BUILD {

/// One number for everything that is trained of a linear, by kind: derivatives, moments, a copy of the values.
struct trained_numbers {
  std::vector<float> of[std::size(trained_kinds)];
  std::vector<float>& operator[](trained k) { return of[static_cast<std::size_t>(k)]; }
};

/// One linear in training: a fixed mask, and weights, scales and zeros as real numbers from which `quantize` makes
/// what the packed matrix computes with. The quantizer is known at run time only, so that the linears of a block
/// may differ in it; the loops are those of quern/quant/fake_quant.hpp.
///
/// Learning rates are dimensionless: `unit` is what one of them means. Scales are multiples of where they started
/// and zeros are in codes, so that one rate serves layers whose weights differ in size by orders (GQSA and
/// EfficientQAT take absolute rates: deviation). A two-level scale is fp16(row scale) * whole multiplier 1..15, both
/// trained through the rounding.
class trained_weight {
 public:
  trained_weight() = default;

  /// A linear [rows x cols] that starts where its codes are: training begins at the loss of what was packed.
  /// @param keep  the survivors; every other weight stays 0
  /// @param row   row(r) gives a coded_row<Q> with the codes and parameters of row r
  template <quantizer Q, class Rows>
  static trained_weight start(std::size_t rows, std::size_t cols, bit_mask keep, Rows&& row);

  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t runs() const { return runs_; }
  const bit_mask& keep() const { return keep_; }
  bool frozen() const { return frozen_; }
  /// The numbers of one kind; empty where the quantizer has none, or where they are frozen.
  std::span<float> values(trained k) { return values_[static_cast<std::size_t>(k)]; }
  std::span<const float> values(trained k) const { return values_[static_cast<std::size_t>(k)]; }
  /// What a learning rate of 1 means: the root mean square of the surviving weights at the start, else 1.
  float unit(trained k) const { return k == trained::weight ? weight_unit_ : 1.0f; }
  /// Zeros of the right sizes, for `backward`. @param weights  whether that of the weights is wanted
  trained_numbers gradient(bool weights) const {
    trained_numbers g;
    for (const trained k : trained_kinds)
      if (k != trained::weight || weights)
        g[k].resize(k == trained::weight ? rows_ * cols_ : values(k).size());
    return g;
  }

  /// Moves every weight towards @p dense [rows x cols] as far as its code allows: to @p share (below 1) of the half
  /// step on either side. Weights near a boundary cross it early, which is where training should begin.
  void pull(span2<const float> dense, float share) {
    require(dense.rows() == rows_ && dense.cols() == cols_, "quern::trained_weight: dense must be [", rows_,
            " x ", cols_, "]");
    if (table_ != nullptr) table_->pull(*this, dense, share);
  }
  /// What is stored, decoded, into @p out [rows x cols]; pruned weights are 0.
  template <class Exec = serial>
  void quantize(span2<float> out, Exec&& exec = Exec{}) const {
    exec.parallel_for(rows_, 16,
                      [&](std::size_t first, std::size_t end) { table_->quantize(*this, first, end, out); });
  }
  /// Replaces dL/d out by the straight-through dL/dw and adds those of scales, zeros and row scales to @p sums,
  /// which gradient() made.
  template <class Exec = serial>
  void backward(span2<float> gradient, trained_numbers& sums, Exec&& exec = Exec{}) const {
    exec.parallel_for(rows_, 16, [&](std::size_t first, std::size_t end) {
      table_->backward(*this, first, end, gradient, sums);
    });
  }
  /// Keeps scales, zeros and multipliers where they mean something after a step of an optimizer.
  void settle() {
    constexpr float most = 16;  // times or parts of the start: farther is a run that has diverged
    for (const trained k : {trained::scale, trained::row_scale})
      for (float& v : values(k)) v = std::clamp(v, 1 / most, most);
    for (float& z : values(trained::zero)) z = std::clamp(z, 0.0f, top_);
    if (values(trained::row_scale).empty()) return;
    for (std::size_t i = 0; i < start_scale_.size(); ++i)
      if (start_scale_[i] > 0)
        values(trained::scale)[i] =
            std::clamp(values(trained::scale)[i], 1 / start_scale_[i], multiplier_top / start_scale_[i]);
  }
  /// Fixes the codes: what the weights round to now is kept as it is, and the weights are forgotten.
  void freeze() {
    if (frozen_) return;
    table_->freeze(*this);
    frozen_ = true;
  }
  /// Writes the codes and parameters of row @p r as they are to be packed. @returns the row scale
  /// @throws shape_error if the linear was started with another quantizer
  template <quantizer Q>
  float store(std::size_t r, coded_row<Q> out) const;

 private:
  static constexpr float multiplier_top = 15;
  struct operations {
    void (*quantize)(const trained_weight&, std::size_t, std::size_t, span2<float>);
    void (*backward)(const trained_weight&, std::size_t, std::size_t, span2<float>, trained_numbers&);
    void (*pull)(trained_weight&, span2<const float>, float);
    void (*freeze)(trained_weight&);
  };
  template <quantizer Q>
  struct loops;

  std::vector<float>& of(trained k) { return values_[static_cast<std::size_t>(k)]; }
  const float* row_of(trained k, std::size_t r, std::size_t width) const {
    return values_[static_cast<std::size_t>(k)].data() + r * width;
  }

  const operations* table_ = nullptr;
  std::size_t rows_ = 0, cols_ = 0, runs_ = 0;
  bit_mask keep_;
  bool frozen_ = false;
  float weight_unit_ = 1, top_ = 0;
  std::vector<float> values_[std::size(trained_kinds)];
  std::vector<float> start_scale_, start_row_;  // [rows x runs] scale, or multiplier of the row's; [rows]
  std::vector<std::uint8_t> codes_;             // [rows x cols] once frozen
};

/// The loops over a trained_weight of quantizer Q.
template <quantizer Q>
struct trained_weight::loops {
  static constexpr bool codes_fit = sizeof(typename Q::code_type) == 1;

  static float row_scale(const trained_weight& w, std::size_t r) {
    if constexpr (Q::row_scaled)
      return to_float(to_f16(w.start_row_[r] * w.values(trained::row_scale)[r]));
    else
      return 1;
  }
  /// The parameters of row @p r, [runs], as they come back from storage.
  static void params(const trained_weight& w, std::size_t r, run_params* out) {
    const float row = row_scale(w, r);
    const float* const scale = w.row_of(trained::scale, r, w.runs_);
    const float* const zero = w.row_of(trained::zero, r, w.runs_);
    for (std::size_t i = 0; i < w.runs_; ++i) {
      const float s = w.start_scale_[r * w.runs_ + i] * scale[i] * row;
      out[i] = Q::stored({s, Q::zero_bits > 0 ? -s * std::round(zero[i]) : 0.0f}, row);
    }
  }
  static void decode(const trained_weight& w, std::size_t r, const run_params* p, float* out) {
    if constexpr (codes_fit)
      if (w.frozen_) return decode_row<Q>(w.codes_.data() + r * w.cols_, w.cols_, w.keep_.row(r), p, out);
    fake_quantize_row<Q>(w.row_of(trained::weight, r, w.cols_), w.cols_, w.keep_.row(r), p, out);
  }
  static void quantize(const trained_weight& w, std::size_t first, std::size_t end, span2<float> out) {
    std::vector<run_params> p(w.runs_);
    for (std::size_t r = first; r < end; ++r) {
      params(w, r, p.data());
      decode(w, r, p.data(), out.row(r));
    }
  }
  static void backward(const trained_weight& w, std::size_t first, std::size_t end, span2<float> gradient,
                       trained_numbers& sums) {
    std::vector<run_params> p(w.runs_);
    std::vector<run_gradient> runs(w.runs_);
    std::vector<float> decoded(w.frozen_ ? w.cols_ : 0);
    for (std::size_t r = first; r < end; ++r) {
      params(w, r, p.data());
      std::fill(runs.begin(), runs.end(), run_gradient{});
      if (w.frozen_) {
        decode(w, r, p.data(), decoded.data());
        decode_row_backward<Q>(decoded.data(), w.cols_, w.keep_.row(r), p.data(), gradient.row(r),
                               runs.data());
      } else {
        fake_quantize_row_backward<Q>(w.row_of(trained::weight, r, w.cols_), w.cols_, w.keep_.row(r),
                                      p.data(), gradient.row(r), runs.data());
      }
      float along_row = 0;
      const float row = row_scale(w, r);
      for (std::size_t i = 0; i < w.runs_; ++i) {
        const std::size_t at = r * w.runs_ + i;
        // scale = row * multiplier; both roundings count as the identity.
        sums[trained::scale][at] += runs[i].scale * row * w.start_scale_[at];
        if constexpr (Q::row_scaled) along_row += row > 0 ? runs[i].scale * p[i].scale / row : 0.0f;
        if constexpr (Q::zero_bits > 0) sums[trained::zero][at] += runs[i].zero;
      }
      if constexpr (Q::row_scaled) sums[trained::row_scale][r] += along_row * w.start_row_[r];
    }
  }
  static void pull(trained_weight& w, span2<const float> dense, float share) {
    std::vector<run_params> p(w.runs_);
    for (std::size_t r = 0; r < w.rows_; ++r) {
      params(w, r, p.data());
      float* const values = w.of(trained::weight).data() + r * w.cols_;
      for_runs<Q>(w.cols_, [&](std::size_t first, std::size_t end, std::size_t run) {
        const float reach = Q::run == 0 ? 0.0f : share * 0.5f * std::abs(params_of<Q>(p.data(), run).scale);
        for (std::size_t i = first; i < end; ++i)
          if (w.keep_(r, i)) values[i] += std::clamp(dense(r, i) - values[i], -reach, reach);
      });
    }
  }
  static void freeze(trained_weight& w) {
    if constexpr (codes_fit) {
      std::vector<run_params> p(w.runs_);
      w.codes_.resize(w.rows_ * w.cols_);
      for (std::size_t r = 0; r < w.rows_; ++r) {
        params(w, r, p.data());
        encode_row<Q>(w.row_of(trained::weight, r, w.cols_), w.cols_,
                      coded_row<Q>{w.codes_.data() + r * w.cols_, p.data(), row_scale(w, r)});
      }
      w.of(trained::weight) = {};
    }
  }
  static constexpr operations table{quantize, backward, pull, freeze};
};

template <quantizer Q, class Rows>
trained_weight trained_weight::start(std::size_t rows, std::size_t cols, bit_mask keep, Rows&& row) {
  require(keep.rows() == rows && keep.cols() == cols, "quern::trained_weight: the mask must be [", rows,
          " x ", cols, "]");
  trained_weight w;
  w.table_ = &loops<Q>::table;
  w.rows_ = rows, w.cols_ = cols;
  w.runs_ =
      Q::run == 0 ? 0 : (cols + std::max<std::size_t>(Q::run, 1) - 1) / std::max<std::size_t>(Q::run, 1);
  w.keep_ = std::move(keep);
  if constexpr (requires { Q::top; }) w.top_ = static_cast<float>(Q::top);
  w.of(trained::weight).resize(rows * cols);
  w.of(trained::scale).assign(rows * w.runs_, 1.0f);
  if constexpr (Q::zero_bits > 0) w.of(trained::zero).resize(rows * w.runs_);
  if constexpr (Q::row_scaled) w.of(trained::row_scale).assign(rows, 1.0f);
  w.start_scale_.resize(rows * w.runs_);
  w.start_row_.assign(rows, 1.0f);
  double squares = 0, kept = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const coded_row<Q> from = row(r);
    if constexpr (Q::row_scaled) w.start_row_[r] = from.row_scale;
    for (std::size_t i = 0; i < w.runs_; ++i) {
      const run_params p = from.params[i];
      w.start_scale_[r * w.runs_ + i] = w.start_row_[r] > 0 ? p.scale / w.start_row_[r] : 0.0f;
      if constexpr (Q::zero_bits > 0)
        w.of(trained::zero)[r * w.runs_ + i] = p.scale == 0 ? 0.0f : std::round(-p.offset / p.scale);
    }
    float* const values = w.of(trained::weight).data() + r * cols;
    decode_row<Q>(from.codes, cols, w.keep_.row(r), from.params, values);
    for (std::size_t c = 0; c < cols; ++c)
      squares += static_cast<double>(values[c]) * static_cast<double>(values[c]);
  }
  kept = static_cast<double>(count(w.keep_));
  w.weight_unit_ = kept > 0 && squares > 0 ? static_cast<float>(std::sqrt(squares / kept)) : 1.0f;
  return w;
}

template <quantizer Q>
float trained_weight::store(std::size_t r, coded_row<Q> out) const {
  require(table_ == &loops<Q>::table, "quern::trained_weight: was started with another quantizer than ",
          Q::label());
  loops<Q>::params(*this, r, out.params);
  std::vector<float> decoded(cols_);
  loops<Q>::decode(*this, r, out.params, decoded.data());
  encode_row<Q>(decoded.data(), cols_, out);
  // A run whose scale has become 0 decodes to 0 whatever the codes: those of a frozen linear are kept all the same.
  if constexpr (loops<Q>::codes_fit)
    for (std::size_t c = 0; frozen_ && c < cols_; ++c)
      if (keep_(r, c)) out.codes[c] = codes_[r * cols_ + c];
  return loops<Q>::row_scale(*this, r);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
