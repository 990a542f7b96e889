// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <llama/load.hpp>
#include <llama/trainer.hpp>
#include <string>
#include <vector>

#include "scratch_folder.hpp"

namespace {

const llama::config shape{.vocab = 32,
                          .width = 24,
                          .layers = 2,
                          .ffn = 40,
                          .heads = 2,
                          .kv_heads = 1,
                          .head_dim = 12,
                          .context = 24};
const llama::train_options options{
    .steps = 20, .batch = 5, .lanes = 3, .peak_rate = 1e-2f, .floor_rate = 1e-4f, .warmup = 4, .seed = 8};

/// Two texts with something to learn: counting up by one and by three.
std::vector<llama::training_text> texts() {
  std::vector<llama::training_text> out(2);
  for (int i = 0; i < 400; ++i) {
    out[0].ids.push_back(i % 32);
    out[1].ids.push_back(3 * i % 32);
  }
  return out;
}

llama::trainer fresh() { return {shape, options, texts()}; }
double run(llama::trainer& t, int steps, std::size_t threads = 2) {
  quern::thread_pool pool(threads);
  double loss = 0;
  for (int i = 0; i < steps; ++i) loss = t.step(pool).value().loss;
  return loss;
}

}  // namespace

TEST_CASE("ten steps, a checkpoint and ten steps are twenty steps, bit for bit") {
  const scratch_folder folder;
  auto whole = fresh();
  const double last = run(whole, 20);
  whole.save(folder.file("whole")).value();

  auto first = fresh();
  run(first, 10);
  first.save(folder.file("half")).value();
  auto second = fresh();
  second.resume(folder.file("half")).value();
  CHECK(second.step_count() == 10);
  CHECK(run(second, 10) == last);
  second.save(folder.file("resumed")).value();
  CHECK(bytes_of(folder.file("whole")) == bytes_of(folder.file("resumed")));
  CHECK(bytes_of(folder.file("whole")) != bytes_of(folder.file("half")));

  // A checkpoint is a model, too.
  quern::thread_pool pool(1);
  CHECK(llama::load(folder.file("whole"), pool).value().shape == shape);
}

TEST_CASE("the number of threads changes no bit, and the loss falls") {
  std::vector<std::vector<float>> results;
  for (const std::size_t threads : {1u, 2u, 4u}) {
    auto t = fresh();
    quern::thread_pool pool(threads);
    const double begin = t.step(pool).value().loss;
    CHECK(run(t, 19, threads) < begin - 0.5);  // from about log 32 = 3.5; random guessing would stay there
    results.emplace_back(t.weights().begin(), t.weights().end());
  }
  CHECK(results[0] == results[1]);
  CHECK(results[0] == results[2]);
}

TEST_CASE("a checkpoint of another run or a damaged one is refused and changes nothing") {
  const scratch_folder folder;
  auto t = fresh();
  run(t, 3);
  t.save(folder.file("good")).value();
  const std::vector<float> before(t.weights().begin(), t.weights().end());
  const auto unchanged = [&] {
    return t.step_count() == 3 && std::equal(before.begin(), before.end(), t.weights().begin());
  };
  CHECK_FALSE(t.resume(folder.file("absent")));
  auto other_options = options;
  other_options.seed = 9;
  llama::trainer other(shape, other_options, texts());
  CHECK_FALSE(other.resume(folder.file("good")));
  auto other_texts = texts();
  other_texts[0].ids.back() ^= 1;
  llama::trainer elsewhere(shape, options, other_texts);
  CHECK_FALSE(elsewhere.resume(folder.file("good")));
  const std::string good = bytes_of(folder.file("good"));
  const auto damaged = [&](const std::string& bytes) {
    std::ofstream(folder.file("bad"), std::ios::binary) << bytes;
    return t.resume(folder.file("bad"));
  };
  CHECK_FALSE(damaged(good.substr(0, good.size() - 4)));
  std::string changed = good;
  changed.replace(changed.find("adamw.v.output_norm"), 7, "adamw.x");
  CHECK_FALSE(damaged(changed));
  changed = good;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(changed.data() + changed.size() - 4, &nan, 4);
  CHECK_FALSE(damaged(changed));
  changed = good;
  for (const char* word : {"0", "1", "2", "3"}) {
    const std::size_t at = changed.find(std::string("\"train.random.") + word) + 18;
    for (std::size_t i = at; changed[i] != '"'; ++i) changed[i] = '0';
  }
  CHECK_FALSE(damaged(changed));  // a generator that stands still
  changed = good;
  changed.replace(changed.find("\"train.step\":\"3\""), 16, "\"train.step\":\"x\"");
  CHECK_FALSE(damaged(changed));
  CHECK(unchanged());
  CHECK(damaged(good));
  // Writing where nobody may leaves no file behind.
  CHECK_FALSE(t.save(folder.file("no/such/folder")));
}

TEST_CASE("impossible runs are refused") {
  auto short_text = texts();
  short_text[1].ids.resize(24);
  CHECK_THROWS_AS(llama::trainer(shape, options, short_text), quern::shape_error);
  auto strange = texts();
  strange[0].ids[7] = 32;
  CHECK_THROWS_AS(llama::trainer(shape, options, strange), quern::shape_error);
  CHECK_THROWS_AS(llama::trainer(shape, options, {}), quern::shape_error);
  auto o = options;
  o.batch = 0;
  CHECK_THROWS_AS(llama::trainer(shape, o, texts()), quern::shape_error);
  o = options;
  o.peak_rate = 1e30f;
  o.warmup = 1;
  llama::trainer wild(shape, o, texts());
  quern::thread_pool pool(1);
  bool refused = false;
  for (int i = 0; i < 5 && !refused; ++i) refused = !wild.step(pool);
  CHECK(refused);
}

TEST_CASE("weights that the last step made infinite are not written") {
  auto o = options;
  o.peak_rate = o.floor_rate = 1e30f;
  o.warmup = 0;
  o.adamw.weight_decay = 1e30f;
  llama::trainer wild(shape, o, texts());
  quern::thread_pool pool(1);
  wild.step(pool).value();  // its loss is that of the weights before
  const scratch_folder folder;
  const auto saved = wild.save(folder.file("state"));
  REQUIRE_FALSE(saved);
  CHECK(std::string(saved.error().what()).find("tensor 'token_embd.weight'") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.file("state")));
}
