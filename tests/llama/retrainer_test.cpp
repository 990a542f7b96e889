// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <barrier>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <llama/evaluate.hpp>
#include <llama/load.hpp>
#include <quern/pattern/bsr.hpp>
#include <thread>

#include "retrain_fixture.hpp"

using namespace retrain_test;

namespace {

/// One options set of every kind of state: side weights, a trained projection, factors, masks that only shrink.
std::vector<llama::retrain_options> kinds() {
  std::vector<llama::retrain_options> out;
  out.push_back(options());
  out.back().slorb = 8;
  out.push_back(options());
  out.back().slorb = 8, out.back().train_projection = true;
  out.push_back(options());
  out.back().policy = llama::mask_policy::cast;
  out.push_back(options());
  out.back().policy = llama::mask_policy::gradual;
  out.back().hidden = quern::hidden_loss::squarehead;
  return out;
}

/// Two processes in two threads: sums in the order of ranks.
struct shared_sums {
  std::barrier<> meet{2};
  std::vector<std::vector<double>> parts{2};
  template <class T>
  void sum(std::size_t rank, std::span<T> values) {
    parts[rank].assign(values.begin(), values.end());
    meet.arrive_and_wait();
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(parts[0][i]) + static_cast<T>(parts[1][i]);
    meet.arrive_and_wait();
  }
};

}  // namespace

TEST_CASE("interrupted after any step and resumed: the same weights, bit for bit") {
  const scratch_folder folder;
  for (const auto& o : kinds()) {
    auto whole = fresh(o);
    run(whole, 12);
    whole.note_held_out(1.5);
    whole.save(folder.file("whole")).value();
    for (std::uint64_t at = 1; at < 12; ++at) {
      auto first = fresh(o);
      run(first, at);
      first.save(folder.file("half")).value();
      auto second = fresh(o);
      second.resume(folder.file("half")).value();
      REQUIRE(second.step_count() == at);
      run(second, 12, 1);
      second.note_held_out(1.5);
      second.save(folder.file("resumed")).value();
      REQUIRE(bytes_of(folder.file("whole")) == bytes_of(folder.file("resumed")));
    }
    auto again = fresh(o);
    again.resume(folder.file("whole")).value();
    CHECK(again.best_loss() == 1.5);
    CHECK(again.best_step() == 12);
  }
}

TEST_CASE("two processes with one lane are one process with two, bit for bit") {
  auto alone = fresh(options());
  run(alone, 12);
  shared_sums shared;
  llama::aligned<float> weights[2];
  auto o = options();
  o.run.lanes = 1;
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      llama::processes others{rank, 2, [&, rank](std::span<float> v) { shared.sum(rank, v); },
                              [&, rank](std::span<double> v) { shared.sum(rank, v); }};
      llama::retrainer r(shape, o, texts(), start(), others);
      run(r, 12, 1);
      weights[rank] = r.sparse();
    });
  for (auto& t : threads) t.join();
  CHECK(weights[0] == weights[1]);
  CHECK(weights[0] == alone.sparse());
}

TEST_CASE("masks obey their pattern after every step, and what is exported is masked") {
  for (auto o : kinds())
    for (const bool blocks : {false, true}) {
      if (blocks) o.rule.shape = quern::shape_of<quern::bsr<16, 16>>();
      auto r = fresh(o);
      quern::thread_pool pool(2);
      std::size_t updates = 0;
      while (r.step_count() < 12) {
        const auto report = r.step(pool).value();
        updates += report.updated ? 1 : 0;
        CHECK(report.layers.size() == (report.updated ? 14u : 0u));
        if (o.policy == llama::mask_policy::gradual) continue;  // reaches the pattern at the end only
        for (const auto& m : r.masks())
          if (blocks)
            REQUIRE(quern::conforms<quern::bsr<16, 16>>(m.now()));
          else
            REQUIRE(quern::conforms<quern::nm<2, 4>>(m.now()));
      }
      CHECK(updates >= 3);
      const auto sparse = r.sparse();
      for (std::size_t i = 0; i < r.linear_count(); ++i) {
        const auto w = llama::view(std::span<const float>(sparse), r.linear_tensor(i));
        const quern::bit_mask& m = r.masks()[i].now();
        CHECK(quern::count(m) == w.rows() * w.cols() / 2);
        for (std::size_t row = 0; row < w.rows(); ++row)
          for (std::size_t col = 0; col < w.cols(); ++col)
            if (!m(row, col)) REQUIRE(w(row, col) == 0);
      }
    }
}

TEST_CASE("the held-out loss is that of the program that runs models") {
  quern::thread_pool pool(2);
  const auto ids = held_out();
  const double flat = llama::held_out_loss(shape, dense_weights(), ids, 8, pool).value();
  const auto run =
      llama::evaluate(llama::model_of(shape, dense_weights()), ids, {.context = 32, .windows = 8}, pool)
          .value();
  // The same products in other tiles: 1e-6 of a loss of order one.
  CHECK(std::abs(flat - run.nll) < 1e-5);
  CHECK(llama::flatten(llama::model_of(shape, dense_weights())) == dense_weights());
  CHECK_FALSE(llama::held_out_loss(shape, dense_weights(), ids, 65, pool));
}

TEST_CASE("cached logits of the teacher are its logits; a cache of another run is refused") {
  const scratch_folder folder;
  quern::thread_pool pool(2);
  auto o = options();
  o.top_k = 5;
  const llama::batch_plan plan{o.run.seed, o.run.steps, o.run.batch, shape.context};
  const llama::teacher_model teacher{shape, dense_weights()};
  const auto get = [&](const llama::batch_plan& p) {
    return llama::cached_teacher(folder.file("cache"), teacher, texts(), p, 5, 2, pool);
  };
  const auto made = get(plan).value(), read = get(plan).value();
  CHECK(made.ids == read.ids);
  CHECK(made.log_p == read.log_p);
  auto computed = fresh(o);
  run(computed, 12);
  auto from = start();
  from.cached = &read;
  llama::retrainer cached(shape, o, texts(), from);
  run(cached, 12);
  CHECK(computed.sparse() == cached.sparse());

  auto other = plan;
  other.seed = 6;
  CHECK_FALSE(get(other));
  std::string damaged = bytes_of(folder.file("cache"));
  const std::int32_t high = 48;
  std::memcpy(damaged.data() + damaged.size() / 2, &high, 4);  // among the ids or the log-probabilities
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(damaged.data() + damaged.size() - 4, &nan, 4);
  std::ofstream(folder.file("cache"), std::ios::binary) << damaged;
  CHECK_FALSE(get(plan));
}

TEST_CASE("teachers of another shape, bad weights and impossible options are refused") {
  auto o = options();
  auto from = start();
  auto other = shape;
  other.vocab = 47;
  from.teacher = llama::teacher_model{other, dense_weights()};
  CHECK_THROWS_WITH_AS(llama::retrainer(shape, o, texts(), from), doctest::Contains("vocabulary"),
                       quern::shape_error);
  other = shape;
  other.layers = 1;
  from.teacher = llama::teacher_model{other, dense_weights()};
  o.hidden = quern::hidden_loss::tinybert;
  CHECK_THROWS_WITH_AS(llama::retrainer(shape, o, texts(), from), doctest::Contains("hidden states"),
                       quern::shape_error);
  o.hidden.reset();
  CHECK_THROWS_WITH_AS(llama::retrainer(shape, o, texts(), from), doctest::Contains("weights"),
                       quern::shape_error);
  from.teacher.reset();
  CHECK_THROWS_AS(llama::retrainer(shape, o, texts(), from), quern::shape_error);
  o.run.batch = 0;
  CHECK_THROWS_AS(llama::retrainer(shape, o, texts(), start()), quern::shape_error);
  CHECK_THROWS_AS(llama::retrainer(shape, options(), {}, start()), quern::shape_error);
}

TEST_CASE("a loss that is no number ends the step, with the weights as they were") {
  auto o = options();
  o.run.peak_rate = 1e30f;
  o.run.warmup = 0;
  auto wild = fresh(o);
  quern::thread_pool pool(1);
  bool refused = false;
  for (int i = 0; i < 6 && !refused; ++i) {
    const auto before = wild.step_count();
    const auto report = wild.step(pool);
    refused = !report;
    if (refused) CHECK(wild.step_count() == before);
  }
  CHECK(refused);
}

TEST_CASE("a full disk is an error, and the last checkpoint is what it was") {
  const scratch_folder folder;
  auto r = fresh(options());
  run(r, 2);
  r.save(folder.file("state")).value();
  const std::string before = bytes_of(folder.file("state"));
  run(r, 4);
  // A quota stands for the disk: files may not grow beyond 4 KB.
  rlimit old{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, old.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const auto saved = r.save(folder.file("state"));
  REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
  std::signal(SIGXFSZ, handler);
  REQUIRE_FALSE(saved);
  CHECK(std::string(saved.error().what()).find("free space") != std::string::npos);
  CHECK(bytes_of(folder.file("state")) == before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) ==
        1);  // nothing is left beside it
  r.save(folder.file("state")).value();
  CHECK(bytes_of(folder.file("state")) != before);
}

TEST_CASE("checkpoints of other options or damaged ones are refused and change nothing") {
  const scratch_folder folder;
  auto o = options();
  o.slorb = 8;
  auto r = fresh(o);
  run(r, 3);
  r.save(folder.file("good")).value();
  const auto before = r.sparse();
  auto other = o;
  other.decay.final = 1e-3f;
  CHECK_FALSE(fresh(other).resume(folder.file("good")));
  const std::string good = bytes_of(folder.file("good"));
  const auto damaged = [&](std::string bytes) {
    std::ofstream(folder.file("bad"), std::ios::binary) << bytes;
    return r.resume(folder.file("bad"));
  };
  CHECK_FALSE(damaged(good.substr(0, good.size() - 4)));
  const auto renamed = [&](const std::string& from, const std::string& to) {
    std::string changed = good;
    changed.replace(changed.find(from), from.size(), to);
    return damaged(changed);
  };
  CHECK_FALSE(renamed("mask.now.blk.0.attn_q", "mask.now.blk.0.attn_x"));
  CHECK_FALSE(renamed("side.adamw.m", "side.adamw.x"));
  CHECK_FALSE(renamed("\"train.step\":\"3\"", "\"train.step\":\"x\""));
  CHECK(r.sparse() == before);
  CHECK(damaged(good));
}
