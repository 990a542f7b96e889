// SPDX-License-Identifier: Apache-2.0
// Negative log likelihood of a text under a model, dense or compressed:
//   perplexity model.gguf --text wiki.test.raw --context 512 --windows 32
#include <cmath>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/evaluate.hpp>
#include <llama/load.hpp>
#include <llama/text_ids.hpp>

int main(int argc, char** argv) {
  std::string path, text, json;
  quern::perplexity_options options;
  llama::load_options load;
  std::size_t threads = 0;
  CLI::App app(
      "Negative log likelihood per token of a text: over all positions, and over the second half of each "
      "window, whose tokens have at least half a window before them.");
  app.add_option("MODEL", path, "GGUF or safetensors file")->required();
  app.add_option("--text", text, "text to score; read whole, tokenized once")->required();
  app.add_option("--context", options.context, "tokens of a window")
      ->check(llama::count(2, llama::most_context));
  app.add_option("--windows", options.windows, "windows from the start of the text; 0: all")
      ->check(llama::count(0, llama::most_windows));
  app.add_flag("--packed", load.packed, "keep the codes of a GGUF file instead of making fp32 of them");
  llama::add_activations(app, load.activations);
  llama::add_mapped(app, load.copied);
  llama::add_threads(app, threads);
  app.add_option("--json", json, "file for the figures");
  return llama::run(app, argc, argv, [&] {
    llama::check_files({{"MODEL", path}, {"--text", text}}, {{"--json", json}});
    quern::thread_pool pool(threads);
    const llama::model m = llama::load(path, pool, load).value();
    const auto words = llama::load_tokenizer(path).value();
    const auto ids = llama::read_ids(text, words).value();
    llama::stopwatch watch;
    llama::progress bar("window", options.windows != 0 ? options.windows : ids.size() / options.context);
    const auto r = llama::evaluate(m, ids, options, pool, [&](std::size_t n) { bar.at(n); }).value();
    const std::size_t windows = r.window_nll.size();
    const double rate = llama::rate_of(static_cast<double>(windows * options.context), watch.seconds());
    double spread = 0;  // standard error of the mean over windows
    for (const double w : r.window_nll) spread += (w - r.nll) * (w - r.nll);
    if (windows > 1)
      spread = std::sqrt(spread / static_cast<double>(windows - 1) / static_cast<double>(windows));
    std::printf("weights %zu bytes, %zu windows of %zu tokens, %.0f tokens/s\n", m.bytes(), windows,
                options.context, rate);
    std::printf("all          nll %.6f +- %.4f   perplexity %.4f\n", r.nll, spread, std::exp(r.nll));
    std::printf("second half  nll %.6f            perplexity %.4f\n", r.nll_second, std::exp(r.nll_second));
    llama::write_json(json, {{"model", path},
                             {"text", text},
                             {"context", options.context},
                             {"windows", windows},
                             {"weight_bytes", m.bytes()},
                             {"activations", llama::name_of(load.activations)},
                             {"tokens_per_second", rate},
                             {"nll", r.nll},
                             {"nll_second_half", r.nll_second},
                             {"window_nll", r.window_nll}});
    return 0;
  });
}
