// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <llama/compress_model.hpp>
#include <llama/evaluate.hpp>
#include <llama/load.hpp>
#include <llama/packed.hpp>
#include <llama/retrain_ends.hpp>
#include <llama/slorb_linear.hpp>
#include <llama/tune_model.hpp>
#include <quern/dense/matrix.hpp>

#include "retrain_fixture.hpp"

using namespace retrain_test;
using quern::span2;

namespace {

llama::linear random_linear(std::size_t rows, std::size_t cols, quern::rng& g) {
  std::vector<float> v(rows * cols);
  for (float& x : v) x = g.normal();
  return llama::dense_linear(std::move(v), rows, cols);
}

/// A model with side weights after a few steps: masks, S and W are no longer what they began as.
llama::retrainer trained(bool projection) {
  auto o = options();
  o.slorb = 8, o.train_projection = projection;
  auto r = fresh(o);
  run(r, 6);
  return r;
}

llama::tokenizer words() {
  return llama::load_tokenizer(QUERN_SOURCE_DIR "/examples/data/quern-kjv-3m.safetensors").value();
}

const llama::format_ops* half_side() { return llama::find_format("dense", "real<bf16>"); }

}  // namespace

TEST_CASE("one call multiplies both parts: the product with what row() says the matrix is") {
  quern::rng g(41);
  quern::thread_pool pool(2);
  for (const bool projection : {false, true})
    for (const std::size_t n : {1u, 5u}) {
      const llama::linear w =
          llama::slorb_linear({.sparse = random_linear(24, 40, g),
                               .side = random_linear(24, 3, g),
                               .projection = projection ? random_linear(3, 40, g) : llama::linear(),
                               .k = 16});
      CHECK(w.bytes() == (24 * 40 + 24 * 3 + (projection ? 3 * 40 : 0)) * sizeof(float));
      std::vector<float> matrix(24 * 40), x(n * 40), y(n * 24);
      for (std::size_t r = 0; r < 24; ++r) w.row(r, std::span(matrix).subspan(r * 40, 40));
      for (float& v : x) v = g.normal();
      llama::input in;
      in.assign({x.data(), n, 40}, llama::activation::f32);
      llama::multiply(in, {{&w, {y.data(), n, 24}}}, pool);
      const Eigen::MatrixXf expected =
          quern::eigen_map(span2<const float>(x.data(), n, 40)) *
          quern::eigen_map(span2<const float>(matrix.data(), 24, 40)).transpose();
      // 40 products of order one, and sums of 16 inputs times side weights: 100 roundings of values below 50.
      CHECK((expected - quern::eigen_map(span2<const float>(y.data(), n, 24))).cwiseAbs().maxCoeff() <
            100 * 6e-8f * 50);
    }
  CHECK_THROWS_AS(
      llama::slorb_linear(
          {.sparse = random_linear(4, 40, g), .side = random_linear(4, 2, g), .projection = {}, .k = 16}),
      quern::shape_error);
}

TEST_CASE("a file with side weights is read as it was written, and computes what training computed") {
  const scratch_folder folder;
  quern::thread_pool pool(2);
  for (const bool projection : {false, true}) {
    llama::retrainer r = trained(projection);
    const llama::model m = llama::retrained_model(r, shape, half_side(), pool);
    llama::save(folder.file("model"), m, words(), {}).value();
    const llama::model back = llama::load(folder.file("model"), pool).value();
    CHECK(llama::flatten(back) == llama::flatten(m));
    REQUIRE(llama::slorb_of(back.blocks[1].ffn_down) != nullptr);
    CHECK(back.blocks[0].attn_q.bytes() ==
          llama::slorb_of(back.blocks[0].attn_q)->sparse.bytes() +
              llama::slorb_of(back.blocks[0].attn_q)->side.bytes() +
              (projection ? llama::slorb_of(back.blocks[0].attn_q)->projection.bytes() : 0));
    const double trained_loss = loss_of(r);
    const double file_loss = llama::evaluate(back, held_out(), {.context = 32}, pool).value().nll;
    // S is rounded to bf16, 2^-9 of side weights that are a few percent of the weights' size.
    CHECK(std::abs(trained_loss - file_loss) < 1e-2);
  }
}

TEST_CASE("damaged side weights are refused with their name") {
  const scratch_folder folder;
  quern::thread_pool pool(1);
  llama::retrainer r = trained(false);
  llama::save(folder.file("model"), llama::retrained_model(r, shape, half_side(), pool), words(), {}).value();
  const std::string good = bytes_of(folder.file("model"));
  const auto loaded = [&](const std::string& from, const std::string& to) {
    std::string changed = good;
    REQUIRE(changed.find(from) != std::string::npos);
    changed.replace(changed.find(from), from.size(), to);
    std::ofstream(folder.file("bad"), std::ios::binary) << changed;
    return llama::load(folder.file("bad"), pool);
  };
  CHECK_FALSE(loaded("\"quern.slorb.group\":\"8\"", "\"quern.slorb.group\":\"7\""));
  CHECK_FALSE(loaded("\"quern.slorb.group\":\"8\"", "\"quern.slorb.group\":\"x\""));
  CHECK_FALSE(loaded("\"quern.slorb.group\":\"8\"", "\"quern.slorb.group\":\"0\""));
  // A group that no matrix has: sums of it and of a size wrap.
  llama::save(folder.file("huge"), llama::model_of(shape, dense_weights()), words(),
              {{"quern.slorb.group", "18446744073709551615"}})
      .value();
  const auto huge = llama::load(folder.file("huge"), pool);
  REQUIRE_FALSE(huge);
  CHECK(std::string(huge.error().what()).find("no number of inputs 1..1048576") != std::string::npos);
}

TEST_CASE("every 2:4 format of the programs keeps the masks that training found, rounded either way") {
  quern::thread_pool pool(2);
  llama::retrainer r = trained(false);
  const llama::model sparse = llama::retrained_model(r, shape, half_side(), pool);
  const auto ids = walk(32 * 32, 3);
  std::size_t formats = 0;
  for (const llama::format_ops* f : llama::all_formats()) {
    if (f->pattern != "nm<2,4>") continue;
    ++formats;
    CAPTURE(f->quantizer);
    for (const quern::rounding round : {quern::rounding::rtn, quern::rounding::gptq}) {
      llama::model m = sparse;
      llama::compress_plan plan{.format = f,
                                .options = {.round = round, .choose = quern::timing::given},
                                .context = 32,
                                .windows = 16};
      const auto report = llama::compress_model(m, ids, plan, pool, {}).value();
      std::size_t broken = 0, bytes = 0;
      for (std::size_t i = 0; i < r.linear_count(); ++i) {
        const llama::linear& w = m.blocks[i / 7].*llama::block_linears[i % 7].weight;
        const llama::slorb_weight* const parts = llama::slorb_of(w);
        REQUIRE(parts != nullptr);
        REQUIRE(llama::packed_of(parts->sparse) != nullptr);
        bytes += parts->sparse.bytes() + parts->side.bytes();
        std::vector<float> row(w.cols());
        for (std::size_t a = 0; a < w.rows(); ++a) {
          parts->sparse.row(a, row);
          for (std::size_t b = 0; b < row.size(); ++b)
            broken += row[b] != 0 && !r.masks()[i].now()(a, b) ? 1 : 0;
        }
      }
      CHECK(broken == 0);
      std::size_t reported = 0;
      for (const auto& l : report.linears) reported += l.bytes;
      CHECK(reported == bytes);  // side weights count
    }
  }
  CHECK(formats >= 5);
}

TEST_CASE("2:4, four bits and side weights in one file: it is read, runs, and generates") {
  const scratch_folder folder;
  quern::thread_pool pool(2);
  llama::retrainer r = trained(false);
  llama::model m = llama::retrained_model(r, shape, half_side(), pool);
  const double before = llama::evaluate(m, held_out(), {.context = 32}, pool).value().nll;
  llama::compress_plan plan{.format = llama::find_format("nm<2,4>", "affine<4,16>"),
                            .options = {.choose = quern::timing::given},
                            .context = 32,
                            .windows = 16};
  llama::compress_model(m, walk(32 * 32, 3), plan, pool, {}).value();
  llama::save(folder.file("small"), m, words(), {}).value();
  const llama::model back = llama::load(folder.file("small"), pool).value();
  CHECK(back.bytes() == m.bytes());
  CHECK(llama::flatten(back) == llama::flatten(m));
  const double after = llama::evaluate(back, held_out(), {.context = 32}, pool).value().nll;
  MESSAGE("nats: 2:4 with side weights ", before, ", and four bits ", after);
  CHECK(after < before + 0.2);  // four bits a run of 16 cost a few percent; losing a matrix costs nats
  const std::vector<std::int32_t> prompt{1, 2, 3};
  llama::generate_options eight;
  eight.tokens = 8;
  CHECK(llama::generate(back, prompt, eight, pool).ids.size() == 8);
}

TEST_CASE("side weights are refused by what would lose them") {
  quern::thread_pool pool(2);
  llama::retrainer r = trained(false);
  llama::model m = llama::retrained_model(r, shape, half_side(), pool);
  const auto ids = walk(32 * 32, 3);
  llama::compress_plan plan{.format = llama::find_format("nm<2,4>", "affine<4,16>"),
                            .options = {.choose = quern::timing::given},
                            .context = 32,
                            .windows = 16};
  const auto refused = [&](const auto& done) {
    REQUIRE_FALSE(done);
    CHECK(std::string(done.error().what()).find("blk.0.attn_q has side weights") != std::string::npos);
  };
  const scratch_folder folder;
  plan.checkpoint = folder.file("blocks");
  refused(llama::compress_model(m, ids, plan, pool, {}));
  plan.checkpoint.clear();
  plan.training.emplace();
  refused(llama::compress_model(m, ids, plan, pool, {}));
  refused(llama::tune_model(m, nullptr, ids, {.tune = {.steps = 1}, .context = 32}, pool, {}));
}

TEST_CASE("one-shot starts: zeros where they prune, the dense weights for magnitude") {
  quern::thread_pool pool(2);
  const llama::model m = llama::model_of(shape, dense_weights());
  const auto ids = walk(32 * 64, 4);
  const auto start = [&](llama::one_shot kind) {
    return llama::one_shot_weights(m, ids, {.start = kind, .windows = 16, .context = 32}, pool).value();
  };
  CHECK(start(llama::one_shot::magnitude) == dense_weights());
  const auto wanda = start(llama::one_shot::wanda), gpt = start(llama::one_shot::sparsegpt);
  const llama::parameters layout(shape);
  const auto& t = layout.block(1, llama::slot::ffn_up);
  std::size_t moved = 0;
  for (std::size_t i = t.offset; i < t.offset + t.size(); ++i) {
    if (wanda[i] != 0) REQUIRE(wanda[i] == dense_weights()[i]);  // Wanda moves nothing
    moved += gpt[i] != 0 && gpt[i] != dense_weights()[i] ? 1 : 0;
  }
  CHECK(moved > t.size() / 4);  // SparseGPT makes up for what it prunes
  for (const auto* w : {&wanda, &gpt}) {
    const auto view = llama::view(std::span<const float>(*w), t);
    const auto mask = quern::surviving_units(view, quern::shape_of<quern::nm<2, 4>>()).value();
    CHECK(quern::count(mask) == t.size() / 2);
  }
  // Side weights restore the dense group sums, also where SparseGPT has moved weights.
  auto o = options();
  o.slorb = 8;
  auto from = retrain_test::start();
  from.weights = gpt;
  llama::retrainer r(shape, o, texts(), from);
  const auto effective = r.effective(pool);
  for (std::size_t row = 0; row < t.rows; ++row)
    for (std::size_t g = 0; g < t.cols; g += 8) {
      double sum = 0;
      for (std::size_t c = g; c < g + 8; ++c)
        sum += static_cast<double>(effective[t.offset + row * t.cols + c]) -
               static_cast<double>(dense_weights()[t.offset + row * t.cols + c]);
      CHECK(std::abs(sum) < 1e-6 * 8);  // 8 weights of order one, each rounded once
    }
  CHECK_FALSE(llama::shape_of_pattern("nm<4,2>"));
}
