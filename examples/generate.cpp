// SPDX-License-Identifier: Apache-2.0
// Continues a text with a model, dense or compressed:
//   generate model.safetensors --prompt "In the beginning" -n 64
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/evaluate.hpp>
#include <llama/load.hpp>
#include <llama/text_ids.hpp>

int main(int argc, char** argv) {
  std::string path, prompt, json;
  llama::generate_options options;
  llama::load_options load;
  std::size_t threads = 0;
  bool ids_only = false;
  CLI::App app("Continues a text and reports tokens per second.");
  app.add_option("MODEL", path, "GGUF or safetensors file")->required();
  app.add_option("--prompt", prompt, "text to continue")->required();
  app.add_option("-n,--tokens", options.tokens, "tokens to add")->check(llama::count(0, llama::most_context));
  app.add_option("--temperature", options.sample.temperature, "0: always the likeliest token")
      ->check(llama::finite(0, 1000));
  app.add_option("--top-p", options.sample.top_p,
                 "draw only from the likeliest tokens that together reach this")
      ->check(llama::finite(1e-6, 1));
  app.add_option("--seed", options.seed)->check(llama::any_seed());
  app.add_flag("--packed", load.packed, "keep the codes of a GGUF file instead of making fp32 of them");
  llama::add_activations(app, load.activations);
  llama::add_mapped(app, load.copied);
  app.add_flag("--ids", ids_only, "print ids instead of text");
  llama::add_threads(app, threads);
  app.add_option("--json", json, "file for text, ids and figures");
  return llama::run(app, argc, argv, [&] {
    llama::check_files({{"MODEL", path}}, {{"--json", json}});
    quern::thread_pool pool(threads);
    const llama::model m = llama::load(path, pool, load).value();
    const auto words = llama::load_tokenizer(path).value();
    const auto start = llama::encode_whole(words, prompt, "--prompt", true).value();
    options.stop = words.eos().value_or(-1);
    options.on_token = [&](std::int32_t id) {
      if (ids_only)
        std::printf("%d ", id);
      else
        std::fputs(words.decode(std::span(&id, 1)).c_str(), stdout);
      std::fflush(stdout);
    };
    if (!ids_only) std::fputs(prompt.c_str(), stdout);
    const auto g = llama::generate(m, start, options, pool);
    const double prefill = llama::rate_of(static_cast<double>(start.size()), g.prefill_seconds);
    const double decode = llama::rate_of(static_cast<double>(g.decoded), g.decode_seconds);
    std::printf("\n");
    std::fprintf(stderr,
                 "weights %zu bytes; prompt %zu tokens, %.0f tokens/s; generated %zu, %.1f tokens/s\n",
                 m.bytes(), start.size(), prefill, g.ids.size(), decode);
    llama::write_json(json, {{"model", path},
                             {"prompt_ids", start},
                             {"ids", g.ids},
                             {"text", words.decode(g.ids)},
                             {"weight_bytes", m.bytes()},
                             {"activations", llama::name_of(load.activations)},
                             {"prefill_tokens_per_second", prefill},
                             {"decode_tokens_per_second", decode}});
    return 0;
  });
}
