// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <llama/retrain_run.hpp>
#include <llama/run_log.hpp>

#include "retrain_fixture.hpp"

using namespace llama;
using namespace retrain_test;

namespace {

/// What the call says against it, "" if nothing.
template <class F>
std::string thrown(F&& f) {
  try {
    f();
  } catch (const quern::error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a log that can no longer be written costs no steps: the checkpoint is written first") {
  const scratch_folder folder;
  quern::thread_pool pool(2);
  for (const bool best : {false, true}) {
    retrainer r = fresh(options());
    std::filesystem::create_directory(folder.path / "logs");
    const run_files files{.checkpoint = folder.file("run.state"),
                          .log = best ? "" : folder.file("logs/run.jsonl"),
                          .best = best ? "best" : "",
                          .every = best ? 5u : 50u,
                          .save_every = 100,
                          .windows = 1,
                          .final_windows = 1};
    const std::string text = thrown([&] {
      retrain_run(
          r, files, held_out(), pool,
          [](const std::string&) { quern::raise(quern::io_error("the disk of the best model is full")); },
          [&](std::uint64_t step) {
            if (step == 4) std::filesystem::remove_all(folder.path / "logs");
            return true;
          });
    });
    CHECK(text.find(best ? "best model is full" : "run.jsonl") != std::string::npos);
    retrainer again = fresh(options());
    again.resume(files.checkpoint).value();
    CHECK(again.step_count() == 5);
    CHECK(again.best_step() == 0);  // a model that was not written is not the best
    run(again, 12), run(r, 12);
    CHECK(std::equal(again.effective(pool).begin(), again.effective(pool).end(), r.effective(pool).begin()));
  }
}

TEST_CASE("a log of an earlier run is not emptied, lines stay as they were written, others are refused") {
  const scratch_folder folder;
  const std::string path = folder.file("log");
  const auto log_of = [&](const std::string& text, std::uint64_t resume) {
    std::ofstream(path, std::ios::binary) << text;
    return thrown([&] { run_log log(path, resume); });
  };
  const std::string line = "{\"step\":1, \"loss\":  1.50,\"layers\":[[0.25,1e-3]]}\n";
  CHECK(log_of(line, 0).find("is there already") != std::string::npos);
  CHECK(bytes_of(path) == line);
  CHECK(log_of("", 0).empty());
  CHECK(log_of(line + "{\"step\":3}\n", 2).empty());
  CHECK(bytes_of(path) == line);
  CHECK(log_of(line + "{\"step\":2,\"lo", 2).empty());
  CHECK(bytes_of(path) == line);
  for (const char* wrong :
       {"{\"step\":1,\"flips\":\"x\"}", "{\"step\":1,\"flips\":true}", "{\"step\":1,\"flips\":{}}"}) {
    CHECK(log_of(line + wrong + "\n", 2).find("line 2: \"flips\" is neither") != std::string::npos);
    CHECK(bytes_of(path) == line + wrong + "\n");
  }
  CHECK(log_of(line + "[]\n" + line, 2).find("line 2: is no object") != std::string::npos);
  CHECK(log_of(line + std::string(1u << 21, '[') + "\n" + line, 2).find("longer") != std::string::npos);
  // Deep, but not too long.
  const std::string deep(400000, '['), end(400000, ']');
  const std::string nested = "{\"step\":1,\"layers\":" + deep + end + "}\n";
  CHECK(log_of(nested, 2).empty());
  CHECK(bytes_of(path) == nested);
}

TEST_CASE("a checkpoint belongs to its texts, start, teacher and held-out text") {
  const scratch_folder folder;
  retrainer r = fresh(options());
  run(r, 2);
  r.save(folder.file("good")).value();
  const auto resumed = [&](auto&& change) {
    std::vector<training_text> from_texts = texts();
    aligned<float> weights = dense_weights(), dense = dense_weights(), teacher = dense_weights();
    retrain_start s = start();
    std::vector<std::int32_t> held;
    change(from_texts, weights, dense, teacher, held);
    s.weights = weights, s.dense = dense, s.teacher = teacher_model{shape, teacher}, s.held_out = held;
    retrainer other(shape, options(), from_texts, s);
    const auto ok = other.resume(folder.file("good"));
    return ok ? std::string() : std::string(ok.error().what());
  };
  CHECK(resumed([](auto&...) {}).empty());
  CHECK(resumed([](auto& t, auto&...) { t[0].ids[7] ^= 1; }).find("texts") != std::string::npos);
  CHECK(resumed([](auto&, auto& w, auto&...) { w.back() += 1; }).find(": start ") != std::string::npos);
  CHECK(resumed([](auto&, auto&, auto& d, auto&...) { d.back() += 1; }).find(": dense ") !=
        std::string::npos);
  CHECK(resumed([](auto&, auto&, auto&, auto& t, auto&) { t.back() += 1; }).find(": of ") !=
        std::string::npos);
  CHECK(resumed([](auto&, auto&, auto&, auto&, auto& h) {
          h = {1, 2};
        }).find("another run") != std::string::npos);
}
