// SPDX-License-Identifier: Apache-2.0
// Prunes and quantizes a GGUF or safetensors model and writes it packed:
//   compress smollm2.gguf --pattern "group<16>" --quantizer "affine<4,16>" --density 0.5 --text
//   calibration.txt
//            -o small.safetensors --json small.json
// With --bqpo every block is trained after it is compressed, with --e2e N all scales end to end (GQSA); such runs can
// be interrupted (Ctrl-C) and continued with --checkpoint and --resume.
#include <csignal>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/compress_head.hpp>
#include <llama/compress_model.hpp>
#include <llama/load.hpp>
#include <llama/order_model.hpp>
#include <llama/text_ids.hpp>
#include <llama/training_cli.hpp>
#include <map>
#include <optional>

namespace {

volatile std::sig_atomic_t interrupted = 0;

struct settings {
  std::string model, pattern = "group<16>", quantizer = "affine<4,16>", head, text, out, json;
  llama::compress_plan plan;
  llama::training_settings training;
  llama::reorder order = llama::reorder::none;
  std::size_t threads = 0;
  bool list = false;
};

void add_options(CLI::App& app, settings& s) {
  quern::compress_options& o = s.plan.options;
  const auto choice = [&](const char* flag, auto& value, auto names, const char* what) {
    app.add_option(flag, value, what)->transform(CLI::CheckedTransformer(names).description("NAME"));
  };
  using llama::count, llama::finite;
  app.add_option("model", s.model, "GGUF or safetensors file");
  app.add_option("--pattern", s.pattern, "sparsity pattern, for example group<16>, nm<2,4>, dense");
  app.add_option("--quantizer", s.quantizer, "for example affine<4,16>, affine<3,16,two_level>, real<f32>");
  app.add_option(
      "--head", s.head,
      "quantizer of the head, and of the embedding where they are one; else both stay as they are");
  app.add_option("--density", o.density, "share that survives, where the pattern leaves it free")
      ->check(finite(0, 1));
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
         std::map<std::string, timing>{{"best", timing::best},
                                       {"before", timing::before},
                                       {"during", timing::during},
                                       {"ahead", timing::ahead},
                                       {"given", timing::given}},
         "when the mask is chosen: best (by pattern), before, during (each 128 columns keep their share), "
         "ahead (they may "
         "differ); given: zeros stay zeros");
  app.add_option("--refine", o.refine, "steps of masked least squares after compensation; 20 is enough")
      ->check(count(0, 10'000));
  using llama::reorder;
  choice("--order", s.order,
         std::map<std::string, reorder>{
             {"none", reorder::none}, {"hidden", reorder::hidden}, {"all", reorder::all}},
         "rows and inputs that are put into an order in which the pattern loses less: none, hidden (within "
         "blocks), all (and the residual stream)");
  app.add_option("--text", s.text, "calibration text");
  app.add_option("--windows", s.plan.windows, "calibration windows, from the start of the text")
      ->check(count(1, llama::most_windows));
  app.add_option("--context", s.plan.context, "tokens of a window")->check(count(1, llama::most_context));
  app.add_option("--sink-weight", s.plan.sink_weight,
                 "weight of the first position of a window in the Hessians; 0: 256 for models with an "
                 "attention sink there, "
                 "else 1")
      ->check(finite(0, 1e9));
  app.add_option("--damp", s.plan.damp, "damping of the Hessians, in mean diagonals")->check(finite(0, 1e9));
  app.add_option("--keep-dense", s.plan.keep_dense,
                 "regular expression of linears to leave alone (blk.0.attn_q)");
  app.add_flag("--sequential", s.plan.sequential, "calibrate each block on the compressed blocks before it");
  app.add_flag("--dense-targets", s.plan.dense_targets,
               "let every layer correct those before it; take many calibration windows");
  llama::add_training_options(app, s.training);
  app.add_option("-o,--out", s.out, "safetensors file to write");
  app.add_option("--json", s.json, "file for what was printed");
  llama::add_threads(app, s.threads);
  app.add_flag("--list", s.list, "list the formats of this program and leave");
}

/// The end of a progress line: "blk 3 loss 0.0123, 1.2 GB".
std::string note_of(const std::string& what, double loss) {
  char text[96];
  std::snprintf(text, sizeof text, "%s loss %.4f, %.1f GB", what.c_str(), loss,
                static_cast<double>(llama::peak_memory()) / 1e9);
  return text;
}

int stopped(const settings& s) {
  std::fprintf(stderr, "compress: interrupted; %s\n",
               s.training.checkpoint.empty() ? "nothing was written" : "continue with --resume");
  return 1;
}

/// The second stage. @returns its report
llama::tune_report tune(settings& s, llama::model& m, std::span<const std::int32_t> ids,
                        quern::thread_pool& pool) {
  llama::tune_plan plan = s.training.end_to_end;
  plan.context = s.plan.context;
  plan.tune.seed = s.training.seed + 1;
  if (!s.training.checkpoint.empty()) plan.checkpoint = s.training.checkpoint + ".e2e";
  plan.resume = s.training.resume && llama::is_there(plan.checkpoint).value();
  std::optional<llama::model> dense;
  if (plan.distill > 0) dense = llama::load(s.model, pool).value();
  llama::progress bar("e2e step", plan.tune.steps);
  const auto progress = [&](std::uint64_t step, const quern::tune_step& r) {
    bar.at(step, note_of("", r.loss));
    return interrupted == 0;
  };
  return llama::tune_model(m, dense ? &*dense : nullptr, ids, plan, pool, progress).value();
}

int compress(settings& s) {
  s.plan.format = llama::find_format(s.pattern, s.quantizer);
  quern::require(s.plan.format != nullptr, "compress: ", s.pattern, " with ", s.quantizer,
                 " is not compiled into this program; --list shows what is");
  const llama::format_ops* const head = s.head.empty() ? nullptr : llama::find_format("dense", s.head);
  quern::require(s.head.empty() || head != nullptr, "compress: dense with ", s.head,
                 " is not compiled into this program; --list shows what is");
  quern::require(!s.model.empty() && !s.text.empty() && !s.out.empty(),
                 "compress: a model, --text and -o are needed; see --help");
  quern::require(!s.training.resume || !s.training.checkpoint.empty(),
                 "compress: --resume needs --checkpoint");
  const bool fresh = !s.training.resume, stages = s.training.end_to_end.tune.steps > 0;
  const std::string& blocks_file = s.training.checkpoint;
  llama::check_files({{"model", s.model}, {"--text", s.text}},
                     {{"--out", s.out},
                      {"--json", s.json},
                      {"--checkpoint", blocks_file, fresh},
                      {"--checkpoint", stages && !blocks_file.empty() ? blocks_file + ".e2e" : "", fresh}});
  const llama::stopwatch watch;
  quern::thread_pool pool(s.threads);
  llama::model m = llama::load(s.model, pool, {.packed = true}).value();
  const llama::tokenizer words = llama::load_tokenizer(s.model).value();
  const std::vector<std::int32_t> ids = llama::draw_windows(llama::read_ids(s.text, words).value(),
                                                            s.plan.context, s.plan.windows, s.training.seed)
                                            .value();
  s.training.blocks.bqpo.seed = s.training.seed + 1;
  if (s.training.bqpo) s.plan.training = s.training.blocks;
  s.plan.checkpoint = s.training.checkpoint;
  s.plan.resume = s.training.resume && llama::is_there(s.plan.checkpoint).value();

  const llama::order_report ordered = [&] {
    std::optional<llama::progress> bar;
    return llama::order_model(m, ids, s.plan, s.order, pool,
                              [&](std::size_t step, std::size_t steps) {
                                if (!bar) bar.emplace("order step", steps);
                                bar->at(step);
                                return interrupted == 0;
                              })
        .value();
  }();
  if (ordered.interrupted) return stopped(s);
  double head_error = 0;  // after the order, whose columns a packed embedding could not follow
  if (head != nullptr) {
    head_error = llama::compress_head(m, ids, *head, s.plan, pool).value();
    std::printf("head: %s, %zu bytes, relative error %.5f\n", s.head.c_str(), m.head.bytes(), head_error);
  }
  nlohmann::ordered_json orders = nlohmann::ordered_json::array();
  std::size_t taken = 0;
  for (const llama::ordered_part& p : ordered.parts) {
    taken += p.taken ? 1 : 0;
    orders.push_back({{"name", p.name},
                      {"before", p.before},
                      {"after", p.after},
                      {"error_before", p.error_before},
                      {"error_after", p.error_after},
                      {"taken", p.taken}});
  }
  if (!ordered.parts.empty())
    std::printf("order: %zu of %zu parts in a new one, %.1f s\n", taken, ordered.parts.size(),
                ordered.seconds);

  nlohmann::ordered_json linears = nlohmann::ordered_json::array(), blocks = linears;
  const llama::compress_report r = [&] {
    const std::size_t total = m.shape.layers * std::size(llama::block_linears);
    llama::progress bar("linear", total);
    std::size_t at = 0;
    s.plan.on_step = [&](std::size_t layer, std::size_t step, std::size_t steps, double loss) {
      bar.at(at, note_of("blk " + std::to_string(layer) + " step " + std::to_string(step) + " of " +
                             std::to_string(steps),
                         loss));
    };
    s.plan.on_block = [&](std::size_t layer, const quern::bqpo_report& b) {
      std::printf("blk %zu: loss %.5f, %.5f after training (epoch %zu, %zu steps)\n", layer, b.before,
                  b.after, b.best_epoch, b.steps);
      std::fflush(stdout);
    };
    const auto progress = [&](const llama::compressed_linear& l) {
      at = std::max(at, l.layer * std::size(llama::block_linears)) + 1;
      bar.at(at);
      return interrupted == 0;
    };
    return llama::compress_model(m, ids, s.plan, pool, progress).value();
  }();
  if (r.interrupted) return stopped(s);
  for (const llama::compressed_linear& l : r.linears)
    linears.push_back({{"name", l.name}, {"error", l.error}, {"bytes", l.bytes}, {"kept", l.kept}});
  for (const quern::bqpo_report& b : r.blocks)
    blocks.push_back(
        {{"before", b.before}, {"after", b.after}, {"steps", b.steps}, {"best_epoch", b.best_epoch}});
  llama::tune_report tuned;
  if (s.training.end_to_end.tune.steps > 0) tuned = tune(s, m, ids, pool);
  if (tuned.interrupted) return stopped(s);
  char note[256];
  std::snprintf(note, sizeof note, "%s %s density %g, head %s, %zu windows of %zu, seed %llu%s%s, e2e %llu",
                s.pattern.c_str(), s.quantizer.c_str(), s.plan.options.density,
                head != nullptr ? s.head.c_str() : "as it was", s.plan.windows, s.plan.context,
                static_cast<unsigned long long>(s.training.seed),
                s.order == llama::reorder::none     ? ""
                : s.order == llama::reorder::hidden ? ", order hidden"
                                                    : ", order all",
                s.training.bqpo ? ", bqpo" : "",
                static_cast<unsigned long long>(s.training.end_to_end.tune.steps));
  llama::save(s.out, m, words, {{"quern.compress", note}}).value();
  std::printf(
      "%s: %.4f bits per weight in %zu linears, mean relative error %.4f, %.1f MB in all, %.1f min, %.1f "
      "GB\n",
      s.out.c_str(), r.bits_per_weight(), r.linears.size(), r.mean_error(),
      static_cast<double>(m.bytes()) / 1e6, watch.seconds() / 60,
      static_cast<double>(llama::peak_memory()) / 1e9);
  llama::write_json(s.json, {{"pattern", s.pattern},
                             {"quantizer", s.quantizer},
                             {"density", s.plan.options.density},
                             {"bits_per_weight", r.bits_per_weight()},
                             {"mean_error", r.mean_error()},
                             {"head", s.head},
                             {"head_error", head_error},
                             {"weight_bytes", m.bytes()},
                             {"calibration_tokens", r.tokens},
                             {"calibration_seconds", r.calibration_seconds},
                             {"seconds", watch.seconds()},
                             {"order_seconds", ordered.seconds},
                             {"orders", orders},
                             {"peak_memory", llama::peak_memory()},
                             {"blocks", blocks},
                             {"e2e", {{"steps", tuned.steps}, {"first", tuned.first}, {"last", tuned.last}}},
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
