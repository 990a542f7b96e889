// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <llama/train_model.hpp>
#include <quern/core/rng.hpp>
#include <quern/metric/cross_entropy.hpp>
#include <vector>

namespace {

struct setup {
  llama::config shape;
  llama::parameters layout;
  std::vector<double> weights, gradient;
  std::vector<std::int32_t> ids, targets;
  llama::sequence_pass<double> pass;

  explicit setup(const llama::config& c)
      : shape(c), layout(c), weights(layout.size()), gradient(layout.size()), pass(c) {
    // Weights of order one wherever they are divided by a norm: a small embedding would be scaled up by
    // RMSNorm and make the loss so curved that differences need another step than the rest.
    quern::rng random(3);
    for (const llama::tensor& t : layout.tensors())
      for (std::size_t i = 0; i < t.size(); ++i)
        weights[t.offset + i] = t.rows == 1
                                    ? 1 + 0.2 * static_cast<double>(random.normal())
                                    : static_cast<double>(random.normal()) /
                                          (&t == &layout.embedding() ? 1.0 : std::sqrt(double(t.cols)));
    for (std::size_t i = 0; i < c.context; ++i) {
      ids.push_back(static_cast<std::int32_t>(random.below(c.vocab)));
      targets.push_back(static_cast<std::int32_t>(random.below(c.vocab)));
    }
  }
  double loss() {
    const auto logits = pass.forward(weights, ids);
    return quern::cross_entropy_gradient<double>(logits, targets, 1.0, pass.dlogits());
  }
};

/// More positions than a block of attention, a last block that is not full, and groups of two query heads.
llama::config small(bool tied) {
  return {.vocab = 11,
          .width = 12,
          .layers = 2,
          .ffn = 10,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 6,
          .context = llama::attention_rows + 5,
          .rope_base = 100.0f,
          .rms_epsilon = 1e-5f,
          .tied = tied};
}

}  // namespace

TEST_CASE("every parameter tensor against central differences in double") {
  for (const bool tied : {true, false}) {
    setup s(small(tied));
    s.loss();
    s.pass.backward(s.weights, s.pass.dlogits(), s.gradient);
    for (const llama::tensor& t : s.layout.tensors()) {
      CAPTURE(t.name);
      CAPTURE(tied);
      // The loss is a sum of 69 terms, about 200. With step h the difference quotient rounds by
      // eps * 200 / h = 4e-14 / h and truncates by h^2 f''' / 6; h = 2e-5 gives 2e-9 and, for third
      // derivatives up to 1e3, 7e-8. Gradients of a tensor have norms of 1 and more, so 1e-6 of the norm is a
      // sound bound where 1e-5 is asked for.
      const double h = 2e-5;
      double error = 0, norm = 0;
      for (std::size_t i = t.offset; i < t.offset + t.size(); ++i) {
        const double at = s.weights[i];
        s.weights[i] = at + h;
        const double above = s.loss();
        s.weights[i] = at - h;
        const double below = s.loss();
        s.weights[i] = at;
        const double quotient = (above - below) / (2 * h);
        error += (quotient - s.gradient[i]) * (quotient - s.gradient[i]);
        norm += quotient * quotient;
      }
      CHECK(norm > 0.1);
      CHECK(std::sqrt(error / norm) <= 1e-6);
    }
  }
}

TEST_CASE("backward adds to the gradient") {
  setup s(small(true));
  s.loss();
  s.pass.backward(s.weights, s.pass.dlogits(), s.gradient);
  const auto once = s.gradient;
  s.loss();
  s.pass.backward(s.weights, s.pass.dlogits(), s.gradient);
  // The second pass adds term by term onto the first, so that partial sums round differently: a few hundred
  // terms.
  double largest = 0;
  for (const double g : once) largest = std::max(largest, std::abs(g));
  for (std::size_t i = 0; i < once.size(); ++i)
    CHECK(std::abs(s.gradient[i] - 2 * once[i]) <= 1000 * 2.3e-16 * largest);
}

TEST_CASE("float agrees with double") {
  setup s(small(false));
  const double exact = s.loss() / static_cast<double>(s.ids.size());
  llama::sequence_pass<float> pass(s.shape);
  const std::vector<float> weights(s.weights.begin(), s.weights.end());
  const auto logits = pass.forward(weights, s.ids);
  const double rounded = quern::cross_entropy_gradient<float>(logits, s.targets, 1.f, pass.dlogits()) /
                         static_cast<double>(s.ids.size());
  // Two blocks of about a dozen operations on values of order ten, each of relative error 6e-8.
  CHECK(std::abs(exact - rounded) <= 24 * 10 * 6e-8);
}

TEST_CASE("wrong sizes and ids are refused") {
  setup s(small(true));
  const std::span<const std::int32_t> none;
  CHECK_THROWS_AS(s.pass.forward(s.weights, none), quern::shape_error);
  const std::vector<std::int32_t> many(s.shape.context + 1);
  CHECK_THROWS_AS(s.pass.forward(s.weights, many), quern::shape_error);
  CHECK_THROWS_AS(s.pass.forward(std::span(s.weights).first(5), s.ids), quern::shape_error);
  for (const std::int32_t bad : {-1, 11}) {
    s.ids[3] = bad;
    CHECK_THROWS_AS(s.pass.forward(s.weights, s.ids), quern::shape_error);
  }
  auto odd = small(true);
  odd.head_dim = 5;
  CHECK_FALSE(llama::check(odd));
  odd = small(true);
  odd.kv_heads = 3;
  CHECK_FALSE(llama::check(odd));
  odd = small(true);
  odd.vocab = 0;
  CHECK_FALSE(llama::check(odd));
  odd.vocab = ~std::size_t{0};
  CHECK_FALSE(llama::check(odd));
}
