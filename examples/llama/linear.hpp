// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::linear w = llama::dense_linear(std::move(values), rows, cols);
// llama::multiply(x, {{&w, y}}, pool);       // y [n x rows] = x [n x cols] W^T; x is a llama::input
// w.row(id, embedding);                      // one row as floats

#include <cstddef>
#include <initializer_list>
#include <llama/input.hpp>
#include <memory>
#include <quern/core/span2.hpp>
#include <quern/core/thread_pool.hpp>
#include <span>
#include <utility>
#include <vector>

namespace llama {

/// A weight matrix W [rows x cols] of any format behind one interface, shared and never changed. Copies share
/// the weights. The model knows linears only through this class.
class linear {
 public:
  linear() = default;
  /// Wraps a type with the seven members below; finish() may be left out.
  template <class Weight>
  explicit linear(Weight weight) : held_(std::make_shared<const holder<Weight>>(std::move(weight))) {}

  explicit operator bool() const { return held_ != nullptr; }
  std::size_t rows() const { return held_->rows(); }
  std::size_t cols() const { return held_->cols(); }
  /// Bytes of the stored weights: what the file has and what one token reads.
  std::size_t bytes() const { return held_->bytes(); }
  /// What the kernels read of an input of @p tokens tokens that is prepared in this way.
  reading reads(activation kind, std::size_t tokens) const { return held_->reads(kind, tokens); }
  /// Pieces of work in which y = x W^T can be done, in any order, by any thread.
  std::size_t pieces(const input& x) const { return held_->pieces(x); }
  /// Pieces [begin, end) of y [n x rows] = x [n x cols] W^T. Shapes are the caller's to check, and so is
  /// x.prepare() of what reads() says: llama::multiply does both.
  void multiply(const input& x, span2<float> y, std::size_t begin, std::size_t end) const {
    held_->multiply(x, y, begin, end);
  }
  /// What is left to do once all pieces of y are there, in the calling thread and @p pool.
  void finish(const input& x, span2<float> y, quern::thread_pool& pool) const { held_->finish(x, y, pool); }
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
    virtual reading reads(activation kind, std::size_t tokens) const = 0;
    virtual std::size_t pieces(const input& x) const = 0;
    virtual void multiply(const input& x, span2<float> y, std::size_t begin, std::size_t end) const = 0;
    virtual void finish(const input& x, span2<float> y, quern::thread_pool& pool) const = 0;
    virtual void row(std::size_t r, std::span<float> out) const = 0;
  };
  template <class Weight>
  struct holder final : base {
    explicit holder(Weight w) : weight(std::move(w)) {}
    std::size_t rows() const override { return weight.rows(); }
    std::size_t cols() const override { return weight.cols(); }
    std::size_t bytes() const override { return weight.bytes(); }
    reading reads(activation kind, std::size_t tokens) const override { return weight.reads(kind, tokens); }
    std::size_t pieces(const input& x) const override { return weight.pieces(x); }
    void multiply(const input& x, span2<float> y, std::size_t begin, std::size_t end) const override {
      weight.multiply(x, y, begin, end);
    }
    void finish(const input& x, span2<float> y, quern::thread_pool& pool) const override {
      if constexpr (requires { weight.finish(x, y, pool); }) weight.finish(x, y, pool);
    }
    void row(std::size_t r, std::span<float> out) const override { weight.row(r, out); }
    Weight weight;
  };
  std::shared_ptr<const base> held_;
};

/// y [n x rows of weight] = x weight^T.
struct output {
  const linear* weight;
  span2<float> y;
};
/// Linears that read one input, in one parallel loop: the input is prepared once, small matrices share a fork and
/// join, and below quern::grain_weights everything stays in one thread. Results do not depend on the number of
/// threads.
/// @throws shape_error that names the linear whose shape does not fit
void multiply(input& x, std::span<const output> outputs, quern::thread_pool& pool);
inline void multiply(input& x, std::initializer_list<output> outputs, quern::thread_pool& pool) {
  multiply(x, std::span(outputs.begin(), outputs.size()), pool);
}

/// Dense fp32 weights, multiplied by Eigen. @throws shape_error unless values.size() == rows * cols
linear dense_linear(std::vector<float> values, std::size_t rows, std::size_t cols);
/// Every weight of a linear as floats, [rows x cols].
std::vector<float> values_of(const linear& w, quern::thread_pool& pool);

}  // namespace llama
