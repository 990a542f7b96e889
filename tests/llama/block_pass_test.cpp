// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <llama/train_model.hpp>
#include <numeric>
#include <quern/core/rng.hpp>
#include <vector>

namespace {

using namespace llama;

constexpr config small{.vocab = 7,
                       .width = 12,
                       .layers = 2,
                       .ffn = 10,
                       .heads = 4,
                       .kv_heads = 2,
                       .head_dim = 6,
                       .context = 9,
                       .rope_base = 100.0f};

struct setup {
  parameters layout{small};
  std::vector<double> weights = std::vector<double>(layout.size()), gradient = weights, input, direction;
  block_workspace<double> space{small};
  block_pass<double> pass{small};

  setup() {
    quern::rng g(5);
    for (const tensor& t : layout.tensors())
      for (std::size_t i = 0; i < t.size(); ++i)
        weights[t.offset + i] = (t.rows == 1 ? 1.0 : 0.0) + static_cast<double>(g.normal()) / 3;
    for (auto* v : {&input, &direction})
      for (std::size_t i = 0; i < small.context * small.width; ++i)
        v->push_back(static_cast<double>(g.normal()));
  }
  block_tensors<const double> block() const {
    return tensors_of(std::span<const double>(weights), layout, small.layers).blocks[0];
  }
  block_tensors<double> dblock() { return tensors_of(std::span(gradient), layout, small.layers).blocks[0]; }
  static span2<double> view(std::vector<double>& v) { return {v.data(), small.context, small.width}; }
  void forward(int half, std::vector<double>& stream) {
    if (half != 1) pass.forward_attention(block(), view(stream), space);
    if (half != 0) pass.forward_mlp(block(), view(stream));
  }
  void backward(int half, std::vector<double>& dstream) {
    if (half != 0) pass.backward_mlp(block(), view(dstream), dblock(), space);
    if (half != 1) pass.backward_attention(block(), view(dstream), dblock(), space);
  }
  /// The output along a fixed direction: a function of weights and input with an easy derivative.
  double value(int half) {
    std::vector<double> stream = input;
    forward(half, stream);
    return std::inner_product(stream.begin(), stream.end(), direction.begin(), 0.0);
  }
};

}  // namespace

TEST_CASE("each half and both: weights and input against central differences") {
  for (const int half : {0, 1, 2}) {  // attention, mlp, both
    CAPTURE(half);
    setup s;
    s.value(half);
    std::vector<double> dinput = s.direction;
    s.backward(half, dinput);
    // Values are of order 30 with curvature of order one: h = 1e-5 rounds by 30 eps / h = 7e-10 and truncates by
    // h^2 = 1e-10 times third derivatives up to 1e2.
    const double h = 1e-5;
    double error = 0, norm = 0;
    const auto compare = [&](double& x, double gradient) {
      const double at = x;
      x = at + h;
      const double above = s.value(half);
      x = at - h;
      const double below = s.value(half);
      x = at;
      const double quotient = (above - below) / (2 * h);
      error += (quotient - gradient) * (quotient - gradient);
      norm += quotient * quotient;
    };
    const tensor& first = s.layout.block(0, slot::attn_norm);
    const tensor& end = s.layout.block(1, slot::attn_norm);
    for (std::size_t i = first.offset; i < end.offset; ++i) compare(s.weights[i], s.gradient[i]);
    for (std::size_t i = 0; i < s.input.size(); ++i) compare(s.input[i], dinput[i]);
    CHECK(norm > 1);
    CHECK(std::sqrt(error / norm) < 1e-7);
  }
}

TEST_CASE("a gradient without some tensors changes no bit of the others") {
  setup whole, part;
  std::vector<double> a = whole.direction, b = part.direction;
  whole.value(2);
  whole.backward(2, a);
  part.value(2);
  block_tensors<double> wanted = part.dblock();
  wanted.attn_norm = wanted.ffn_norm = {};
  wanted.attn_k = wanted.ffn_down = {};
  part.pass.backward(part.block(), setup::view(b), wanted, part.space);
  CHECK(a == b);
  for (const slot s : {slot::attn_norm, slot::ffn_norm, slot::attn_k, slot::ffn_down}) {
    const tensor& t = whole.layout.block(0, s);
    for (std::size_t i = t.offset; i < t.offset + t.size(); ++i) {
      CHECK(part.gradient[i] == 0);
      whole.gradient[i] = 0;
    }
  }
  CHECK(part.gradient == whole.gradient);
}

TEST_CASE("blocks may share one gradient buffer that is emptied as each is finished") {
  setup s;
  const std::vector<std::int32_t> ids{1, 4, 2, 6, 0};
  sequence_pass<double> pass(small);
  const auto logits = pass.forward(s.weights, ids);
  std::vector<double> dlogits(ids.size() * small.vocab);
  for (std::size_t i = 0; i < dlogits.size(); ++i)
    dlogits[i] = logits.data()[i] - 0.1 * static_cast<double>(i % 3);
  const span2<const double> d(dlogits.data(), ids.size(), small.vocab);
  pass.backward(s.weights, d, s.gradient);

  const auto weights = tensors_of(std::span<const double>(s.weights), s.layout, small.layers);
  model_tensors<double> one;
  // All blocks write where block 0 of a flat gradient lies.
  std::vector<double> flat(s.layout.size());
  one.blocks.assign(small.layers, tensors_of(std::span(flat), s.layout, small.layers).blocks[0]);
  std::vector<std::size_t> order;
  const std::size_t begin = s.layout.block(0, slot::attn_norm).offset;
  pass.forward(weights, ids);
  pass.backward(weights, d, one, [&](std::size_t layer) {
    order.push_back(layer);
    const std::size_t at = s.layout.block(layer, slot::attn_norm).offset;
    for (std::size_t i = 0; i < s.layout.block(1, slot::attn_norm).offset - begin; ++i) {
      CHECK(flat[begin + i] == s.gradient[at + i]);
      flat[begin + i] = 0;
    }
  });
  CHECK(order == std::vector<std::size_t>{1, 0});
}
