// SPDX-License-Identifier: Apache-2.0
// What packed linears multiply with: shared between the linears that read one input, and what it costs in nats.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <llama/evaluate.hpp>
#include <llama/load.hpp>
#include <llama/pack_linear.hpp>
#include <quern/core/rng.hpp>
#include <string>
#include <vector>

namespace {

using llama::activation;

/// One format of every kind of kernel: codes that all rows share, that rows choose, N:M, and none for whole numbers.
constexpr struct {
  const char *pattern, *quantizer;
  bool int8, int24;
} kinds[] = {{"dense", "affine<4,32,f16_offset>", true, true},  {"dense", "symmetric<8,32>", true, false},
             {"bsr<16,32>", "affine<4,32>", true, true},        {"group<16>", "affine<4,16>", true, false},
             {"group_nm<2,4,16>", "affine<4,16>", true, false}, {"nm<2,4>", "affine<4,32>", true, false},
             {"dense", "codebook<nf4,64>", false, false},       {"dense", "real<bf16>", false, false}};

llama::linear random_linear(std::size_t rows, std::size_t cols, quern::rng& random) {
  std::vector<float> w(rows * cols);
  for (float& v : w) v = random.normal();
  return llama::dense_linear(std::move(w), rows, cols);
}

}  // namespace

TEST_CASE("linears that share an input give what each gives alone, with any number of threads") {
  quern::rng random(3);
  // Together above quern::grain_weights, so that threads do share the work; the small ones alone are below it.
  constexpr std::size_t rows[] = {1000, 17, 260}, cols = 352;
  quern::thread_pool serial(1), two(2), three(3);
  for (const auto& k : kinds) {
    const llama::format_ops& format = *llama::find_format(k.pattern, k.quantizer);
    std::vector<llama::linear> w;
    for (const std::size_t r : rows)
      w.push_back(
          llama::packed_linear(quern_test::pack_linear(random_linear(r, cols, random), format, serial)));
    CHECK(w[0].reads(activation::int8, 1).prepared == k.int8);
    CHECK(w[0].reads(activation::int24, 1).prepared == k.int24);
    CHECK_FALSE(w[0].reads(activation::int24, llama::panel_batch).prepared);
    CHECK_FALSE(w[0].reads(activation::f32, 1).prepared);
    for (const std::size_t n : {1u, 3u, 5u, 19u}) {
      std::vector<float> x(n * cols);
      for (float& v : x) v = random.normal();
      const llama::span2<const float> in(x.data(), n, cols);
      for (const auto& [name, kind] : llama::activation_names) {
        CAPTURE(format.pattern);
        CAPTURE(format.quantizer);
        CAPTURE(std::string(name));
        CAPTURE(n);
        std::vector<std::vector<float>> alone;
        for (const llama::linear& l : w) {
          llama::input fresh;
          fresh.assign(in, kind);
          alone.emplace_back(n * l.rows());
          llama::multiply(fresh, {{&l, {alone.back().data(), n, l.rows()}}}, serial);
        }
        llama::input shared;
        for (quern::thread_pool* pool : {&serial, &two, &three}) {
          std::vector<std::vector<float>> y;
          for (const llama::linear& l : w) y.emplace_back(n * l.rows(), -1.0f);
          shared.assign(in, kind);
          llama::multiply(shared,
                          {{&w[0], {y[0].data(), n, rows[0]}},
                           {&w[1], {y[1].data(), n, rows[1]}},
                           {&w[2], {y[2].data(), n, rows[2]}}},
                          *pool);
          CHECK(y == alone);
        }
      }
    }
  }
}

TEST_CASE("an input is prepared again for a linear that reads more of it") {
  quern::rng random(6);
  constexpr std::size_t rows = 33, cols = 160;
  quern::thread_pool pool(1);
  std::vector<float> x(cols), y(rows), alone(rows);
  for (float& v : x) v = random.normal();
  llama::input shared;
  shared.assign({x.data(), 1, cols}, activation::int8);
  for (const auto& k : kinds) {  // first those that read codes only, then those that read tables, too
    CAPTURE(k.pattern);
    const llama::linear w = llama::packed_linear(quern_test::pack_linear(
        random_linear(rows, cols, random), *llama::find_format(k.pattern, k.quantizer), pool));
    llama::input fresh;
    fresh.assign({x.data(), 1, cols}, activation::int8);
    llama::multiply(fresh, {{&w, {alone.data(), 1, rows}}}, pool);
    llama::multiply(shared, {{&w, {y.data(), 1, rows}}}, pool);
    CHECK(y == alone);
  }
}

TEST_CASE(
    "int8 products are those of the rounded inputs, those of floats and of 24 bits those of the inputs") {
  quern::rng random(4);
  constexpr std::size_t rows = 33, cols = 160;
  quern::thread_pool pool(1);
  for (const auto& k : kinds) {
    const llama::linear w = llama::packed_linear(quern_test::pack_linear(
        random_linear(rows, cols, random), *llama::find_format(k.pattern, k.quantizer), pool));
    const std::vector<float> values = quern_test::values_of(w);
    for (const std::size_t n : {1u, 4u, 13u}) {
      std::vector<float> x(n * cols), y(n * rows);
      for (float& v : x) v = random.normal();
      for (const activation kind : {activation::f32, activation::int24, activation::int8}) {
        CAPTURE(k.pattern);
        CAPTURE(k.quantizer);
        CAPTURE(n);
        llama::input in;
        in.assign({x.data(), n, cols}, kind);
        llama::multiply(in, {{&w, {y.data(), n, rows}}}, pool);
        const bool rounded = k.int8 && kind == activation::int8;
        const auto codes = in.view<quern::int8_groups<32>>();
        for (std::size_t t = 0; t < n; ++t)
          for (std::size_t r = 0; r < rows; ++r) {
            double sum = 0, size = 0;
            for (std::size_t c = 0; c < cols; ++c) {
              const double term = static_cast<double>(values[r * cols + c]) *
                                  static_cast<double>(rounded ? codes.value(t, c) : x[t * cols + c]);
              sum += term;
              size += std::abs(term);
            }
            // n eps sum|w||x|; kernels sum code times input and subtract zero times input apart, each at most
            // 16 times the difference (4 bits). 24 bits round an input by 2^-22 of the largest, which is far less.
            CHECK(std::abs(static_cast<double>(y[t * rows + r]) - sum) <= 32 * cols * 6e-8 * size);
          }
      }
    }
  }
}

TEST_CASE("a linear of another shape than its input is refused") {
  quern::rng random(5);
  quern::thread_pool pool(1);
  const llama::linear w = random_linear(3, 4, random);
  std::vector<float> x(5), y(3);
  llama::input in;
  in.assign({x.data(), 1, 5}, activation::int8);
  CHECK_THROWS_AS(llama::multiply(in, {{&w, {y.data(), 1, 3}}}, pool), quern::shape_error);
  in.assign({x.data(), 1, 4}, activation::int8);
  CHECK_THROWS_AS(llama::multiply(in, {{&w, {y.data(), 1, 2}}}, pool), quern::shape_error);
}

TEST_CASE("the embedded model loses little by int8 activations") {
  const std::string folder = std::string(QUERN_SOURCE_DIR) + "/examples/data/";
  quern::thread_pool pool;
  llama::model m = llama::load(folder + "quern-kjv-3m.safetensors", pool).value();
  for (llama::block& b : m.blocks)
    for (const llama::named_linear& l : llama::block_linears)
      b.*l.weight = llama::packed_linear(
          quern_test::pack_linear(b.*l.weight, *llama::find_format("dense", "affine<4,32>"), pool));
  std::ifstream file(folder + "held_out.txt", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto ids = llama::tokenizer::bytes().encode(text);
  double nll[std::size(llama::activation_names)];
  for (std::size_t i = 0; i < std::size(nll); ++i) {
    m.activations = llama::activation_names[i].kind;
    nll[i] = llama::evaluate(m, ids, {.context = 512, .windows = 8}, pool).value().nll;
    MESSAGE(std::string(llama::activation_names[i].name) << ": " << nll[i] << " nats per byte");
  }
  // Rounding an input to int8 with a scale per 32 moves a product by .6 % of its size (.0054 measured on Gaussian
  // inputs). Layers add up like noise: 4 blocks of 7 linears give sqrt(28) * .6 % = 3.2 % of logits that differ by
  // about 3 from byte to byte, .1; noise of standard deviation s raises the mean of log sum exp by at most s^2 / 2,
  // .005 nats, and the mean over 4,000 bytes has a standard error of .1 / sqrt(4000) = .002 beside that.
  CHECK(std::abs(nll[static_cast<std::size_t>(activation::int8)] - nll[0]) <= 0.01);
  // Batches are taken as floats.
  for (const activation kind : {activation::bf16, activation::int24})
    CHECK(nll[static_cast<std::size_t>(kind)] == nll[0]);
  CHECK(nll[static_cast<std::size_t>(activation::int8)] != nll[0]);  // it was used
}
