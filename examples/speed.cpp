// SPDX-License-Identifier: Apache-2.0
// Tokens per second of a model as it is, and with its blocks packed in other formats:
//   speed model.gguf --format 'bsr<16,32>' 'affine<4,32>' --format dense 'affine<4,32>' --threads 1 2
// What llama.cpp's llama-bench measures: a prompt in one call (logits of its last token), and tokens one by one from
// an empty context, of random ids, nothing drawn from the logits; one run before the clock starts.
#include <cmath>
#include <llama/catalogue.hpp>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/load.hpp>
#include <llama/packed.hpp>
#include <quern/core/rng.hpp>

namespace {

struct settings {
  std::string model, json;
  std::vector<std::pair<std::string, std::string>> formats;
  std::vector<std::size_t> threads = {1, 2};
  std::size_t prompt = 512, tokens = 128, repeat = 3;
  llama::load_options load{.packed = true};
  bool as_is = true;
};

/// Survivors drawn by lot, each unit on its own: as uneven as a pattern allows. Where the pattern fixes how many, the
/// first of each window.
quern::bit_mask random_units(const llama::format_facts& f, std::size_t rows, std::size_t cols,
                             quern::rng& random) {
  const auto height = static_cast<std::size_t>(f.unit_rows), width = static_cast<std::size_t>(f.unit_cols);
  quern::bit_mask m(rows, cols, false);
  for (std::size_t r = 0; r < rows; r += height)
    for (std::size_t c = 0, u = 0; c < cols; c += width, ++u) {
      const bool lives = f.of > 0 ? u % static_cast<std::size_t>(f.of) < static_cast<std::size_t>(f.keep)
                                  : !f.free_density() || random.below(2) == 0;
      for (std::size_t i = r; lives && i < std::min(r + height, rows); ++i)
        for (std::size_t k = c; k < std::min(c + width, cols); ++k) m.set(i, k, true);
    }
  return m;
}

/// The same model with every linear of its blocks in one format.
llama::model in_format(const llama::model& m, const llama::format_ops& format, quern::thread_pool& pool) {
  const auto facts = llama::find_facts(format.pattern, format.quantizer).value();
  quern::rng random(1);
  llama::model out = m;
  std::vector<float> values;
  for (llama::block& b : out.blocks)
    for (const llama::named_linear& l : llama::block_linears) {
      llama::linear& w = b.*l.weight;
      values.resize(w.rows() * w.cols());
      for (std::size_t r = 0; r < w.rows(); ++r) w.row(r, std::span(values).subspan(r * w.cols(), w.cols()));
      const auto mask = random_units(facts, w.rows(), w.cols(), random);
      w = llama::packed_linear(format.pack({values.data(), w.rows(), w.cols()}, &mask, pool).value());
    }
  return out;
}

/// Seconds of `repeat` runs of f, after one that is not counted.
template <class F>
std::vector<double> timed(std::size_t repeat, F&& f) {
  std::vector<double> out;
  for (std::size_t i = 0; i <= repeat; ++i) {
    const llama::stopwatch watch;
    f();
    if (i != 0) out.push_back(watch.seconds());
  }
  return out;
}

int speed(const settings& s) {
  llama::check_files({{"MODEL", s.model}}, {{"--json", s.json}});
  quern::thread_pool all;
  const llama::model source = llama::load(s.model, all, s.load).value();
  quern::rng random(2);
  std::vector<std::int32_t> ids(std::max(s.prompt, s.tokens));
  for (auto& id : ids) id = static_cast<std::int32_t>(random.below(source.shape.vocab));
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const auto measure = [&](const std::string& name, const llama::model& m) {
    for (const std::size_t threads : s.threads) {
      quern::thread_pool pool(threads);
      llama::session run(m, ids.size(), pool);
      const auto show = [&](std::size_t prompt, std::size_t tokens, const std::vector<double>& seconds) {
        // One line per run, for scripts that collect samples (bench/peers.py).
        for (const double t : seconds)
          std::printf("%s threads %zu prompt %zu tokens %zu weights %zu bytes: %.3f ms, %.1f tokens/s\n",
                      name.c_str(), threads, prompt, tokens, m.bytes(), 1e3 * t,
                      llama::rate_of(static_cast<double>(prompt + tokens), t));
        std::fflush(stdout);
        rows.push_back({{"name", name},
                        {"activations", llama::name_of(s.load.activations)},
                        {"threads", threads},
                        {"prompt", prompt},
                        {"tokens", tokens},
                        {"weight_bytes", m.bytes()},
                        {"seconds", seconds}});
      };
      if (s.prompt != 0)
        show(s.prompt, 0, timed(s.repeat, [&] {
               run.rewind();
               const auto hidden = run.extend(std::span(ids).first(s.prompt));
               run.logits(hidden.rows_of(s.prompt - 1, 1));
             }));
      if (s.tokens != 0)
        show(0, s.tokens, timed(s.repeat, [&] {
               run.rewind();
               for (std::size_t i = 0; i < s.tokens; ++i)
                 run.logits(run.extend(std::span(ids).subspan(i, 1)));
             }));
    }
  };
  if (s.as_is) measure("as-is", source);
  for (const auto& [pattern, quantizer] : s.formats) {
    const llama::format_ops* format = llama::find_format(pattern, quantizer);
    quern::require(format != nullptr, "speed: ", pattern, " with ", quantizer,
                   " is not compiled into this program; compress --list shows what is");
    measure(pattern + "_" + quantizer, in_format(source, *format, all));
  }
  llama::write_json(s.json, rows);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app(
      "Times a prompt and single tokens of a model as it is, and with its blocks packed in other formats.");
  app.add_option("MODEL", s.model, "GGUF or safetensors file; codes of a GGUF file are kept")->required();
  app.add_option(
      "--format", s.formats,
      "pattern and quantizer to pack the blocks in; half of the weights go where the pattern leaves "
      "that free, chosen by lot. May be repeated");
  app.add_flag("!--only-formats", s.as_is, "leave out the model as it is");
  app.add_option("--prompt", s.prompt, "tokens of the prompt; 0: none")
      ->check(llama::count(0, llama::most_context));
  app.add_option("-n,--tokens", s.tokens, "single tokens; 0: none")
      ->check(llama::count(0, llama::most_context));
  app.add_option("--repeat", s.repeat, "runs of each")->check(llama::count(1, 1 << 20));
  app.add_option("--threads", s.threads, "one or more numbers of threads")->check(llama::thread_count());
  llama::add_activations(app, s.load.activations);
  llama::add_mapped(app, s.load.copied);
  app.add_option("--json", s.json, "file for the times");
  return llama::run(app, argc, argv, [&] { return speed(s); });
}
