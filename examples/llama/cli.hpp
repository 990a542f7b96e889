// SPDX-License-Identifier: Apache-2.0
#pragma once
// int main(int argc, char** argv) {
//   CLI::App app("What it does.");
//   app.add_option(...);
//   return llama::run(app, argc, argv, [&] { ...; return 0; });   // 2 and one sentence on stderr for every error
// }

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <llama/input.hpp>
#include <llama/option_range.hpp>
#include <llama/text_file.hpp>
#include <map>
#include <new>
#include <nlohmann/json.hpp>
#include <quern/core/error.hpp>
#include <stdexcept>
#include <string>
#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace llama {

/// Exit status of every program: 0 done, 1 stopped by the user, 2 bad input. @p body returns it or throws, and nothing
/// that it throws ends in std::terminate.
template <class Body>
int run(CLI::App& app, int argc, char** argv, Body&& body) {
  const std::string path = argv[0], name = path.substr(path.rfind('/') + 1);
  const auto no_memory = [&] {
    std::fprintf(stderr, "%s: out of memory; use a shorter context or a smaller model\n", name.c_str());
  };
  app.option_defaults()->always_capture_default();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  try {
    return body();
  } catch (const quern::error& e) {
    std::fprintf(stderr, "%s\n", e.what());
  } catch (const std::bad_alloc&) {
    no_memory();
  } catch (const std::length_error&) {  // a vector longer than any memory
    no_memory();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
  }
  return 2;
}

/// --threads, of every program.
inline void add_threads(CLI::App& app, std::size_t& threads) {
  app.add_option("--threads", threads, "0: all cores")->check(thread_count());
}

/// --activations, for programs that run a model.
inline void add_activations(CLI::App& app, activation& value) {
  std::map<std::string, activation> kinds;
  for (const auto& [name, kind] : activation_names) kinds.emplace(name, kind);
  app.add_option("--activations", value,
                 "what packed weights are multiplied with: f32 (exact), int24 (as good), bf16, int8 (a scale "
                 "per 32 inputs), "
                 "int8_token; weights without a kernel for it take f32")
      ->transform(CLI::CheckedTransformer(kinds).description("NAME"));
}
/// --mapped, for programs that run a model for long: load_options::copied.
inline void add_mapped(CLI::App& app, bool& copied) {
  copied = true;
  app.add_flag(
      "!--mapped", copied,
      "use packed weights where the file is mapped: opens at once and takes no memory of its own; else "
      "they are copied into huge pages, which multiply faster");
}
/// The name of one.
inline const char* name_of(activation kind) {
  for (const auto& a : activation_names)
    if (a.kind == kind) return a.name;
  return "";
}

/// Writes what --json asks for, by temporary file and rename; nothing where @p path is empty. @throws
/// io_error
inline void write_json(const std::string& path, const nlohmann::ordered_json& value) {
  if (path.empty()) return;
  // A byte model need not write valid UTF-8, which JSON is.
  const std::string text = value.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
  write_text(path, text).value();
}

/// Seconds since it was made.
class stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(clock::now() - start_).count(); }

 private:
  using clock = std::chrono::steady_clock;
  clock::time_point start_ = clock::now();
};

/// @p n in @p seconds, or per @p whole; 0 where that is none, as where nothing was run.
inline double rate_of(double n, double whole) { return whole > 0 ? n / whole : 0; }

/// The most memory that this process has used so far, in bytes; 0 where the system does not say.
inline std::size_t peak_memory() {
#if defined(__linux__)
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
#endif
  return 0;
}

/// One line on stderr that is written over: "name 3 of 32, 1.2 min left, note".
class progress {
 public:
  progress(std::string name, std::size_t total) : name_(std::move(name)), total_(total) {}
  ~progress() {
    if (shown_) std::fputc('\n', stderr);
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  void at(std::size_t done, const std::string& note = {}) {
    const double now = watch_.seconds();
    if (done == 0 || (now - last_ < 0.5 && done < total_)) return;
    last_ = now;
    shown_ = true;
    std::fprintf(stderr, "\r%s %zu of %zu, %.1f min left%s%s ", name_.c_str(), done, total_,
                 now / static_cast<double>(done) * static_cast<double>(total_ - done) / 60,
                 note.empty() ? "" : ", ", note.c_str());
    std::fflush(stderr);
  }

 private:
  std::string name_;
  std::size_t total_;
  stopwatch watch_;
  double last_ = 0;
  bool shown_ = false;
};

}  // namespace llama
