// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <llama/calibrate.hpp>
#include <llama/compress_head.hpp>
#include <llama/compress_model.hpp>
#include <llama/packed.hpp>
#include <llama/tiny_model.hpp>
#include <string>

namespace {

using namespace llama;

using llama_test::random_ids;
using llama_test::random_model;
using llama_test::tiny;
using llama_test::values;

compress_plan plan_of(const char* pattern, const char* quantizer) {
  compress_plan plan;
  plan.format = find_format(pattern, quantizer);
  REQUIRE(plan.format != nullptr);
  plan.context = 16, plan.windows = 8;
  return plan;
}

}  // namespace

TEST_CASE("every linear is replaced, counted and reported; embedding and norms stay") {
  quern::thread_pool pool(2);
  const auto ids = random_ids(128);
  model m = random_model(92);
  const linear head = m.head;
  compress_plan plan = plan_of("group<16>", "affine<4,16>");
  plan.keep_dense = "blk\\.1\\.attn_[qk]$";
  std::vector<std::string> seen;
  const auto report = compress_model(m, ids, plan, pool, [&](const compressed_linear& l) {
                        seen.push_back(l.name);
                        return true;
                      }).value();
  REQUIRE(report.linears.size() == 14);
  CHECK(seen.front() == "blk.0.attn_q");
  CHECK(seen.back() == "blk.1.ffn_down");
  CHECK(report.tokens == 128);
  CHECK(values(m.head) == values(head));
  double bits = 0, weights = 0;
  for (const compressed_linear& l : report.linears) {
    const bool kept = l.name == "blk.1.attn_q" || l.name == "blk.1.attn_k";
    CHECK(l.kept == kept);
    if (kept) continue;
    CHECK(l.error > 0);
    CHECK(l.error < 1);
    bits += 8 * static_cast<double>(l.bytes);
    weights += static_cast<double>(l.rows * l.cols);
  }
  CHECK(report.bits_per_weight() == bits / weights);
  CHECK(packed_of(m.blocks[1].attn_q) == nullptr);
  REQUIRE(packed_of(m.blocks[1].attn_v) != nullptr);
  CHECK(packed_of(m.blocks[1].attn_v)->format == plan.format);
  CHECK(m.blocks[0].ffn_down.bytes() == report.linears[6].bytes);
}

TEST_CASE("the first position weighs more where it is an attention sink") {
  quern::thread_pool pool(1);
  llama::model m = llama_test::random_model(7);
  std::vector<std::int32_t> ids = llama_test::random_ids(32);
  ids[0] = 63;
  for (std::size_t i = 1; i < ids.size(); ++i) ids[i] %= 63;
  CHECK(llama::sink_weight_of(m, ids, 32, pool) == 1);
  std::vector<float> rows = llama_test::values(m.embedding);
  for (std::size_t c = 0; c < m.shape.width; ++c) rows[63 * m.shape.width + c] *= 30;
  m.embedding = llama::dense_linear(std::move(rows), m.shape.vocab, m.shape.width);
  CHECK(llama::sink_weight_of(m, ids, 32, pool) == 256);
  CHECK(llama::sink_weight_of(m, std::span(ids).first(1), 32, pool) == 1);
}

TEST_CASE("a format that loses nothing changes nothing, whatever the calibration") {
  quern::thread_pool pool(2);
  const auto ids = random_ids(128);
  const model before = random_model(93);
  for (const bool sequential : {false, true}) {
    model m = before;
    compress_plan plan = plan_of("dense", "real<f32>");
    plan.sequential = sequential;
    const auto report = compress_model(m, ids, plan, pool, {}).value();
    CHECK(report.mean_error() == 0);
    for (std::size_t l = 0; l < tiny.layers; ++l)
      for (const named_linear& n : block_linears)
        CHECK(values(m.blocks[l].*n.weight) == values(before.blocks[l].*n.weight));
  }
}

TEST_CASE("the result does not depend on the number of threads; a sequential prefix does matter") {
  const auto ids = random_ids(128);
  const auto compressed = [&](std::size_t threads, bool sequential) {
    quern::thread_pool pool(threads);
    model m = random_model(94);
    compress_plan plan = plan_of("nm<2,4>", "affine<4,16>");
    plan.sequential = sequential;
    compress_model(m, ids, plan, pool, {}).value();
    return values(m.blocks[1].ffn_down);
  };
  const auto one = compressed(1, false);
  CHECK(one == compressed(3, false));
  CHECK(one != compressed(1, true));
}

TEST_CASE("bad input is an error that says where; a stop is a stop") {
  quern::thread_pool pool(1);
  const auto ids = random_ids(128);
  const auto message = [&](model m, const compress_plan& plan, std::span<const std::int32_t> text) {
    const auto r = compress_model(m, text, plan, pool, {});
    REQUIRE_FALSE(r);
    return std::string(r.error().what());
  };
  const compress_plan plan = plan_of("group<16>", "affine<4,16>");
  CHECK(message(random_model(95), plan, std::span(ids).first(127)).find("127 tokens") != std::string::npos);
  compress_plan bad = plan;
  bad.keep_dense = "(";
  CHECK(message(random_model(95), bad, ids).find("regular expression") != std::string::npos);
  bad = plan;
  bad.format = nullptr;
  CHECK(message(random_model(95), bad, ids).find("format") != std::string::npos);

  model m = random_model(95);
  m.blocks[1].ffn_norm[3] = std::numeric_limits<float>::quiet_NaN();
  const std::string activations = message(m, plan, ids);
  CHECK(activations.find("blk.1.ffn_gate") != std::string::npos);
  CHECK(activations.find("input 3 of position 0") != std::string::npos);

  m = random_model(95);
  auto v = values(m.blocks[1].ffn_down);
  v[5 * tiny.ffn + 7] = std::numeric_limits<float>::infinity();
  m.blocks[1].ffn_down = dense_linear(std::move(v), tiny.width, tiny.ffn);
  const std::string weights = message(m, plan, ids);
  CHECK(weights.find("blk.1.ffn_down") != std::string::npos);
  CHECK(weights.find("row 5 column 7") != std::string::npos);

  m = random_model(95);
  const auto stopped =
      compress_model(m, ids, plan, pool, [](const compressed_linear&) { return false; }).value();
  CHECK(stopped.interrupted);
  CHECK(stopped.linears.size() == 1);
}

TEST_CASE(
    "a compressed head is the embedding's codes, and fits the hidden states better than rounding does") {
  quern::thread_pool pool(2);
  const auto ids = random_ids(128);
  const format_ops& format = *find_format("dense", "affine<4,16>");
  compress_plan plan = plan_of("group<16>", "affine<4,16>");
  const auto lost = [&](quern::rounding round) {
    model m = random_model(96);
    plan.options.round = round;
    const double error = compress_head(m, ids, format, plan, pool).value();
    REQUIRE(packed_of(m.head) != nullptr);
    CHECK(packed_of(m.head)->format == &format);
    CHECK(values(m.head) == values(m.embedding));
    CHECK(packed_of(m.blocks[0].attn_q) == nullptr);
    return error;
  };
  const double rounded = lost(quern::rounding::rtn), fitted = lost(quern::rounding::gptq);
  CHECK(fitted > 0);
  CHECK(fitted < rounded);
  CHECK(rounded < 0.02);

  model apart = random_model(96);
  apart.shape.tied = false;
  const auto embedding = values(apart.embedding);
  compress_head(apart, ids, format, plan, pool).value();
  CHECK(values(apart.embedding) == embedding);
  CHECK(values(apart.head) != embedding);

  model m = random_model(96);
  const auto few = compress_head(m, std::span(ids).first(127), format, plan, pool);
  REQUIRE_FALSE(few);
  CHECK(std::string(few.error().what()).find("127 tokens") != std::string::npos);
  m.output_norm[3] = std::numeric_limits<float>::quiet_NaN();
  const auto broken = compress_head(m, ids, format, plan, pool);
  REQUIRE_FALSE(broken);
  CHECK(std::string(broken.error().what()).find("input 3 of position 0") != std::string::npos);
}
