// SPDX-License-Identifier: Apache-2.0
#pragma once
// A residual block of two linears, y = x + tanh(x A^T) B^T, and its packed form, shared by the tests of both stages.

#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/pattern/group.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/symmetric.hpp>
#include <quern/train/bqpo.hpp>
#include <vector>

#include "../support.hpp"

namespace quern_test {

using quern::span2;

struct toy_block {
  quern::eigen_matrix<float> in, hidden;
  void forward(std::span<const span2<const float>> w, span2<float> stream) {
    auto x = quern::eigen_map(stream);
    in = x;
    hidden.noalias() = in * quern::eigen_map(w[0]).transpose();
    hidden = hidden.array().tanh();
    x.noalias() += hidden * quern::eigen_map(w[1]).transpose();
  }
  void backward(std::span<const span2<const float>> w, span2<float> dstream,
                std::span<const span2<float>> dw) {
    const auto d = quern::eigen_map(dstream);
    quern::eigen_map(dw[1]).noalias() += d.transpose() * hidden;
    const quern::eigen_matrix<float> dh =
        ((d * quern::eigen_map(w[1])).array() * (1 - hidden.array().square())).matrix();
    quern::eigen_map(dw[0]).noalias() += dh.transpose() * in;
    quern::eigen_map(dstream).noalias() += dh * quern::eigen_map(w[0]);
  }
};
static_assert(quern::differentiable_block<toy_block>);

/// The block with half of its groups of 16 pruned by their norms and 3-bit codes, and sequences to train it on.
template <class Q>
struct toy_problem {
  static constexpr std::size_t width = 32, wide = 48, length = 16, sequences = 24;
  using pattern = quern::group<16>;
  dense_matrix a{wide, width}, b{width, wide};
  std::vector<quern::matrix<pattern, Q>> packed;
  dense_matrix inputs{sequences * length, width}, targets{sequences * length, width};

  explicit toy_problem(std::uint64_t seed) {
    quern::rng g(seed);
    for (float& x : a.data) x = 0.25f * g.normal();
    for (float& x : b.data) x = 0.5f * g.normal();
    // Inputs with a few causes: survivors can make up for what was pruned.
    const dense_matrix mix = random_matrix(8, width, g);
    for (std::size_t t = 0; t < inputs.rows; ++t) {
      float cause[8];
      for (float& x : cause) x = g.normal();
      for (std::size_t c = 0; c < width; ++c) {
        float sum = 0.3f * g.normal();
        for (std::size_t k = 0; k < 8; ++k) sum += cause[k] * mix.view()(k, c) / 2;
        inputs.view()(t, c) = sum;
      }
    }
    toy_block dense;
    const std::vector<span2<const float>> w{std::as_const(a).view(), std::as_const(b).view()};
    targets.data = inputs.data;
    for (std::size_t s = 0; s < sequences; ++s) dense.forward(w, targets.view().rows_of(s * length, length));
    for (const dense_matrix* m : {&a, &b}) packed.push_back(quern::pack<pattern, Q>(m->view(), half(*m)));
  }
  quern::block_data data() const {
    return {std::as_const(inputs).view(), std::as_const(targets).view(), length};
  }
  std::vector<quern::trained_weight> start() const {
    std::vector<quern::trained_weight> out;
    for (const auto& m : packed) {
      quern::bit_mask keep;
      quern::coded_matrix<Q> codes = quern::unpack_codes(m.view(), &keep);
      out.push_back(quern::trained_weight::start<Q>(m.rows(), m.cols(), std::move(keep),
                                                    [&](std::size_t r) { return codes.row(r); }));
    }
    return out;
  }
  static quern::matrix<pattern, Q> pack_again(const quern::trained_weight& w) {
    quern::coded_matrix<Q> codes(w.rows(), w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r) codes.row_scale(r) = w.template store<Q>(r, codes.row(r));
    return quern::pack<pattern>(codes, w.keep());
  }

 private:
  /// The half of a row's groups with the larger norms.
  static quern::bit_mask half(const dense_matrix& m) {
    quern::bit_mask keep(m.rows, m.cols);
    const std::size_t groups = m.cols / 16;
    for (std::size_t r = 0; r < m.rows; ++r) {
      std::vector<std::pair<float, std::size_t>> order;
      for (std::size_t i = 0; i < groups; ++i) {
        float norm = 0;
        for (std::size_t c = 16 * i; c < 16 * i + 16; ++c) norm += m.view()(r, c) * m.view()(r, c);
        order.emplace_back(-norm, i);
      }
      std::sort(order.begin(), order.end());
      for (std::size_t n = 0; n < (groups + 1) / 2; ++n)
        for (std::size_t c = 16 * order[n].second; c < 16 * order[n].second + 16; ++c) keep.set(r, c, true);
    }
    return keep;
  }
};

}  // namespace quern_test
