// SPDX-License-Identifier: Apache-2.0
// Prunes and quantizes a GGUF or safetensors model and writes it packed:
//   compress smollm2.gguf --pattern "group<16>" --quantizer "affine<4,16>" --density 0.5 --text
//   calibration.txt
//            -o small.safetensors --json small.json
#include <csignal>
#include <llama/cli.hpp>
#include <llama/compress_model.hpp>
#include <llama/load.hpp>
#include <map>

namespace {

volatile std::sig_atomic_t interrupted = 0;

struct settings {
  std::string model, pattern = "group<16>", quantizer = "affine<4,16>", text, out, json;
  llama::compress_plan plan;
  std::size_t threads = 0;
  bool list = false;
};

void add_options(CLI::App& app, settings& s) {
  quern::compress_options& o = s.plan.options;
  const auto choice = [&](const char* flag, auto& value, auto names, const char* what) {
    app.add_option(flag, value, what)->transform(CLI::CheckedTransformer(names).description("NAME"));
  };
  app.add_option("model", s.model, "GGUF or safetensors file");
  app.add_option("--pattern", s.pattern, "sparsity pattern, for example group<16>, nm<2,4>, dense");
  app.add_option("--quantizer", s.quantizer, "for example affine<4,16>, affine<3,16,two_level>, real<f32>");
  app.add_option("--density", o.density, "share that survives, where the pattern leaves it free")
      ->check(CLI::Range(0.0, 1.0));
  using quern::saliency;
  choice("--score", o.score,
         std::map<std::string, saliency>{{"magnitude", saliency::magnitude},
                                         {"wanda", saliency::wanda},
                                         {"obs", saliency::obs},
                                         {"obs_block", saliency::obs_block}},
         "what a weight is worth: magnitude, wanda, obs, obs_block");
  using quern::scope;
  choice("--scope", o.over,
         std::map<std::string, scope>{
             {"row", scope::row}, {"row_block", scope::row_block}, {"layer", scope::layer}},
         "units that compete: row, row_block (16 rows), layer");
  using quern::compensation;
  choice("--compensate", o.compensate,
         std::map<std::string, compensation>{{"none", compensation::none}, {"obs", compensation::obs}},
         "whether survivors make up for pruned weights: none, obs");
  using quern::rounding;
  choice("--rounding", o.round,
         std::map<std::string, rounding>{{"rtn", rounding::rtn}, {"gptq", rounding::gptq}},
         "rtn (to nearest), gptq");
  using quern::timing;
  choice("--choose", o.choose,
         std::map<std::string, timing>{
             {"best", timing::best}, {"before", timing::before}, {"during", timing::during}},
         "when the mask is chosen: best (by pattern), before, during");
  app.add_option("--text", s.text, "calibration text");
  app.add_option("--windows", s.plan.windows, "calibration windows, from the start of the text");
  app.add_option("--context", s.plan.context, "tokens of a window");
  app.add_option("--sink-weight", s.plan.sink_weight, "weight of the first position of a window");
  app.add_option("--damp", s.plan.damp, "damping of the Hessians, in mean diagonals");
  app.add_option("--keep-dense", s.plan.keep_dense,
                 "regular expression of linears to leave alone (blk.0.attn_q)");
  app.add_flag("--sequential", s.plan.sequential, "calibrate each block on the compressed blocks before it");
  app.add_option("-o,--out", s.out, "safetensors file to write");
  app.add_option("--json", s.json, "file for what was printed");
  app.add_option("--threads", s.threads, "0: all cores");
  app.add_flag("--list", s.list, "list the formats of this program and leave");
}

int compress(settings& s) {
  s.plan.format = llama::find_format(s.pattern, s.quantizer);
  quern::require(s.plan.format != nullptr, "compress: ", s.pattern, " with ", s.quantizer,
                 " is not compiled into this program; --list shows what is");
  quern::require(!s.model.empty() && !s.text.empty() && !s.out.empty(),
                 "compress: a model, --text and -o are needed; see --help");
  const llama::stopwatch watch;
  quern::thread_pool pool(s.threads);
  llama::model m = llama::load(s.model, pool, {.packed = true}).value();
  const llama::tokenizer words = llama::load_tokenizer(s.model).value();
  const std::vector<std::int32_t> ids = words.encode(llama::read_text(s.text));

  nlohmann::ordered_json linears = nlohmann::ordered_json::array();
  const llama::compress_report r = [&] {
    llama::progress bar("linear", m.shape.layers * std::size(llama::block_linears));
    const auto progress = [&](const llama::compressed_linear& l) {
      linears.push_back({{"name", l.name}, {"error", l.error}, {"bytes", l.bytes}, {"kept", l.kept}});
      bar.at(linears.size());
      return interrupted == 0;
    };
    return llama::compress_model(m, ids, s.plan, pool, progress).value();
  }();
  if (r.interrupted) {
    std::fprintf(stderr, "compress: interrupted; nothing was written\n");
    return 1;
  }
  char note[256];
  std::snprintf(note, sizeof note, "%s %s density %g, %zu windows of %zu", s.pattern.c_str(),
                s.quantizer.c_str(), s.plan.options.density, s.plan.windows, s.plan.context);
  llama::save(s.out, m, words, {{"quern.compress", note}}).value();
  std::printf("%s: %.4f bits per weight in %zu linears, mean relative error %.4f, %.1f MB in all, %.1f min\n",
              s.out.c_str(), r.bits_per_weight(), r.linears.size(), r.mean_error(),
              static_cast<double>(m.bytes()) / 1e6, watch.seconds() / 60);
  llama::write_json(s.json, {{"pattern", s.pattern},
                             {"quantizer", s.quantizer},
                             {"density", s.plan.options.density},
                             {"bits_per_weight", r.bits_per_weight()},
                             {"mean_error", r.mean_error()},
                             {"weight_bytes", m.bytes()},
                             {"calibration_tokens", r.tokens},
                             {"calibration_seconds", r.calibration_seconds},
                             {"seconds", watch.seconds()},
                             {"linears", linears}});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Prunes and quantizes a language model and writes it packed.");
  add_options(app, s);
  return llama::run(app, argc, argv, [&] {
    if (s.list) {
      for (const llama::format_ops* f : llama::all_formats())
        std::printf("--pattern \"%s\" --quantizer \"%s\"\n", f->pattern.c_str(), f->quantizer.c_str());
      return 0;
    }
    std::signal(SIGINT, [](int) { interrupted = 1; });
    return compress(s);
  });
}
