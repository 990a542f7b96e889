// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::linear w = llama::slorb_linear({.sparse = packed, .side = s, .k = 16});   // y = sparse x + side (X x)
// const llama::slorb_weight* parts = llama::slorb_of(w);                            // null for other linears

#include <llama/linear.hpp>
#include <llama/model.hpp>
#include <string>

namespace llama {

/// A sparse matrix and its side weights (SLoRB, AST section 3.4), multiplied in one call: the side sees the sums of
/// every k inputs, or what a trained projection makes of them.
struct slorb_weight {
  linear sparse;      ///< [rows x cols] of any format
  linear side;        ///< [rows x groups]
  linear projection;  ///< [groups x cols]; none: sums of k inputs
  std::size_t k = 0;

  std::size_t rows() const { return sparse.rows(); }
  std::size_t cols() const { return sparse.cols(); }
  std::size_t bytes() const { return sparse.bytes() + side.bytes() + (projection ? projection.bytes() : 0); }
  reading reads(activation kind, std::size_t tokens) const { return sparse.reads(kind, tokens); }
  std::size_t pieces(const input& x) const { return sparse.pieces(x); }
  void multiply(const input& x, span2<float> y, std::size_t begin, std::size_t end) const {
    sparse.multiply(x, y, begin, end);
  }
  /// Adds the side's part, from exact inputs.
  void finish(const input& x, span2<float> y, quern::thread_pool& pool) const;
  /// Row @p r of sparse + side X.
  void row(std::size_t r, std::span<float> out) const;
};

/// @throws shape_error where the shapes of the parts do not fit together
linear slorb_linear(slorb_weight parts);
/// The parts of such a linear, or null.
inline const slorb_weight* slorb_of(const linear& w) { return w.target<slorb_weight>(); }
/// The name of the first such linear of a model ("blk.0.attn_q"), or "".
std::string first_slorb(const model& m);

}  // namespace llama
