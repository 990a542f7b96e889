// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/linear.hpp>
#include <quern/core/error.hpp>
#include <quern/dense/matrix.hpp>
#include <quern/kernel/cpu/multiply.hpp>

namespace llama {
namespace {

class dense_weight {
 public:
  dense_weight(std::vector<float> values, std::size_t rows, std::size_t cols)
      : values_(std::move(values)), rows_(rows), cols_(cols) {}
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t bytes() const { return values_.size() * sizeof(float); }
  static reading reads(activation, std::size_t) { return {}; }
  std::size_t pieces(const input&) const { return (rows_ + tile() - 1) / tile(); }
  void multiply(const input& x, span2<float> y, std::size_t begin, std::size_t end) const {
    const span2<const float> w(values_.data(), rows_, cols_);
    for (std::size_t t = begin; t < end; ++t) {
      const std::size_t first = t * tile(), count = std::min(tile(), rows_ - first);
      const span2<float> part(y.data() + first, y.rows(), count, y.stride());
      quern::eigen_map(part).noalias() =
          quern::eigen_map(x.floats()) * quern::eigen_map(w.rows_of(first, count)).transpose();
    }
  }
  void row(std::size_t r, std::span<float> out) const {
    std::copy_n(values_.data() + r * cols_, cols_, out.data());
  }

 private:
  std::size_t tile() const {
    // Tiles of whole output rows, cut the same way for every pool: Eigen may sum the last rows of a product
    // in another order than the rest, so the cut is part of the result. Every tile packs all of x again,
    // which 96 rows do not repay (375 tokens/s of SmolLM2 against 430 with 144 and more; 2 cores, Zen 4, 22
    // November 2026). An even number of tiles, and multiples of 48 rows, the height of Eigen's AVX-512
    // kernel.
    const std::size_t parts = std::clamp<std::size_t>(rows_ / 288 * 2, 2, 16);
    return ((rows_ + parts - 1) / parts + 47) / 48 * 48;
  }
  std::vector<float> values_;
  std::size_t rows_, cols_;
};

}  // namespace

void multiply(input& x, std::span<const output> outputs, quern::thread_pool& pool) {
  std::size_t weights = 0;
  reading all;
  for (const output& p : outputs) {
    const linear& w = *p.weight;
    quern::require(x.floats().cols() == w.cols() && p.y.cols() == w.rows() && p.y.rows() == x.tokens(),
                   "llama::multiply: a linear of ", w.rows(), " x ", w.cols(), " cannot turn ", x.tokens(),
                   " x ", x.floats().cols(), " into ", p.y.rows(), " x ", p.y.cols());
    all = all | w.reads(x.kind(), x.tokens());
    weights += w.rows() * w.cols();
  }
  x.prepare(all, pool);
  const std::size_t shares =
      std::clamp<std::size_t>(weights * x.tokens() / quern::grain_weights, 1, pool.concurrency());
  // Every thread takes its share of each linear: their pieces differ in size.
  pool.parallel_for(shares, 1, [&](std::size_t begin, std::size_t end) {
    for (const output& p : outputs) {
      const std::size_t n = p.weight->pieces(x);
      p.weight->multiply(x, p.y, quern::part_begin(n, shares, begin), quern::part_begin(n, shares, end));
    }
  });
  for (const output& p : outputs) p.weight->finish(x, p.y, pool);
}

linear dense_linear(std::vector<float> values, std::size_t rows, std::size_t cols) {
  quern::require(values.size() == rows * cols, "llama::dense_linear: ", values.size(), " values do not make ",
                 rows, " x ", cols);
  return linear(dense_weight(std::move(values), rows, cols));
}

std::vector<float> values_of(const linear& w, quern::thread_pool& pool) {
  std::vector<float> out(w.rows() * w.cols());
  pool.parallel_for(w.rows(), 16, [&](std::size_t first, std::size_t end) {
    for (std::size_t r = first; r < end; ++r) w.row(r, std::span(out).subspan(r * w.cols(), w.cols()));
  });
  return out;
}

}  // namespace llama
