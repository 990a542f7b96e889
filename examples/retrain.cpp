// SPDX-License-Identifier: Apache-2.0
// Retrains a model under a sparsity pattern with learned masks (AST, arXiv 2407.20584):
//   retrain model.safetensors --text kjv.txt --held-out held_out.txt --pattern "nm<2,4>" --variant annealed
//           --loss kl --slorb 16 --steps 200 -o sparse.safetensors --log run.jsonl --svg run
// With --checkpoint it can be interrupted (Ctrl-C) and continued with --resume, bit for bit. `compress --choose given`
// quantizes what it writes without touching the masks.
#include <cmath>
#include <csignal>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/load.hpp>
#include <llama/model_file.hpp>
#include <llama/retrain_ends.hpp>
#include <llama/retrain_run.hpp>
#include <llama/text_ids.hpp>
#include <llama/train_cli.hpp>
#include <map>
#include <memory>

namespace {

volatile std::sig_atomic_t interrupted = 0;

struct settings {
  std::string model, teacher, held_out, pattern = "nm<2,4>", variant = "annealed", loss = "kl",
                                        side_format = "real<bf16>", cache, json, out;
  std::vector<std::string> texts;
  llama::one_shot start = llama::one_shot::magnitude;
  std::size_t context = 256, calibration = 32, threads = 0;
  float lambda = 2e-3f;
  double ramp = 0.25;
  bool resume = false;
  llama::retrain_options options;
  llama::run_files files;
};

void add_options(CLI::App& app, settings& s) {
  llama::retrain_options& o = s.options;
  using llama::count, llama::finite;
  const CLI::Validator rate_or_none = finite(0, llama::most_rate), steps = count(1, llama::most_steps);
  const CLI::Validator windows_or_all = count(0, llama::most_windows);
  const auto one_of = [](std::vector<std::string> names) { return CLI::IsMember(std::move(names)); };
  app.add_option("MODEL", s.model, "GGUF or safetensors file")->required();
  app.add_option("--text", s.texts, "text to learn from; may be given more than once")->required();
  app.add_option("--held-out", s.held_out, "text to measure on, never to learn from")->required();
  app.add_option("--pattern", s.pattern, "sparsity of the linears, for example nm<2,4>, group_nm<2,4,16>");
  app.add_option("--density", o.rule.density, "share that survives, where the pattern leaves it free")
      ->check(finite(0, 1));
  app.add_option("--start", s.start, "weights to begin with: magnitude, wanda, sparsegpt")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, llama::one_shot>{{"magnitude", llama::one_shot::magnitude},
                                                 {"wanda", llama::one_shot::wanda},
                                                 {"sparsegpt", llama::one_shot::sparsegpt}}));
  app.add_option("--calibration", s.calibration, "windows of the text that wanda and sparsegpt see")
      ->check(count(1, llama::most_windows));
  app.add_option(
         "--variant", s.variant,
         "annealed (AST), static (SR-STE), none (STE without decay), fixed, gradual, iterative, cast, dense")
      ->check(one_of({"annealed", "static", "none", "fixed", "gradual", "iterative", "cast", "dense"}));
  app.add_option("--lambda", s.lambda, "decay of masked weights (its final value, where it is annealed)")
      ->check(rate_or_none);
  app.add_option("--ramp", s.ramp, "share of the steps over which an annealed decay rises")
      ->check(finite(0, 1));
  app.add_option("--update", o.update_every, "steps between masks")->check(steps);
  app.add_option("--rounds", o.rounds, "of iterative pruning")->check(count(1, 1000));
  app.add_option("--loss", s.loss, "ce, kl, reverse_kl, squarehead, tinybert (the last two beside ce)")
      ->check(one_of({"ce", "kl", "reverse_kl", "squarehead", "tinybert"}));
  app.add_option("--kl-weight", o.loss.weight, "of the divergence, beside cross-entropy")
      ->check(finite(0, 1));
  app.add_option("--temperature", o.loss.temperature)->check(finite(0.001, 1000));
  app.add_option("--hidden-weight", o.hidden_weight, "of a loss on hidden states")
      ->check(finite(llama::least_rate, llama::most_rate));
  app.add_option("--teacher", s.teacher, "model to learn from; the model itself where none is named");
  auto* const top = app.add_option("--top-k", o.top_k, "keep only the teacher's likeliest classes; 0: all")
                        ->check(count(0, 1 << 20));
  app.add_option("--teacher-cache", s.cache, "file of those, made where it is absent")->needs(top);
  app.add_option("--slorb", o.slorb, "inputs per group of side weights; 0: none")
      ->check(count(0, llama::most_group));
  app.add_flag("--train-projection", o.train_projection, "train SLoRB's projection, too");
  app.add_option("--side-format", s.side_format, "quantizer of side weights in the file");
  llama::add_run_options(app, o.run);
  app.add_option("--context", s.context, "tokens of a sequence")->check(count(1, llama::most_context));
  app.add_option("--every", s.files.every, "steps between held-out measurements")->check(steps);
  app.add_option("--windows", s.files.windows, "held-out windows of those; 0: all")->check(windows_or_all);
  app.add_option("--final-windows", s.files.final_windows, "held-out windows of the last one; 0: all")
      ->check(windows_or_all);
  auto* const checkpoint = app.add_option("--checkpoint", s.files.checkpoint, "state of the run");
  app.add_option("--save-every", s.files.save_every, "steps between checkpoints")->check(steps);
  app.add_flag("--resume", s.resume, "continue from --checkpoint")->needs(checkpoint);
  app.add_option("--log", s.files.log, "file for the steps, one JSON object a line");
  app.add_option("--svg", s.files.svg, "charts of losses and flip rates: NAME.loss.svg, NAME.flips.svg");
  app.add_option("-o,--output", s.out, "the model after the last step");
  app.add_option("--best", s.files.best, "the model with the lowest held-out loss");
  app.add_option("--json", s.json, "file for the figures");
  llama::add_threads(app, s.threads);
}

/// What --variant and --loss stand for.
void resolve(settings& s) {
  using enum llama::mask_policy;
  llama::retrain_options& o = s.options;
  const std::map<std::string, llama::mask_policy> policies{
      {"fixed", fixed}, {"gradual", gradual}, {"iterative", iterative}, {"cast", cast}, {"dense", dense}};
  const auto found = policies.find(s.variant);
  o.policy = found == policies.end() ? learned : found->second;
  const auto ramp = static_cast<std::uint64_t>(s.ramp * static_cast<double>(o.run.steps));
  o.decay = s.variant == "annealed" ? quern::annealed_decay(s.lambda, ramp)
            : s.variant == "none"   ? quern::no_decay()
                                    : quern::static_decay(s.lambda);
  if (s.loss == "squarehead") o.hidden = quern::hidden_loss::squarehead;
  if (s.loss == "tinybert") o.hidden = quern::hidden_loss::tinybert;
  o.loss.reverse = s.loss == "reverse_kl";
  if (s.loss != "kl" && s.loss != "reverse_kl") o.loss.weight = 0;
}

/// Where to learn from: the model itself, or another file, whose weights @p own keeps.
std::optional<llama::teacher_model> teacher_of(const settings& s, const llama::config& shape,
                                               const llama::aligned<float>& dense, llama::aligned<float>& own,
                                               quern::thread_pool& pool) {
  if (s.options.loss.weight == 0 && !s.options.hidden) return {};
  if (s.teacher.empty()) return llama::teacher_model{shape, dense};
  const llama::model m = llama::load(s.teacher, pool).value();
  own = llama::flatten(m);
  llama::teacher_model out{m.shape, own};
  out.shape.context = s.context;
  return out;
}

void print(const settings& s, const llama::retrainer& r, const llama::run_outcome& done) {
  std::printf("%s %s %s: held-out %.6f nats, perplexity %.4f", s.variant.c_str(), s.pattern.c_str(),
              s.loss.c_str(), done.nll, std::exp(done.nll));
  if (done.start_nll) std::printf(" (start %.4f)", std::exp(*done.start_nll));
  std::printf(", %.0f tokens/s, peak memory %.2f GB\n", done.tokens_per_second,
              static_cast<double>(llama::peak_memory()) / 1e9);
  llama::write_json(s.json,
                    {{"model", s.model},
                     {"variant", s.variant},
                     {"pattern", s.pattern},
                     {"loss", s.loss},
                     {"slorb", s.options.slorb},
                     {"seed", s.options.run.seed},
                     {"run", r.fingerprint()},
                     {"start_nll", done.start_nll ? nlohmann::ordered_json(*done.start_nll) : nullptr},
                     {"nll", done.nll},
                     {"perplexity", std::exp(done.nll)},
                     {"best_nll", r.best_loss()},
                     {"best_step", r.best_step()},
                     {"early_flips", done.early_flips},
                     {"final_flips", done.final_flips},
                     {"drift", done.drift},
                     {"tokens_per_second", done.tokens_per_second},
                     {"peak_memory", llama::peak_memory()}});
}

void check_files(const settings& s) {
  std::vector<llama::named_file> inputs{
      {"MODEL", s.model}, {"--teacher", s.teacher}, {"--held-out", s.held_out}};
  for (const std::string& path : s.texts) inputs.push_back({"--text", path});
  const auto chart = [&](const char* name) { return s.files.svg.empty() ? "" : s.files.svg + name; };
  std::vector<llama::named_file> outputs{{"--checkpoint", s.files.checkpoint, !s.resume},
                                         {"--log", s.files.log, !s.resume},
                                         {"--svg", chart(".loss.svg")},
                                         {"--svg", chart(".flips.svg")},
                                         {"--output", s.out},
                                         {"--best", s.files.best},
                                         {"--json", s.json}};
  // Read where it is there, else written.
  (llama::is_there(s.cache).value() ? inputs : outputs).push_back({"--teacher-cache", s.cache});
  llama::check_files(inputs, outputs);
}

/// @returns 0, or 1 if it was interrupted
int retrain(settings& s) {
  resolve(s);
  llama::retrain_options& o = s.options;
  o.rule.shape = llama::shape_of_pattern(s.pattern).value();
  const llama::format_ops* const side = llama::find_format("dense", s.side_format);
  quern::require(side != nullptr, "retrain: dense with ", s.side_format,
                 " is not compiled into this program");
  check_files(s);
  const auto stop = [] { return interrupted != 0; };
  quern::thread_pool pool(s.threads);
  const llama::tokenizer words = llama::load_tokenizer(s.model).value();
  std::vector<llama::training_text> texts;
  for (const auto& path : s.texts) texts.push_back({llama::read_ids(path, words).value()});
  const std::vector<std::int32_t> held = llama::read_ids(s.held_out, words).value();

  // What training does not need is let go of: with a large model every copy of the weights counts.
  auto original = std::make_unique<llama::model>(llama::load(s.model, pool).value());
  const llama::config whole = original->shape;
  quern::require(s.context <= whole.context, "retrain: --context is ", s.context, "; this model takes up to ",
                 whole.context);
  // Here and not where threads do it, out of which nothing can be thrown.
  quern::require(o.top_k <= whole.vocab, "retrain: --top-k is ", o.top_k, "; the vocabulary has ",
                 whole.vocab);
  llama::config shape = whole;
  shape.context = s.context;
  const llama::aligned<float> dense = llama::flatten(*original);
  llama::aligned<float> own, start = llama::one_shot_weights(*original, texts[0].ids,
                                                             {.pattern = s.pattern,
                                                              .density = o.rule.density,
                                                              .start = s.start,
                                                              .windows = s.calibration,
                                                              .context = s.context},
                                                             pool)
                                         .value();
  original.reset();
  llama::retrain_start from{
      .weights = start, .dense = dense, .teacher = teacher_of(s, shape, dense, own, pool), .held_out = held};
  quern::top_logits cached;
  if (!s.cache.empty() && from.teacher) {
    llama::progress bar("teacher step", o.run.steps);
    bool stopped = false;
    const auto shown = [&](std::uint64_t n) {
      bar.at(n);
      return !(stopped = stop());
    };
    auto made = llama::cached_teacher(s.cache, *from.teacher, texts,
                                      {o.run.seed, o.run.steps, o.run.batch, s.context}, o.top_k,
                                      o.loss.temperature, pool, shown);
    if (stopped) {
      std::fprintf(stderr, "retrain: %s\n", made.error().what());
      return 1;
    }
    cached = std::move(made.value());
    from.cached = &cached;
  }
  llama::retrainer r(shape, o, std::move(texts), from);
  start = {};
  if (s.resume) r.resume(s.files.checkpoint).value();
  const auto save_model = [&](const std::string& path) {
    const std::string note =
        s.variant + " " + s.pattern + " " + s.loss + ", step " + std::to_string(r.step_count());
    llama::save(path, llama::retrained_model(r, whole, side, pool), words, {{"retrain.note", note}}).value();
  };
  llama::progress bar("step", o.run.steps);
  const llama::run_outcome done =
      llama::retrain_run(r, s.files, held, pool, save_model, [&](std::uint64_t n) {
        bar.at(n);
        return !stop();
      });
  if (done.interrupted) {
    std::fprintf(
        stderr, "retrain: interrupted at step %llu; %s\n", static_cast<unsigned long long>(r.step_count()),
        s.files.checkpoint.empty() ? "nothing is kept without --checkpoint" : "continue with --resume");
    return 1;
  }
  if (!s.out.empty()) save_model(s.out);
  print(s, r, done);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  s.options.loss.weight = 0.67f;
  s.options.run = {
      .steps = 200, .batch = 4, .lanes = 2, .peak_rate = 1e-3f, .floor_rate = 1e-5f, .warmup = 10};
  s.options.run.adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .weight_decay = 0};
  CLI::App app("Retrains a model under a sparsity pattern: masks are learned while the weights train.");
  add_options(app, s);
  return llama::run(app, argc, argv, [&] {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    return retrain(s);
  });
}
