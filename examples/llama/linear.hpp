// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::linear w = llama::dense_linear(std::move(values), rows, cols);
// w.multiply(x, y, pool);                    // y [n x rows] = x [n x cols] W^T
// w.row(id, embedding);                      // one row as floats

#include <cstddef>
#include <memory>
#include <quern/core/span2.hpp>
#include <quern/core/thread_pool.hpp>
#include <span>
#include <utility>
#include <vector>

namespace llama {

using quern::span2;

/// A weight matrix W [rows x cols] of any format behind one interface, shared and never changed. Copies share
/// the weights. The model knows linears only through this class.
class linear {
 public:
  linear() = default;
  /// Wraps a type with the five members below.
  template <class Weight>
  explicit linear(Weight weight) : held_(std::make_shared<const holder<Weight>>(std::move(weight))) {}

  explicit operator bool() const { return held_ != nullptr; }
  std::size_t rows() const { return held_->rows(); }
  std::size_t cols() const { return held_->cols(); }
  /// Bytes of the stored weights: what the file has and what one token reads.
  std::size_t bytes() const { return held_->bytes(); }
  /// y [n x rows] = x [n x cols] W^T, one token per row. The result does not depend on the number of threads.
  /// Shapes are the caller's to check.
  void multiply(span2<const float> x, span2<float> y, quern::thread_pool& pool) const {
    held_->multiply(x, y, pool);
  }
  /// Row @p r (below rows) as cols floats.
  void row(std::size_t r, std::span<float> out) const { held_->row(r, out); }
  /// The wrapped weight if it is a Weight, else null.
  template <class Weight>
  const Weight* target() const {
    const auto* h = dynamic_cast<const holder<Weight>*>(held_.get());
    return h == nullptr ? nullptr : &h->weight;
  }

 private:
  struct base {
    base() = default;
    base(const base&) = delete;
    base& operator=(const base&) = delete;
    virtual ~base() = default;
    virtual std::size_t rows() const = 0;
    virtual std::size_t cols() const = 0;
    virtual std::size_t bytes() const = 0;
    virtual void multiply(span2<const float> x, span2<float> y, quern::thread_pool& pool) const = 0;
    virtual void row(std::size_t r, std::span<float> out) const = 0;
  };
  template <class Weight>
  struct holder final : base {
    explicit holder(Weight w) : weight(std::move(w)) {}
    std::size_t rows() const override { return weight.rows(); }
    std::size_t cols() const override { return weight.cols(); }
    std::size_t bytes() const override { return weight.bytes(); }
    void multiply(span2<const float> x, span2<float> y, quern::thread_pool& pool) const override {
      weight.multiply(x, y, pool);
    }
    void row(std::size_t r, std::span<float> out) const override { weight.row(r, out); }
    Weight weight;
  };
  std::shared_ptr<const base> held_;
};

/// Dense fp32 weights, multiplied by Eigen. @throws shape_error unless values.size() == rows * cols
linear dense_linear(std::vector<float> values, std::size_t rows, std::size_t cols);
/// Every weight of a linear as floats, [rows x cols].
std::vector<float> values_of(const linear& w, quern::thread_pool& pool);

}  // namespace llama
