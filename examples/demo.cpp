// SPDX-License-Identifier: Apache-2.0
// The main job on the embedded model: compress it to each format and by each method, store it, map the file, run it
// from there.
//   demo --out build/demo
#include <cctype>
#include <cmath>
#include <filesystem>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/evaluate.hpp>
#include <llama/load.hpp>
#include <llama/method_models.hpp>
#include <llama/svg.hpp>
#include <llama/text_ids.hpp>

namespace {

enum class method { one_shot, gqsa, ast, evopress };
constexpr const char* method_names[] = {"one-shot", "GQSA", "AST", "EvoPress"};
struct entry {
  const char* label;
  const char* pattern;
  const char* quantizer;
  const char* series;  // of the figure
  method how = method::one_shot;
};
constexpr entry entries[] = {
    {"dense bf16", "dense", "real<bf16>", "dense"},
    {"W4 dense", "dense", "affine<4,16,two_level>", "dense"},
    {"W3 dense", "dense", "affine<3,16,two_level>", "dense"},
    {"W2 dense", "dense", "affine<2,16,two_level>", "dense"},
    {"EvoPress, 2.5 bits", "dense", "affine<2..8,16,two_level>", "EvoPress", method::evopress},
    {"W4 50 % group<16>", "group<16>", "affine<4,16>", "50 % of the groups"},
    {"W4 50 % group_nm<2,4,16>", "group_nm<2,4,16>", "affine<4,16>", "50 % of the groups"},
    {"W4 50 % bsr<16,32>", "bsr<16,32>", "affine<4,32>", "50 % of the groups"},
    {"GQSA, group<16>", "group<16>", "affine<4,16>", "GQSA: 50 % of the groups, trained", method::gqsa},
    {"GQSA, bsr<16,32>", "bsr<16,32>", "affine<4,32>", "GQSA: 50 % of the groups, trained", method::gqsa},
    {"W4 50 % nm<2,4>", "nm<2,4>", "affine<4,16,two_level>", "2:4"},
    {"AST, nm<2,4>", "nm<2,4>", "affine<4,16,two_level>", "AST: 2:4, retrained", method::ast}};

struct row {
  double bits = 0, nats = 0, decode = 0, seconds = 0;
  std::uintmax_t file_bytes = 0;
  std::size_t linear_bytes = 0;
};

struct settings {
  std::string data = "examples/data", out = "build/demo", json;
  std::size_t windows = 0, tokens = 256, threads = 0;
  llama::method_inputs inputs;
};

llama::model make(const entry& e, const llama::method_inputs& in, quern::thread_pool& pool) {
  switch (e.how) {
    case method::gqsa:
      return llama::gqsa_model(in, e.pattern, e.quantizer, pool);
    case method::ast:
      return llama::ast_model(in, e.pattern, e.quantizer, pool);
    case method::evopress:
      return llama::evopress_model(in, 2.5, pool);
    case method::one_shot:
      break;
  }
  return llama::one_shot_model(in, e.pattern, e.quantizer, pool);
}

/// The label as a file's name: "W4_50_group_16".
std::string file_name(const std::string& label) {
  std::string out;
  for (const char c : label)
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.')
      out += c;
    else if (!out.empty() && out.back() != '_')
      out += '_';
  if (out.back() == '_') out.pop_back();
  return out;
}

/// Compresses by one method, writes the file, and measures what the file gives.
row measure(const entry& e, const settings& s, const std::vector<std::int32_t>& held_out,
            quern::thread_pool& pool) {
  const llama::stopwatch watch;
  const std::string path = s.out + "/" + file_name(e.label) + ".safetensors";
  llama::save(path, make(e, s.inputs, pool), llama::load_tokenizer(s.inputs.source).value(),
              {{"quern.compress", e.label}})
      .value();

  row r;
  const llama::model stored = llama::load(path, pool).value();
  std::size_t weights = 0;
  for (const llama::block& b : stored.blocks)
    for (const llama::named_linear& l : llama::block_linears) {
      const llama::linear& w = b.*l.weight;
      r.linear_bytes += w.bytes(), weights += w.rows() * w.cols();
    }
  r.bits = static_cast<double>(r.linear_bytes) * 8 / static_cast<double>(weights);
  r.file_bytes = std::filesystem::file_size(path);
  r.nats = llama::evaluate(stored, held_out, {.context = 512, .windows = s.windows}, pool).value().nll;
  llama::generate_options options;
  options.tokens = s.tokens;
  const auto g = llama::generate(stored, std::span(held_out).first(32), options, pool);
  r.decode = llama::rate_of(static_cast<double>(g.decoded), g.decode_seconds);
  r.seconds = watch.seconds();
  return r;
}

int demo(settings& s) {
  quern::thread_pool pool(s.threads);
  std::filesystem::create_directories(s.out);
  const std::string held_file = s.data + "/held_out.txt", text_file = s.data + "/calibration.txt";
  s.inputs.source = s.data + "/quern-kjv-3m.safetensors";
  if (s.json.empty()) s.json = s.out + "/demo.json";
  llama::check_files({{"--data", s.inputs.source}, {"--data", held_file}, {"--data", text_file}},
                     {{"--out", s.out + "/perplexity.svg"}, {"--json", s.json}});
  const llama::tokenizer words = llama::tokenizer::bytes();
  const auto held_out = llama::read_ids(held_file, words).value();
  s.inputs.text = llama::read_ids(text_file, words).value();
  s.inputs.folder = s.out + "/levels";
  std::printf("%-26s %-24s %8s %9s %9s %10s %10s %9s %8s\n", "", "quantizer", "bits/w", "nats/byte",
              "perplexity", "linears B", "file B", "tokens/s", "seconds");
  llama::svg_chart chart{.title = "Embedded model, compressed",
                         .x_label = "bits per weight of the linears",
                         .y_label = "perplexity per byte, held-out text"};
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const entry& e : entries) {
    const row r = measure(e, s, held_out, pool);
    std::printf("%-26s %-24s %8.3f %9.4f %10.3f %9zu %10ju %9.0f %8.1f\n", e.label, e.quantizer, r.bits,
                r.nats, std::exp(r.nats), r.linear_bytes, r.file_bytes, r.decode, r.seconds);
    std::fflush(stdout);
    if (chart.series.empty() || chart.series.back().name != e.series)
      chart.series.push_back({.name = e.series, .points = {}, .line = std::string(e.series) == "dense"});
    chart.series.back().points.push_back({r.bits, std::exp(r.nats), e.label});
    rows.push_back({{"label", e.label},
                    {"method", method_names[static_cast<int>(e.how)]},
                    {"pattern", e.pattern},
                    {"quantizer", e.quantizer},
                    {"bits_per_weight", r.bits},
                    {"nats_per_byte", r.nats},
                    {"perplexity", std::exp(r.nats)},
                    {"linear_bytes", r.linear_bytes},
                    {"file_bytes", r.file_bytes},
                    {"decode_tokens_per_second", r.decode},
                    {"seconds", r.seconds}});
  }
  llama::write_json(s.json, rows);
  llama::write_text(s.out + "/perplexity.svg", llama::svg(chart)).value();
  std::printf("files, demo.json and perplexity.svg are in %s\n", s.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app(
      "Compresses the embedded model to several formats and by several methods, stores each in a file and "
      "runs "
      "it from there.");
  using llama::count;
  app.add_option("--data", s.data, "folder of the model and its texts");
  app.add_option("--out", s.out, "folder for models, figures and demo.json");
  app.add_option("--windows", s.windows, "windows of 512 bytes to measure on; 0: the whole held-out text")
      ->check(count(0, llama::most_windows));
  app.add_option("--calibration", s.inputs.windows, "calibration windows of 512 bytes")->check(count(2, 512));
  app.add_option("--epochs", s.inputs.epochs, "GQSA's first stage: passes of training a block")
      ->check(count(1, 1000));
  app.add_option("--e2e", s.inputs.tune_steps, "GQSA's second stage: steps")
      ->check(count(1, llama::most_steps));
  app.add_option("--steps", s.inputs.steps, "AST: steps of retraining")->check(count(1, llama::most_steps));
  app.add_option("--generations", s.inputs.generations, "EvoPress: generations of 16 candidates")
      ->check(count(1, 1'000'000));
  app.add_option("--tokens", s.tokens, "tokens to generate for the speed")->check(count(1, 400));
  llama::add_threads(app, s.threads);
  app.add_option("--json", s.json, "file for the table; default demo.json in --out");
  return llama::run(app, argc, argv, [&] { return demo(s); });
}
