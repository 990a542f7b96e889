// SPDX-License-Identifier: Apache-2.0
// Searches how much each layer is compressed (EvoPress), and writes the compressed model:
//   evolve model.safetensors --task bits --target 3 --text calibration.txt --held-out held_out.txt --db levels
//          -o small.safetensors --svg search --json search.json
// Several processes share the candidates where the program is built with MPI: mpirun -n 2 evolve --mpi ...
#include <algorithm>
#include <csignal>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/decode_times.hpp>
#include <llama/evolve_cli.hpp>
#include <llama/evolve_model.hpp>
#include <llama/evolve_report.hpp>
#include <llama/evolve_task.hpp>
#include <llama/load.hpp>
#include <llama/search_text.hpp>
#include <llama/text_ids.hpp>
#include <optional>
#include <quern/search/share.hpp>
#if defined(QUERN_EVOLVE_MPI)
#include <quern/core/mpi.hpp>
#endif

namespace {

volatile std::sig_atomic_t interrupted = 0;

/// What other methods choose; a search may start from the best of it.
std::vector<llama::rival> rivals_of(const llama::evolve_settings& s, const llama::prepared_search& p,
                                    const llama::model& m, std::span<const std::int32_t> ids,
                                    const quern::evolve_options& o, llama::candidate_runner& run,
                                    auto& evaluate, quern::thread_pool& pool) {
  const quern::search_space& space = p.task.space;
  std::vector<llama::rival> out;
  if (s.baselines && s.task == "depth" && s.unit == "halves")
    out = llama::depth_rivals(p.task, m, ids,
                              space.units.size() / 2 - static_cast<std::size_t>(space.budget[0]),
                              o.stages.back().samples, run, pool);
  else if (p.db != nullptr && (s.baselines || s.task == "joint"))
    out = llama::level_rivals(p.task, *p.db, m, ids,
                              s.task == "sparsity" || s.task == "groups" ? 1 - s.target : 0, pool)
              .value();
  if (s.greedy) out.push_back({"greedy", quern::greedy(space, o.stages, evaluate, s.seed).value().levels});
  const std::size_t random = s.random == 0 && s.task == "joint" ? 32 : s.random;
  if (random != 0)
    out.push_back({"best of " + std::to_string(random),
                   quern::best_of(space, random, o.stages.back().samples, evaluate, s.seed,
                                  p.task.start.empty() || s.task == "joint" ? 0 : space.units.size())
                       .value()
                       .levels});
  return out;
}

/// What the search did between two counts.
struct spent {
  llama::runner_counts before, after;
  double seconds;
  // All 0 where a search was resumed that had come to its end.
  double rate() const {
    return llama::rate_of(static_cast<double>(after.candidates - before.candidates), seconds);
  }
  double in_linears() const {
    return llama::rate_of(after.linear_seconds - before.linear_seconds, after.seconds - before.seconds);
  }
  double of_halves() const {
    return llama::rate_of(static_cast<double>(after.halves - before.halves),
                          static_cast<double>(after.halves_whole - before.halves_whole));
  }
};

/// The times of process 0 for all: they decide what a search may choose.
template <class Communicator>
std::vector<std::vector<std::int64_t>> shared_times(const llama::evolve_settings& s,
                                                    const llama::level_db& db, Communicator& others,
                                                    quern::thread_pool& pool) {
  auto out = quern::first_alone(others, [&] {
    if (others.rank() == 0) {
      llama::decode_costs t = llama::decode_times(db, s.repeats, s.db, pool).value();
      std::fprintf(
          stderr,
          t.measured == 0 ? "decode times: those of '%s'\n" : "decode times: measured, kept in '%s'\n",
          t.path.c_str());
      return std::move(t.ns);
    }
    std::vector<std::vector<std::int64_t>> none;
    for (const llama::linear_levels& l : db.linears()) none.emplace_back(l.levels.size());
    return none;
  });
  for (std::vector<std::int64_t>& row : out) {
    std::vector<double> sum(row.begin(), row.end());  // nanoseconds below 2^53: exact
    others.sum(std::span<double>(sum));
    std::transform(sum.begin(), sum.end(), row.begin(),
                   [](double t) { return static_cast<std::int64_t>(t); });
  }
  return out;
}

template <class Communicator>
int search(const llama::evolve_settings& s, Communicator& others) {
  const bool talk = others.rank() == 0;
  const auto chart = [&](const char* name) { return s.svg.empty() ? s.svg : s.svg + name; };
  llama::check_files(
      {{"model", s.model}, {"--text", s.text}, {"--held-out", s.held_out}, {"--start", s.begin}},
      {{"--checkpoint", s.checkpoint, !s.resume},
       {"--out", s.out},
       {"--config", s.config},
       {"--tensor-types", s.tensor_types},
       {"--svg", chart("-convergence.svg")},
       {"--svg", chart("-levels.svg")},
       {"--json", s.json}});
  quern::thread_pool pool(s.threads);
  const llama::model m = llama::load(s.model, pool, {.packed = s.packed}).value();
  const llama::tokenizer words = llama::load_tokenizer(s.model).value();
  const std::vector<std::int32_t> ids = llama::read_ids(s.text, words).value();
  quern::require(!s.resume || !s.checkpoint.empty(), "evolve: --resume needs --checkpoint");

  if (talk && s.task != "depth")
    std::fprintf(stderr, "levels in '%s': %.1f MB\n", s.db.c_str(),
                 static_cast<double>(llama::predicted_database(s, m)) / 1e6);
  llama::prepared_search p;
  bool stopped = false;
  try {
    std::optional<llama::progress> bar;
    const auto progress = [&](std::size_t done, std::size_t all) {
      if (talk && !bar) bar.emplace("level", all);
      if (talk) bar->at(done);
      return !(stopped = interrupted != 0);
    };
    // All would make the same files in one folder.
    p = quern::first_alone(others, [&] { return llama::prepare_levels(s, m, ids, progress, pool); });
  } catch (const quern::error& e) {
    if (!stopped) throw;
    if (talk) std::fprintf(stderr, "evolve: interrupted; %s\n", e.what());
    return 1;
  }
  llama::prepare_task(
      p, s, m, s.time ? shared_times(s, *p.db, others, pool) : std::vector<std::vector<std::int64_t>>());
  const llama::search_task& task = p.task;
  std::vector<llama::genome> parents = task.start;
  if (!s.begin.empty()) {
    auto begin = llama::from_text(task, llama::read_text(s.begin).value(), m.shape.layers);
    quern::require(begin.has_value(), "evolve: '", s.begin, "': ", begin ? "" : begin.error().what());
    parents = {std::move(*begin)};
  }
  const std::size_t usable = std::min(ids.size(), s.text_tokens) / s.fitness.context * s.fitness.context;
  const std::size_t memory = llama::candidate_runner::bytes(m.shape, usable, s.fitness);
  if (talk)
    std::fprintf(stderr, "teacher and streams of %zu tokens: %.1f MB\n", usable,
                 static_cast<double>(memory) / 1e6);
  llama::candidate_runner run(m, task.assemble, task.half_of, std::span(ids).first(usable), s.fitness, pool);
  auto evaluate = quern::share_candidates(others, std::ref(run));
  const quern::evolve_options o = llama::search_options(s, task, run.tokens());
  if (talk) {
    const std::string scaled = llama::scaling_of(s.preset, s.task, run.tokens()).value();
    if (s.tokens.empty() && !scaled.empty()) std::fprintf(stderr, "%s\n", scaled.c_str());
    std::fprintf(stderr, "search: %s\n", llama::describe(o).c_str());
  }
  // The fitness that is reported: of one minibatch for all.
  const auto measure = [&](const llama::genome& g) {
    double fitness = 0;
    evaluate(std::span(&g, 1), {s.seed, o.stages.back().samples}, std::span(&fitness, 1));
    return fitness;
  };
  std::vector<std::int32_t> held;
  if (!s.held_out.empty()) held = llama::read_ids(s.held_out, words).value();
  llama::evolve_report report(s, m, task, words, std::move(held));
  const auto say = [&](const std::string& name, const llama::genome* g, double fitness) {
    if (talk) report.add(name, g, fitness, pool);
  };
  say("as it is", nullptr, 0);
  if (s.brute != 0) {
    const auto all = quern::brute_force(task.space, s.brute, run.tokens(), evaluate, s.seed).value();
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const quern::measured& g : all) rows.push_back({{"fitness", g.fitness}, {"levels", g.levels}});
    say("brute force of " + std::to_string(all.size()), &all.front().levels, all.front().fitness);
    if (talk) llama::write_json(s.json, {{"task", s.task}, {"table", report.table()}, {"all", rows}});
    return 0;
  }
  // A joint search starts from the best that others find: formats that cost about the same can be far apart.
  const bool from_best = s.from_best || s.task == "joint";
  std::optional<double> best;
  if (!s.begin.empty()) say("start", &parents[0], best.emplace(measure(parents[0])));
  for (const llama::rival& r : rivals_of(s, p, m, ids, o, run, evaluate, pool)) {
    const double fitness = measure(r.levels);
    say(r.name, &r.levels, fitness);
    if (from_best && (!best || fitness < *best)) parents = {r.levels}, best = fitness;
  }
  quern::require(!from_best || best.has_value(),
                 "evolve: --from-best needs --start, --baselines, --greedy or --best-of");
  const std::uint64_t mark = llama::search_mark(s, m, ids, task, o, run.tokens());
  quern::evolve_state state = s.resume
                                  ? llama::read_state(s.checkpoint, task.space, mark, o.generations).value()
                                  : quern::evolve_start(task.space, o, parents).value();
  const llama::stopwatch watch;
  spent cost{run.counts(), {}, 0};
  const std::uint64_t first = state.generation;
  const auto live = [&](const quern::evolve_state& now) {
    if (talk && !s.checkpoint.empty()) llama::write_text(s.checkpoint, quern::to_text(now, mark)).value();
    cost.after = run.counts(), cost.seconds = watch.seconds();
    if (talk)
      std::fprintf(stderr,
                   "generation %llu of %zu: %.5f nats, %.2f candidates/s, %.0f %% in linears, %.0f %% of the "
                   "halves run, "
                   "%.1f min left\n",
                   static_cast<unsigned long long>(now.generation), o.generations, now.parents[0].fitness,
                   cost.rate(), 100 * cost.in_linears(), 100 * cost.of_halves(),
                   cost.seconds / static_cast<double>(now.generation - first) *
                       static_cast<double>(o.generations - now.generation) / 60);
    return interrupted == 0;
  };
  const bool finished = quern::evolve(task.space, o, state, evaluate, live).value();
  if (!finished) {
    if (talk)
      std::fprintf(stderr, "evolve: interrupted; %s\n",
                   s.checkpoint.empty() ? "nothing but the levels is kept without --checkpoint"
                                        : "continue with --resume");
    return 1;
  }
  cost.after = run.counts(), cost.seconds = watch.seconds();
  const double fitness = measure(state.parents[0].levels);
  if (!talk) return 0;
  say("search", &state.parents[0].levels, fitness);
  std::printf(
      "%zu generations, %.1f s, %.2f candidates/s, %.1f %% in linears, %.1f %% of the halves run; memory "
      "%.1f MB "
      "beside %.1f MB of levels\n",
      o.generations, cost.seconds, cost.rate(), 100 * cost.in_linears(), 100 * cost.of_halves(),
      static_cast<double>(run.allocated()) / 1e6, static_cast<double>(p.database_bytes) / 1e6);
  nlohmann::ordered_json history = nlohmann::ordered_json::array();
  for (const quern::generation_record& r : state.history)
    history.push_back({r.generation, r.fitness, r.candidates, r.samples});
  llama::write_json(s.json, {{"task", s.task},
                             {"target", s.target},
                             {"seed", s.seed},
                             {"generations", o.generations},
                             {"offspring", o.offspring},
                             {"seconds", cost.seconds},
                             {"candidates", cost.after.candidates - cost.before.candidates},
                             {"tokens", cost.after.tokens - cost.before.tokens},
                             {"share_in_linears", cost.in_linears()},
                             {"share_of_halves_run", cost.of_halves()},
                             {"invalid", state.counts.invalid},
                             {"predicted_memory", memory},
                             {"memory", run.allocated()},
                             {"predicted_database", p.predicted_bytes},
                             {"database", p.database_bytes},
                             {"table", report.table()},
                             {"history", history}});
  report.write_winner(state);  // after the figures, which a name that cannot be written must not cost
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  llama::evolve_settings s;
  CLI::App app(
      "Searches the compression level of every layer of a language model under one budget (EvoPress).");
  llama::add_evolve_options(app, s);
  return llama::run(app, argc, argv, [&] {
    std::signal(SIGINT, [](int) { interrupted = 1; });
    quern::alone one;
    if (!s.mpi) return search(s, one);
#if defined(QUERN_EVOLVE_MPI)
    const quern::mpi_session session(argc, argv);
    quern::mpi others;
    return search(s, others);
#else
    quern::raise(quern::error("evolve: this program is built without MPI; install libopenmpi-dev and build again"));
#endif
  });
}
