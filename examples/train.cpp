// SPDX-License-Identifier: Apache-2.0
// Trains the embedded model from texts, byte by byte, and writes it as bf16 safetensors:
//   train --text kjv.txt --text jargon.txt --held-out held_out.txt --steps 3000 -o model.safetensors
// With --checkpoint it can be interrupted (Ctrl-C) and continued with --resume, bit for bit.
#include <csignal>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/load.hpp>
#include <llama/text_ids.hpp>
#include <llama/train_cli.hpp>
#include <quern/core/half.hpp>
#include <quern/metric/perplexity.hpp>

namespace {

volatile std::sig_atomic_t interrupted = 0;

/// Mean nats per byte of windows of the model's context.
double held_out_loss(const llama::config& c, std::span<const float> weights,
                     const std::vector<std::int32_t>& ids) {
  llama::sequence_pass<float> pass(c);
  return quern::perplexity(std::span(ids), {.context = c.context},
                           [&](auto window, auto&& score) { score(0, pass.forward(weights, window)); })
      .value()
      .nll;
}

std::vector<float> as_stored(std::span<const float> weights) {
  std::vector<float> rounded;
  for (const float w : weights) rounded.push_back(quern::to_float(quern::to_bf16(w)));
  return rounded;
}

struct settings {
  llama::config shape{.vocab = 256,
                      .width = 256,
                      .layers = 4,
                      .ffn = 768,
                      .heads = 4,
                      .kv_heads = 2,
                      .head_dim = 64,
                      .context = 512};
  llama::train_options run{
      .steps = 3000, .batch = 4, .lanes = 4, .peak_rate = 2.5e-3f, .floor_rate = 2.5e-5f};
  std::vector<std::string> texts;
  std::string out, held_out, checkpoint, json;
  std::size_t threads = 0;
  std::uint64_t every = 250, report = 50;
  bool resume = false;
};

/// @returns 0, or 1 if it was interrupted
int train(const settings& s) {
  std::vector<llama::named_file> inputs{{"--held-out", s.held_out}};
  for (const std::string& path : s.texts) inputs.push_back({"--text", path});
  llama::check_files(inputs,
                     {{"--output", s.out}, {"--checkpoint", s.checkpoint, !s.resume}, {"--json", s.json}});
  const llama::tokenizer words = llama::tokenizer::bytes();
  std::vector<llama::training_text> corpus;
  for (const auto& path : s.texts) corpus.push_back({llama::read_ids(path, words).value()});
  std::vector<std::int32_t> held;
  if (!s.held_out.empty()) held = llama::read_ids(s.held_out, words).value();
  quern::require(held.empty() || held.size() >= s.shape.context, "train: '", s.held_out, "' has ",
                 held.size(), " bytes, fewer than one window of ", s.shape.context);
  llama::trainer trainer(s.shape, s.run, std::move(corpus));
  if (s.resume) trainer.resume(s.checkpoint).value();
  quern::thread_pool pool(s.threads);
  std::printf("%zu parameters, %llu steps of %zu bytes\n", trainer.layout().size(),
              static_cast<unsigned long long>(s.run.steps), s.run.batch * s.shape.context);

  nlohmann::ordered_json log = nlohmann::ordered_json::array();
  llama::stopwatch watch;
  double measured = 0;  // seconds of measuring and saving since it was started
  double loss = 0;
  std::uint64_t since = 0;
  while (trainer.step_count() < s.run.steps && interrupted == 0) {
    const auto r = trainer.step(pool).value();
    loss += r.loss;
    ++since;
    const std::uint64_t step = trainer.step_count();
    const bool last = step == s.run.steps;
    if (step % s.report == 0 || last) {
      const double each = (watch.seconds() - measured) / static_cast<double>(since);
      const double rate = llama::rate_of(static_cast<double>(s.run.batch * s.shape.context), each);
      std::printf("step %llu loss %.4f norm %.3f rate %.2e  %.0f tokens/s  %.1f min left\n",
                  static_cast<unsigned long long>(step), loss / static_cast<double>(since), r.gradient_norm,
                  static_cast<double>(r.learning_rate), rate,
                  each * static_cast<double>(s.run.steps - step) / 60);
      log.push_back(
          {{"step", step}, {"loss", loss / static_cast<double>(since)}, {"tokens_per_second", rate}});
      std::fflush(stdout);
      loss = 0, since = 0, measured = 0, watch = {};
    }
    if (step % s.every == 0 || last || interrupted != 0) {
      const llama::stopwatch beside;
      if (!held.empty() && interrupted == 0) {
        const double nats = held_out_loss(s.shape, as_stored(trainer.weights()), held);
        std::printf("step %llu held-out %.4f nats per byte\n", static_cast<unsigned long long>(step), nats);
        log.push_back({{"step", step}, {"held_out_nats", nats}});
      }
      if (!s.checkpoint.empty()) trainer.save(s.checkpoint).value();
      measured += beside.seconds();
    }
  }
  if (interrupted != 0) {
    std::fprintf(stderr, "train: interrupted; %s\n",
                 s.checkpoint.empty() ? "nothing is kept without --checkpoint" : "continue with --resume");
    llama::write_json(s.json, log);
    return 1;
  }
  char note[160];
  std::snprintf(note, sizeof note, "%llu steps of %zu sequences of %zu bytes, seed %llu",
                static_cast<unsigned long long>(s.run.steps), s.run.batch, s.shape.context,
                static_cast<unsigned long long>(s.run.seed));
  llama::save_bf16(s.out, s.shape, trainer.weights(), {{"tokenizer", "bytes"}, {"train.note", note}}).value();
  std::printf("wrote %s\n", s.out.c_str());
  llama::write_json(s.json, log);  // last: where it cannot be written the model is there
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Trains a byte-level LLaMA from texts and writes it as bf16 safetensors.");
  app.option_defaults()->always_capture_default();
  using llama::count;
  const CLI::Validator steps = count(1, llama::most_steps);
  app.add_option("--text", s.texts, "text to learn from; may be given more than once")->required();
  app.add_option("--held-out", s.held_out, "text to measure on, never to learn from");
  app.add_option("-o,--output", s.out, "the model to write")->required();
  auto* const checkpoint =
      app.add_option("--checkpoint", s.checkpoint, "state of the run, written every --every steps");
  app.add_option("--every", s.every, "steps between checkpoints and held-out measurements")->check(steps);
  app.add_option("--report", s.report, "steps between progress lines")->check(steps);
  app.add_flag("--resume", s.resume, "continue from --checkpoint")->needs(checkpoint);
  app.add_option("--json", s.json, "file for the losses");
  llama::add_run_options(app, s.run);
  llama::add_threads(app, s.threads);
  // Sizes as llama::check takes them.
  app.add_option("--context", s.shape.context, "bytes of a sequence")->check(count(1, llama::most_context));
  app.add_option("--width", s.shape.width)->check(count(1, 1 << 16));
  app.add_option("--layers", s.shape.layers)->check(count(1, 1024));
  app.add_option("--ffn", s.shape.ffn)->check(count(1, 1 << 18));
  app.add_option("--heads", s.shape.heads)->check(count(1, 1024));
  app.add_option("--kv-heads", s.shape.kv_heads)->check(count(1, 1024));
  app.add_option("--head-dim", s.shape.head_dim)->check(count(2, 1024));
  return llama::run(app, argc, argv, [&] {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    return train(s);
  });
}
