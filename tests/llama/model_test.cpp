// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <llama/load.hpp>
#include <llama/model.hpp>
#include <llama/sampler.hpp>
#include <llama/train_model.hpp>
#include <quern/core/half.hpp>
#include <set>
#include <string>
#include <vector>

#include "scratch_folder.hpp"

namespace {

llama::config small(bool tied) {
  return {.vocab = 50,
          .width = 48,
          .layers = 2,
          .ffn = 70,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 12,
          .context = 150,
          .rope_base = 500.0f,
          .rms_epsilon = 1e-5f,
          .tied = tied};
}

/// Random weights that bf16 holds exactly, so that a file gives them back.
std::vector<float> random_weights(const llama::config& c) {
  const llama::parameters layout(c);
  std::vector<float> w(layout.size());
  quern::rng random(17);
  llama::initialise(c, layout, random, w);
  for (float& x : w) x = quern::to_float(quern::to_bf16(x * 2));
  return w;
}

llama::model written_and_loaded(const llama::config& c, const std::vector<float>& w) {
  const scratch_folder folder;
  llama::save_bf16(folder.file("m.safetensors"), c, w, {{"note", "a \"test\""}}).value();
  quern::thread_pool pool(1);
  return llama::load(folder.file("m.safetensors"), pool).value();
}

std::vector<std::int32_t> random_ids(std::size_t n, std::size_t vocab) {
  quern::rng random(5);
  std::vector<std::int32_t> ids(n);
  for (auto& id : ids) id = static_cast<std::int32_t>(random.below(vocab));
  return ids;
}

std::vector<float> copy(llama::span2<const float> m) { return {m.data(), m.data() + m.rows() * m.cols()}; }

}  // namespace

TEST_CASE("inference agrees with the training forward pass, in any split into calls") {
  for (const bool tied : {true, false}) {
    const auto c = small(tied);
    const auto weights = random_weights(c);
    const auto m = written_and_loaded(c, weights);
    CHECK(m.shape == c);
    const auto ids = random_ids(c.context, c.vocab);
    llama::sequence_pass<float> pass(c);
    const auto expected = copy(pass.forward(weights, ids));
    quern::thread_pool pool(2);
    llama::session s(m, c.context, pool);
    for (const std::size_t piece :
         {c.context, std::size_t{64}, std::size_t{65}, std::size_t{7}, std::size_t{1}}) {
      CAPTURE(piece);
      s.rewind();
      double worst = 0;
      for (std::size_t at = 0; at < ids.size(); at += piece) {
        const auto part = std::span(ids).subspan(at, std::min(piece, ids.size() - at));
        const auto logits = s.logits(s.extend(part));
        for (std::size_t r = 0; r < logits.rows(); ++r)
          for (std::size_t k = 0; k < c.vocab; ++k)
            worst = std::max(worst, std::abs(static_cast<double>(logits(r, k)) -
                                             static_cast<double>(expected[(at + r) * c.vocab + k])));
      }
      // Both sides round about 30 operations one after the other (eps = 6e-8) on values below 10; sums of up
      // to 70 products, taken in another order, multiply that by less than sqrt(70).
      CHECK(worst <= 30 * 10 * 8.4 * 6e-8);
      CHECK(s.position() == c.context);
    }
  }
}

TEST_CASE("the number of threads changes no bit") {
  const auto c = small(true);
  const auto m = written_and_loaded(c, random_weights(c));
  const auto ids = random_ids(c.context, c.vocab);
  std::vector<std::vector<float>> results;
  for (const std::size_t threads : {1u, 2u, 3u, 5u}) {
    quern::thread_pool pool(threads);
    llama::session s(m, c.context, pool);
    results.push_back(copy(s.logits(s.extend(std::span(ids).first(131)))));
    s.rewind(100);
    const auto more = copy(s.logits(s.extend(std::span(ids).subspan(100, 1))));
    results.back().insert(results.back().end(), more.begin(), more.end());
  }
  for (const auto& r : results) CHECK(r == results.front());
}

TEST_CASE("an observer sees the input of every linear") {
  const auto c = small(true);
  auto m = written_and_loaded(c, random_weights(c));
  quern::thread_pool pool(2);
  llama::session s(m, 20, pool);
  const auto ids = random_ids(9, c.vocab);
  std::vector<std::string> seen;
  std::vector<float> ffn_down_input;
  s.observe([&](std::size_t layer, const char* name, llama::span2<const float> x) {
    seen.push_back(std::to_string(layer) + name);
    CHECK(x.rows() == ids.size());
    for (const auto& l : llama::block_linears)
      if (std::string(l.name) == name) CHECK(x.cols() == (m.blocks[layer].*l.weight).cols());
    if (layer == 1 && std::string(name) == "ffn_down") ffn_down_input = copy(x);
  });
  const auto with = copy(s.extend(ids));
  std::vector<std::string> expected;
  for (const char* layer : {"0", "1"})
    for (const auto& l : llama::block_linears) expected.push_back(std::string(layer) + l.name);
  CHECK(seen == expected);

  // Block by block is the same computation, and a linear that is set to zero takes its part out of the
  // stream.
  s.observe({});
  s.rewind();
  llama::aligned<float> stream(ids.size() * c.width), before;
  const llama::span2<float> view(stream.data(), ids.size(), c.width);
  s.embed(ids, view);
  s.run_block(0, view);
  before = stream;
  m.blocks[1].ffn_down = llama::dense_linear(std::vector<float>(c.width * c.ffn), c.width, c.ffn);
  m.blocks[1].attn_output = llama::dense_linear(std::vector<float>(c.width * c.width), c.width, c.width);
  s.run_block(1, view);
  CHECK(stream == before);
  s.advance(ids.size());
  CHECK(s.position() == ids.size());
}

TEST_CASE("misuse of a session is refused") {
  const auto c = small(true);
  auto m = written_and_loaded(c, random_weights(c));
  quern::thread_pool pool(1);
  CHECK_THROWS_AS(llama::session(m, 0, pool), quern::shape_error);
  CHECK_THROWS_AS(llama::session(m, c.context + 1, pool), quern::shape_error);
  llama::session s(m, 4, pool);
  CHECK_THROWS_AS(s.extend(random_ids(5, c.vocab)), quern::shape_error);
  CHECK_THROWS_AS(s.extend(std::vector<std::int32_t>{1, 50}), quern::shape_error);
  CHECK_THROWS_AS(s.extend(std::span<const std::int32_t>()), quern::shape_error);
  CHECK_THROWS_AS(s.rewind(1), quern::shape_error);
  s.extend(random_ids(4, c.vocab));
  CHECK_THROWS_AS(s.extend(random_ids(1, c.vocab)), quern::shape_error);
  m.blocks[0].attn_k = llama::dense_linear(std::vector<float>(48 * 48), 48, 48);
  CHECK_THROWS_AS(llama::session(m, 4, pool), quern::shape_error);
}

TEST_CASE("a dense linear against a double loop, over the edges of its tiles") {
  quern::thread_pool pool(2);
  quern::rng random(2);
  for (const std::size_t rows : {1u, 47u, 48u, 49u, 400u, 770u})
    for (const std::size_t n : {1u, 2u, 17u}) {
      const std::size_t cols = 33;
      std::vector<float> w(rows * cols), x(n * cols), y(n * (rows + 3), 7.0f), row(cols);
      for (float& v : w) v = random.normal();
      for (float& v : x) v = random.normal();
      const auto l = llama::dense_linear(w, rows, cols);
      CHECK(l.bytes() == 4 * rows * cols);
      llama::input in;
      in.assign({x.data(), n, cols}, llama::activation::int8);  // dense linears read the floats
      llama::multiply(in, {{&l, {y.data(), n, rows, rows + 3}}}, pool);
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t r = 0; r < rows; ++r) {
          double sum = 0, size = 0;
          for (std::size_t k = 0; k < cols; ++k) {
            const double term = static_cast<double>(w[r * cols + k]) * static_cast<double>(x[i * cols + k]);
            sum += term;
            size += std::abs(term);
          }
          CHECK(std::abs(static_cast<double>(y[i * (rows + 3) + r]) - sum) <=
                33 * 6e-8 * size);  // n eps sum|w||x|
        }
        for (std::size_t r = rows; r < rows + 3; ++r) CHECK(y[i * (rows + 3) + r] == 7.0f);
      }
      l.row(rows - 1, row);
      CHECK(row == std::vector<float>(w.end() - static_cast<std::ptrdiff_t>(cols), w.end()));
    }
  CHECK_THROWS_AS(llama::dense_linear(std::vector<float>(5), 2, 3), quern::shape_error);
}

TEST_CASE("files that are not a whole model") {
  const auto c = small(false);
  const auto weights = random_weights(c);
  const scratch_folder folder;
  const std::string path = folder.file("m.safetensors");
  quern::thread_pool pool(1);
  const auto message = [&] {
    const auto m = llama::load(path, pool);
    return m ? std::string() : std::string(m.error().what());
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(has(message(), "cannot be opened"));
  std::ofstream(path) << "GGUF";
  CHECK(has(message(), "m.safetensors"));
  std::ofstream(path) << "";
  CHECK(has(message(), "m.safetensors"));

  const llama::parameters layout(c);
  // Writes the model with one thing wrong.
  const auto write = [&](auto&& change_config, const std::string& skip, const std::string& transpose,
                         quern::dtype type) {
    quern::safetensors_writer out;
    auto said = c;
    change_config(said);
    llama::describe(said, out);
    for (const auto& t : layout.tensors()) {
      if (t.name == skip) continue;
      auto shape = std::vector<std::size_t>{t.rows, t.cols};
      if (t.name == transpose) std::swap(shape[0], shape[1]);
      const std::size_t values = t.size() * (type == quern::dtype::f64 ? 2 : 1);
      static std::vector<float> zeros(1 << 20);
      out.add(t.name, type, shape,
              type == quern::dtype::f32 ? std::as_bytes(std::span(weights).subspan(t.offset, t.size()))
                                        : std::as_bytes(std::span<const float>(zeros).first(values)));
    }
    out.write(path).value();
  };
  const auto same = [](llama::config&) {};
  write(same, "", "", quern::dtype::f32);
  CHECK(message().empty());
  write(same, "blk.1.ffn_up.weight", "", quern::dtype::f32);
  CHECK(has(message(), "no tensor 'blk.1.ffn_up.weight'"));
  write(same, "", "blk.0.attn_k.weight", quern::dtype::f32);
  CHECK(has(message(), "'blk.0.attn_k.weight'): is 48 x 24, but the config asks for 24 x 48"));
  write(same, "", "", quern::dtype::f64);
  CHECK(has(message(), "F64"));
  write([](llama::config& x) { x.layers = 3; }, "", "", quern::dtype::f32);
  CHECK(has(message(), "no tensor 'blk.2."));
  write([](llama::config& x) { x.kv_heads = 3; }, "", "", quern::dtype::f32);
  CHECK(has(message(), "multiple of kv_heads"));
  write([](llama::config& x) { x.vocab = std::size_t{1} << 60; }, "", "", quern::dtype::f32);
  CHECK(has(message(), "vocab"));
  write([](llama::config& x) { x.rope_base = std::numeric_limits<float>::quiet_NaN(); }, "", "",
        quern::dtype::f32);
  CHECK(has(message(), "rope_base"));
  {
    quern::safetensors_writer out;
    out.metadata("general.architecture", "llama");
    out.write(path).value();
    CHECK(has(message(), "llama.vocab_size"));
  }
  {
    quern::safetensors_writer out;
    out.write(path).value();
    CHECK(has(message(), "general.architecture"));
  }
  // Nothing here writes an infinity; one that is in a file is found.
  llama::save_bf16(path, c, weights, {}).value();
  std::string bytes = bytes_of(path);
  const std::size_t value =
      quern::safetensors_file::open(path).value().find("blk.1.attn_v.weight")->offset + 50 * 2;
  bytes[value] = '\x80', bytes[value + 1] = '\x7f';  // infinity as bf16
  std::ofstream(path, std::ios::binary) << bytes;
  CHECK(has(message(), "'blk.1.attn_v.weight'): row 1 column 2 is infinite"));
}

TEST_CASE("values that are not finite are not written") {
  const auto c = small(true);
  const scratch_folder folder;
  const std::string path = folder.file("m.safetensors");
  const llama::parameters layout(c);
  const std::size_t at = layout.block(1, llama::slot::attn_v).offset + 50;
  quern::thread_pool pool(1);
  llama::save_bf16(path, c, random_weights(c), {}).value();
  const llama::model good = llama::load(path, pool).value();
  std::filesystem::remove(path);
  for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::max()}) {  // which bf16 rounds to infinity
    auto weights = random_weights(c);
    weights[at] = wrong;
    const auto flat = llama::save_bf16(path, c, weights, {});
    REQUIRE_FALSE(flat);
    CHECK(std::string(flat.error().what()).find("'blk.1.attn_v.weight' row 1 column 2") != std::string::npos);
    if (std::isfinite(wrong)) continue;  // save() writes it as fp32
    llama::model m = good;
    std::vector<float> values(24 * 48, 1.0f);
    values[50] = wrong;
    m.blocks[1].attn_v = llama::dense_linear(std::move(values), 24, 48);
    const auto whole = llama::save(path, m, llama::tokenizer::bytes(), {});
    REQUIRE_FALSE(whole);
    CHECK(std::string(whole.error().what()).find("'blk.1.attn_v.weight' row 1 column 2") !=
          std::string::npos);
    m = good;
    m.blocks[0].ffn_norm[3] = wrong;
    CHECK_FALSE(llama::save(path, m, llama::tokenizer::bytes(), {}));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a tokenizer must make the ids that the model has") {
  const auto c = small(true);  // 50 ids
  const scratch_folder folder;
  const std::string path = folder.file("m.safetensors");
  llama::save_bf16(path, c, random_weights(c), {{"tokenizer", "bytes"}}).value();
  const auto words = llama::load_tokenizer(path);
  REQUIRE_FALSE(words);
  CHECK(std::string(words.error().what())
            .find("m.safetensors' has a tokenizer of 256 tokens and an embedding of 50") !=
        std::string::npos);
}

TEST_CASE("sampling") {
  quern::rng random(1);
  const std::vector<float> logits{0.0f, 2.0f, 1.0f, 2.0f};
  CHECK(llama::sample(logits, {}, random) == 1);  // the first of equals
  // At temperature 0.5 weights are exp(0, 4, 2, 4): 1 and 3 hold 0.93, which top_p = 0.9 keeps alone.
  std::vector<int> count(4);
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i)
    ++count[static_cast<std::size_t>(llama::sample(logits, {.temperature = 0.5f, .top_p = 0.9f}, random))];
  CHECK(count[0] + count[2] == 0);
  CHECK(std::abs(count[1] - draws / 2) < 350);  // 5 standard deviations of sqrt(20000) / 2 = 71
  std::fill(count.begin(), count.end(), 0);
  for (int i = 0; i < draws; ++i)
    ++count[static_cast<std::size_t>(llama::sample(logits, {.temperature = 1.0f}, random))];
  const double sum = 1 + 2 * std::exp(2.0) + std::exp(1.0);
  for (std::size_t i = 0; i < 4; ++i) {
    const double p = std::exp(static_cast<double>(logits[i])) / sum;
    CHECK(std::abs(count[i] - draws * p) < 5 * std::sqrt(draws * p * (1 - p)));
  }
  quern::rng a(9), b(9);
  for (int i = 0; i < 50; ++i)
    CHECK(llama::sample(logits, {.temperature = 1}, a) == llama::sample(logits, {.temperature = 1}, b));
  CHECK_THROWS_AS(llama::sample({}, {}, random), quern::shape_error);
  CHECK_THROWS_AS(llama::sample(logits, {.temperature = -1}, random), quern::shape_error);
  CHECK_THROWS_AS(llama::sample(logits, {.temperature = 1, .top_p = 0}, random), quern::shape_error);
  const std::vector<float> bad{1.0f, std::numeric_limits<float>::quiet_NaN()};
  CHECK_THROWS_AS(llama::sample(bad, {}, random), quern::shape_error);
}
