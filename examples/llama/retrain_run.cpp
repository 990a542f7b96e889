// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <llama/retrain_run.hpp>
#include <llama/run_log.hpp>
#include <llama/text_file.hpp>

namespace llama {
namespace {

nlohmann::ordered_json line_of(const retrain_report& r, std::uint64_t step) {
  nlohmann::ordered_json line{{"step", step},
                              {"loss", r.total},
                              {"ce", r.loss.cross_entropy},
                              {"kl", r.loss.divergence},
                              {"hidden", r.loss.hidden},
                              {"norm", r.gradient_norm},
                              {"rate", r.learning_rate},
                              {"lambda", r.lambda}};
  if (!r.updated) return line;
  line["flips"] = r.flips.since_last, line["drift"] = r.flips.since_start;
  for (const quern::flips& f : r.layers) line["layers"].push_back({f.since_last, f.since_start});
  return line;
}

/// The flip rates of a whole run, also of the steps before it was resumed.
void read_flips(const run_log& log, run_outcome& out) {
  std::size_t early = 0;
  double sum = 0;
  for (const auto& line : log.lines()) {
    const auto number = [&](const char* name) { return line.contains(name) && line[name].is_number(); };
    if (!number("flips") || !number("drift")) continue;
    out.final_flips = line["flips"].get<double>(), out.drift = line["drift"].get<double>();
    if (early < 3) sum += out.final_flips, ++early;
  }
  if (early > 0) out.early_flips = sum / static_cast<double>(early);
}

}  // namespace

run_outcome retrain_run(retrainer& r, const run_files& files, std::span<const std::int32_t> held,
                        quern::thread_pool& pool, const std::function<void(const std::string&)>& save_model,
                        const std::function<bool(std::uint64_t)>& progress) {
  run_outcome out;
  run_log log(files.log, r.step_count());
  const auto measure = [&](std::size_t windows) {
    return held_out_loss(r.shape(), r.effective(pool), held, windows, pool).value();
  };
  const auto note = [&](double nll) {
    log.add({{"step", r.step_count()}, {"held_out", nll}});
    if (nll < r.best_loss() && !files.best.empty()) save_model(files.best);
    r.note_held_out(nll);
  };
  if (r.step_count() == 0) {
    out.start_nll = measure(files.final_windows);
    log.add({{"step", 0}, {"held_out", measure(files.windows)}});
  }
  std::chrono::steady_clock::duration trained{};
  const std::uint64_t first = r.step_count(), steps = r.options().run.steps;
  while (r.step_count() < steps && !out.interrupted) {
    const auto begin = std::chrono::steady_clock::now();
    const retrain_report report = r.step(pool).value();
    trained += std::chrono::steady_clock::now() - begin;
    try {
      log.add(line_of(report, r.step_count()));
      if (r.step_count() % files.every == 0 || r.step_count() == steps) note(measure(files.windows));
    } catch (const quern::error&) {
      // The steps since the last checkpoint are worth more than a line; the log's error is the one to report.
      if (!files.checkpoint.empty()) static_cast<void>(r.save(files.checkpoint));
      throw;
    }
    out.interrupted = !progress(r.step_count()) && r.step_count() < steps;
    const bool save = out.interrupted || r.step_count() == steps || r.step_count() % files.save_every == 0;
    if (save && !files.checkpoint.empty()) r.save(files.checkpoint).value();
  }
  if (out.interrupted) return out;
  const double seconds = std::chrono::duration<double>(trained).count();
  const double tokens =
      static_cast<double>((steps - first) * r.options().run.batch) * static_cast<double>(r.shape().context);
  if (seconds > 0) out.tokens_per_second = tokens / seconds;
  out.nll = measure(files.final_windows);
  read_flips(log, out);
  if (!files.svg.empty()) {
    write_text(files.svg + ".loss.svg",
               run_chart(log.lines(), "Losses", {"loss", "ce", "held_out"}, "nats per token"))
        .value();
    write_text(files.svg + ".flips.svg",
               run_chart(log.lines(), "Masks that change", {"flips", "drift"}, "share of the weights"))
        .value();
  }
  return out;
}

}  // namespace llama
