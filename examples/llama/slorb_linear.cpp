// SPDX-License-Identifier: Apache-2.0
#include <llama/ops.hpp>
#include <llama/slorb_linear.hpp>
#include <quern/core/error.hpp>
#include <quern/train/low_rank.hpp>

namespace llama {

void slorb_weight::finish(const input& x, span2<float> y, quern::thread_pool& pool) const {
  const std::size_t n = x.tokens(), groups = side.cols();
  std::vector<float> scratch(n * (groups + rows()));
  const span2<float> pooled(scratch.data(), n, groups), more(scratch.data() + n * groups, n, rows());
  input exact;
  if (projection) {
    exact.assign(x.floats(), activation::f32);
    llama::multiply(exact, {{&projection, pooled}}, pool);
  } else {
    quern::slorb_pool<float>(x.floats(), k, pooled);
  }
  exact.assign(pooled, activation::f32);
  llama::multiply(exact, {{&side, more}}, pool);
  add<float>(y, more);
}

void slorb_weight::row(std::size_t r, std::span<float> out) const {
  sparse.row(r, out);
  std::vector<float> s(side.cols());
  side.row(r, s);
  const span2<float> total(out.data(), 1, cols());
  if (!projection) return quern::slorb_add<float>({s.data(), 1, s.size()}, k, total);
  std::vector<float> x(cols());
  for (std::size_t g = 0; g < s.size(); ++g) {
    projection.row(g, x);
    for (std::size_t c = 0; c < out.size(); ++c) out[c] += s[g] * x[c];
  }
}

linear slorb_linear(slorb_weight p) {
  quern::require(
      static_cast<bool>(p.sparse) && static_cast<bool>(p.side) && p.k > 0 &&
          p.side.rows() == p.sparse.rows() && p.side.cols() == quern::slorb_groups(p.sparse.cols(), p.k) &&
          (!p.projection || (p.projection.rows() == p.side.cols() && p.projection.cols() == p.sparse.cols())),
      "llama::slorb_linear: side weights of a matrix with ", p.sparse ? p.sparse.rows() : 0, " rows and ",
      p.sparse ? p.sparse.cols() : 0, " columns must be [rows x groups of k = ", p.k,
      "], and a projection [groups x columns]");
  return linear(std::move(p));
}

std::string first_slorb(const model& m) {
  for (std::size_t l = 0; l < m.blocks.size(); ++l)
    for (const named_linear& i : block_linears)
      if (slorb_of(m.blocks[l].*i.weight) != nullptr) return "blk." + std::to_string(l) + "." + i.name;
  return "";
}

}  // namespace llama
