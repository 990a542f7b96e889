// SPDX-License-Identifier: Apache-2.0
// Searches how much each layer is compressed (EvoPress), and writes the compressed model:
//   evolve model.safetensors --task bits --target 3 --text calibration.txt --held-out held_out.txt --db levels
//          -o small.safetensors --svg search --json search.json
// Several processes share the candidates where the program is built with MPI: mpirun -n 2 evolve --mpi ...
#include <csignal>
#include <llama/cli.hpp>
#include <llama/evaluate.hpp>
#include <llama/evolve_model.hpp>
#include <llama/load.hpp>
#include <map>
#include <quern/search/share.hpp>
#if defined(QUERN_EVOLVE_MPI)
#include <quern/core/mpi.hpp>
#endif

namespace {

volatile std::sig_atomic_t interrupted = 0;

struct settings {
  std::string model, task = "bits", text, held_out, db = "levels", preset = "small", unit = "halves", out,
                     run = "16,two_level";
  std::string config, tensor_types, svg, json, checkpoint;
  double target = 3;
  std::size_t attn = 0, ffn = 0, generations = 0, offspring = 0, windows = 16, held_context = 0, threads = 0;
  std::size_t random = 0, brute = 0, calibration_windows = 64, repeats = 15, text_tokens = 65536;
  std::vector<std::size_t> survivors, tokens;
  std::int64_t delta = 0;
  int steps = 8;
  quern::grouping group = quern::grouping::size;
  llama::fitness_options fitness;
  bool time = false, resume = false, baselines = false, mpi = false;
  quern::mutate_options mutate;
  std::uint64_t seed = 1;
};

void add_options(CLI::App& app, settings& s) {
  const auto choice = [&](const char* flag, auto& value, auto names, const char* what) {
    app.add_option(flag, value, what)->transform(CLI::CheckedTransformer(names).description("NAME"));
  };
  app.add_option("model", s.model, "GGUF or safetensors file")->required();
  app.add_option("--task", s.task, "what the levels are: bits, sparsity, groups, depth, joint")
      ->check(CLI::IsMember({"bits", "sparsity", "groups", "depth", "joint"}));
  app.add_option("--target", s.target,
                 "bits per weight (bits, joint: stored ones), share removed (sparsity, groups, depth)");
  app.add_option("--text", s.text, "calibration text")->required();
  app.add_option("--text-tokens", s.text_tokens, "tokens of it that fitness is measured on, from its start");
  app.add_option("--held-out", s.held_out, "text whose perplexity is reported");
  app.add_option("--held-out-windows", s.windows, "windows of it; 0: all");
  app.add_option("--held-out-context", s.held_context, "tokens of a window of it; 0: as in calibration");
  app.add_option("--db", s.db, "folder of the levels; made where it is missing");
  app.add_option("--calibration-windows", s.calibration_windows, "windows of the Hessians");
  choice(
      "--group", s.group,
      std::map<std::string, quern::grouping>{
          {"size", quern::grouping::size}, {"name", quern::grouping::name}, {"none", quern::grouping::none}},
      "bits: which layers exchange bits: size, name, none");
  app.add_option("--run", s.run, "bits: weights that share a scale, and its form: 16,two_level or 64 (fp16)")
      ->check(CLI::IsMember({"16,two_level", "64"}));
  app.add_option("--delta", s.delta, "sparsity, groups: weights of a level step; 0: 1/100 of the mean layer");
  app.add_option("--steps", s.steps, "sparsity, groups: levels to either side")->check(CLI::Range(1, 100));
  app.add_option("--unit", s.unit, "depth: what is dropped as a whole: halves, blocks, pairs")
      ->check(CLI::IsMember({"halves", "blocks", "pairs"}));
  app.add_option("--attn", s.attn, "depth: attention halves (blocks, pairs) to drop, instead of --target");
  app.add_option("--ffn", s.ffn, "depth: feed-forward halves to drop");
  app.add_flag("--time", s.time,
               "joint: --target is the share of the time of one token through 4-bit linears");
  app.add_option("--repeats", s.repeats, "joint --time: how often each product is timed");
  app.add_option("--reach", s.mutate.reach, "joint: levels that one change moves at most");
  choice("--fitness", s.fitness.measure,
         std::map<std::string, llama::fitness_options::kind>{
             {"kl", llama::fitness_options::kind::kl}, {"ppl", llama::fitness_options::kind::cross_entropy}},
         "kl (to the model as it is), ppl");
  app.add_option("--top", s.fitness.top, "kl: logits of the teacher that are kept; 0: all");
  app.add_option("--context", s.fitness.context, "tokens of a window");
  app.add_option("--piece", s.fitness.piece, "tokens whose logits and streams exist at a time");
  app.add_option("--preset", s.preset, "hyper-parameters: paper, fast, small");
  app.add_option("--generations", s.generations, "instead of the preset's");
  app.add_option("--offspring", s.offspring, "instead of the preset's");
  app.add_option("--survivors", s.survivors, "per stage, instead of the preset's: 4,2,1")->delimiter(',');
  app.add_option("--tokens", s.tokens, "per stage, instead of the preset's: 512,2048,8192")->delimiter(',');
  app.add_option("--seed", s.seed);
  app.add_flag("--baselines", s.baselines, "measure what other methods choose, too");
  app.add_option("--best-of", s.random, "baseline: the best of so many random configurations");
  app.add_option("--brute-force", s.brute,
                 "measure all configurations instead of searching, if at most so many");
  app.add_option("--checkpoint", s.checkpoint, "file for the state of the search, after every generation");
  app.add_flag("--resume", s.resume, "go on from --checkpoint");
  app.add_option("-o,--out", s.out, "safetensors file for the compressed model");
  app.add_option("--config", s.config, "file for the levels, in EvoPress's text form");
  app.add_option("--tensor-types", s.tensor_types, "file for llama-quantize --tensor-type-file");
  app.add_option("--svg", s.svg, "two charts, NAME-convergence.svg and NAME-levels.svg");
  app.add_option("--json", s.json, "file for what was printed");
  app.add_flag("--mpi", s.mpi, "share candidates with the other processes of mpirun");
  app.add_option("--threads", s.threads, "0: all cores");
}

/// The levels of the task, or the halves to drop.
struct prepared {
  std::unique_ptr<llama::level_db> db;  // the task refers to it
  llama::search_task task;
  std::size_t database_bytes = 0, predicted_bytes = 0;
};

llama::level_plan plan_of(const settings& s, const llama::model& m) {
  llama::level_plan plan;
  plan.context = s.fitness.context, plan.windows = s.calibration_windows;
  const bool groups = s.task == "groups";
  if (s.task == "bits") plan.recipes = llama::bit_recipes(2, 8, s.run);
  if (s.task == "joint") plan.recipes = llama::joint_recipes();
  if (s.task == "sparsity" || groups) {
    const auto mean = static_cast<std::int64_t>(llama::block_weights(m) / (m.shape.layers * 7));
    const std::int64_t delta = s.delta > 0 ? s.delta : mean / 100, unit = groups ? 16 : 1;
    quern::require(delta >= unit, "evolve: --delta must be at least ", unit);
    quern::require(s.target > 0 && s.target < 1, "evolve: --target is the share removed, 0 to 1");
    plan.recipes =
        llama::density_recipes(groups ? "group<16>" : "bitmap", 1 - s.target, delta / unit * unit, s.steps);
  }
  return plan;
}

prepared prepare(const settings& s, const llama::model& m, std::span<const std::int32_t> ids, bool talk,
                 quern::thread_pool& pool) {
  prepared out;
  if (s.task == "depth") {
    const auto unit = s.unit == "halves"   ? llama::drop_unit::halves
                      : s.unit == "blocks" ? llama::drop_unit::blocks
                                           : llama::drop_unit::pairs;
    const bool counted = s.attn + s.ffn > 0;
    const std::size_t n = llama::drop_count(m.shape.layers / (s.unit == "pairs" ? 2 : 1), s.target);
    out.task = llama::depth_task(m, unit, counted ? s.attn : n, counted ? s.ffn : n).value();
    return out;
  }
  const llama::level_plan plan = plan_of(s, m);
  out.predicted_bytes = llama::bytes_of(llama::level_db::describe(m, plan).value());
  if (talk)
    std::fprintf(stderr, "levels in '%s': %.1f MB\n", s.db.c_str(),
                 static_cast<double>(out.predicted_bytes) / 1e6);
  const auto make = [&] {
    llama::progress bar("level", m.shape.layers * std::size(llama::block_linears) * plan.recipes.size());
    const auto at = [&](std::size_t done, std::size_t) {
      if (talk) bar.at(done);
      return interrupted == 0;
    };
    return llama::level_db::make(m, ids, plan, s.db, pool, at).value();
  };
  out.db = std::make_unique<llama::level_db>(make());
  out.database_bytes = out.db->bytes();
  const auto weights = static_cast<double>(llama::block_weights(m));
  if (s.task == "bits") {
    out.task = llama::bits_task(*out.db, s.target, s.group).value();
  } else if (s.task == "joint" && s.time) {
    const auto times = llama::decode_times(*out.db, s.repeats, pool);
    double four = 0;
    for (std::size_t i = 0; i < times.size(); ++i) four += static_cast<double>(times[i][2]);
    out.task = llama::joint_task(*out.db, static_cast<std::int64_t>(s.target * four), times).value();
  } else if (s.task == "joint") {
    out.task = llama::joint_task(*out.db, static_cast<std::int64_t>(s.target * weights / 8)).value();
  } else {
    out.task = llama::density_task(*out.db).value();
  }
  return out;
}

quern::evolve_options options_of(const settings& s, const llama::search_task& task, std::size_t tokens) {
  std::size_t pairs = 0;
  for (const std::int64_t kept : task.space.budget) {
    const auto n = task.space.units.size() / task.space.budget.size(), k = n - static_cast<std::size_t>(kept);
    if (s.task == "depth") pairs += k * (n - k);
  }
  quern::evolve_options o = llama::preset(s.preset, s.task, pairs, tokens).value();
  if (s.generations != 0) o.generations = s.generations;
  if (s.offspring != 0) o.offspring = s.offspring;
  if (!s.survivors.empty() || !s.tokens.empty()) {
    quern::require(s.survivors.size() == s.tokens.size(),
                   "evolve: --survivors and --tokens must have equally many stages");
    o.stages.clear();
    for (std::size_t i = 0; i < s.tokens.size(); ++i) o.stages.push_back({s.survivors[i], s.tokens[i]});
  }
  o.mutate = s.mutate;
  o.seed = s.seed;
  return o;
}

template <class Communicator>
int search(const settings& s, Communicator& others) {
  const bool talk = others.rank() == 0;
  quern::thread_pool pool(s.threads);
  const llama::model m = llama::load(s.model, pool).value();
  const llama::tokenizer words = llama::load_tokenizer(s.model).value();
  const std::vector<std::int32_t> ids = words.encode(llama::read_text(s.text));
  quern::require(!s.resume || !s.checkpoint.empty(), "evolve: --resume needs --checkpoint");

  prepared p = prepare(s, m, ids, talk, pool);
  const llama::search_task& task = p.task;
  const std::size_t usable = std::min(ids.size(), s.text_tokens) / s.fitness.context * s.fitness.context;
  const std::size_t memory = llama::candidate_runner::bytes(m.shape, usable, s.fitness);
  if (talk)
    std::fprintf(stderr, "teacher and streams of %zu tokens: %.1f MB\n", usable,
                 static_cast<double>(memory) / 1e6);
  llama::candidate_runner run(m, task.assemble, task.half_of, std::span(ids).first(usable), s.fitness, pool);
  auto evaluate = quern::share_candidates(others, std::ref(run));
  const quern::evolve_options o = options_of(s, task, run.tokens());

  // What is reported of a configuration.
  nlohmann::ordered_json table = nlohmann::ordered_json::array();
  std::vector<std::int32_t> held;
  if (!s.held_out.empty()) held = words.encode(llama::read_text(s.held_out));
  const std::size_t context = s.held_context != 0 ? s.held_context : s.fitness.context;
  llama::model work = m;
  const auto report = [&](const std::string& name, const llama::genome* g, double fitness) {
    if (!talk) return;
    if (g != nullptr) task.assemble(*g, work);
    nlohmann::ordered_json row{
        {"name", name}, {"block_bytes", llama::block_bytes(work)}, {"fitness", fitness}};
    const double error = g == nullptr || s.task == "depth" ? 0 : quern::summed_error(task.table, *g);
    double nll = 0;
    if (!held.empty())
      nll = llama::evaluate(work, held, {.context = context, .windows = s.windows}, pool).value().nll;
    row["summed_error"] = error, row["held_out_nll"] = nll, row["held_out_perplexity"] = std::exp(nll);
    if (g != nullptr) row["cost"] = quern::total_cost(task.space, *g), row["levels"] = *g;
    std::printf("%-32s %11zu bytes  fitness %.5f  layer errors %.4f", name.c_str(), llama::block_bytes(work),
                fitness, error);
    if (!held.empty()) std::printf("  held out %.5f nats, perplexity %.4f", nll, std::exp(nll));
    std::printf("\n");
    std::fflush(stdout);
    table.push_back(std::move(row));
  };
  report("as it is", nullptr, 0);
  if (s.brute != 0) {
    const auto all = quern::brute_force(task.space, s.brute, run.tokens(), evaluate, s.seed).value();
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const quern::measured& g : all) rows.push_back({{"fitness", g.fitness}, {"levels", g.levels}});
    report("brute force of " + std::to_string(all.size()), &all.front().levels, all.front().fitness);
    if (talk) llama::write_json(s.json, {{"task", s.task}, {"table", table}, {"all", rows}});
    return 0;
  }
  std::vector<llama::rival> rivals;
  if (s.baselines && s.task == "depth" && s.unit == "halves")
    rivals = llama::depth_rivals(task, m, ids,
                                 task.space.units.size() / 2 - static_cast<std::size_t>(task.space.budget[0]),
                                 o.stages.back().samples, run, pool);
  else if (p.db != nullptr && (s.baselines || s.task == "joint"))
    rivals = llama::level_rivals(task, *p.db, m, ids,
                                 s.task == "sparsity" || s.task == "groups" ? 1 - s.target : 0, pool)
                 .value();
  if (s.random != 0)
    rivals.push_back({"best of " + std::to_string(s.random),
                      quern::best_of(task.space, s.random, o.stages.back().samples, evaluate, s.seed,
                                     task.start.empty() ? 0 : task.space.units.size())
                          .value()
                          .levels});
  for (const llama::rival& r : rivals) {
    double fitness = 0;
    evaluate(std::span(&r.levels, 1), {s.seed, o.stages.back().samples}, std::span(&fitness, 1));
    report(r.name, &r.levels, fitness);
  }

  // A joint search starts where the assumption of additive errors ends, if it leads anywhere.
  std::vector<llama::genome> parents = task.start;
  if (s.task == "joint" && !rivals.empty()) parents = {rivals.back().levels};
  const std::string extra = s.model + ' ' + s.task + ' ' +
                            std::to_string(static_cast<int>(s.fitness.measure)) + ' ' +
                            std::to_string(s.fitness.top) + ' ' + std::to_string(s.fitness.context) + ' ' +
                            std::to_string(run.tokens()) + ' ' + std::to_string(s.fitness.piece);
  const std::uint64_t mark = quern::fingerprint(task.space, o, extra);
  quern::evolve_state state = s.resume ? llama::read_state(s.checkpoint, task.space, mark).value()
                                       : quern::evolve_start(task.space, o, parents).value();
  const llama::stopwatch watch;
  const llama::runner_counts before = run.counts();
  const std::uint64_t first = state.generation;
  const auto live = [&](const quern::evolve_state& now) {
    if (talk && !s.checkpoint.empty()) llama::write_text(s.checkpoint, quern::to_text(now, mark)).value();
    const llama::runner_counts& c = run.counts();
    if (talk)
      std::fprintf(stderr,
                   "generation %llu of %zu: %.5f nats, %.2f candidates/s, %.0f %% in linears, %.0f %% of the "
                   "halves run, %.1f min left\n",
                   static_cast<unsigned long long>(now.generation), o.generations, now.parents[0].fitness,
                   static_cast<double>(c.candidates - before.candidates) / watch.seconds(),
                   100 * (c.linear_seconds - before.linear_seconds) / (c.seconds - before.seconds),
                   100 * static_cast<double>(c.halves - before.halves) /
                       static_cast<double>(c.halves_whole - before.halves_whole),
                   watch.seconds() / static_cast<double>(now.generation - first) *
                       static_cast<double>(o.generations - now.generation) / 60);
    return interrupted == 0;
  };
  const bool finished = quern::evolve(task.space, o, state, evaluate, live).value();
  if (!finished) {
    if (talk) std::fprintf(stderr, "evolve: interrupted; --resume goes on from --checkpoint\n");
    return 1;
  }
  const double seconds = watch.seconds();
  const llama::runner_counts after = run.counts();
  const llama::genome& best = state.parents[0].levels;
  double fitness = 0;
  evaluate(std::span(&best, 1), {s.seed, o.stages.back().samples}, std::span(&fitness, 1));
  if (!talk) return 0;
  report("search", &best, fitness);
  const double kernel_share =
      (after.linear_seconds - before.linear_seconds) / (after.seconds - before.seconds);
  const double halves_share = static_cast<double>(after.halves - before.halves) /
                              static_cast<double>(after.halves_whole - before.halves_whole);
  std::printf(
      "%zu generations, %.1f s, %.2f candidates/s, %.1f %% in linears, %.1f %% of the halves run; memory "
      "%.1f MB beside %.1f MB of levels\n",
      o.generations, seconds, static_cast<double>(after.candidates - before.candidates) / seconds,
      100 * kernel_share, 100 * halves_share, static_cast<double>(run.allocated()) / 1e6,
      static_cast<double>(p.database_bytes) / 1e6);

  task.assemble(best, work);
  const std::string text = llama::as_text(task, best, m.shape.layers);
  if (!s.out.empty()) llama::save(s.out, work, words, {{"quern.evolve", text}}).value();
  if (!s.config.empty()) llama::write_text(s.config, text).value();
  if (!s.tensor_types.empty()) llama::write_text(s.tensor_types, llama::as_tensor_types(task, best)).value();
  if (!s.svg.empty()) {
    const bool bytes = s.task == "joint" && !s.time;
    llama::write_text(s.svg + "-convergence.svg", llama::convergence_svg(state, s.task)).value();
    llama::write_text(s.svg + "-levels.svg", llama::levels_svg(task, best,
                                                               bytes || s.task == "bits" ? "bits per weight"
                                                               : s.time                  ? "ns per weight"
                                                                                         : "share kept",
                                                               bytes ? 8 : 1))
        .value();
  }
  nlohmann::ordered_json history = nlohmann::ordered_json::array();
  for (const quern::generation_record& r : state.history)
    history.push_back({r.generation, r.fitness, r.candidates, r.samples});
  llama::write_json(s.json, {{"task", s.task},
                             {"target", s.target},
                             {"seed", s.seed},
                             {"generations", o.generations},
                             {"offspring", o.offspring},
                             {"seconds", seconds},
                             {"candidates", after.candidates - before.candidates},
                             {"tokens", after.tokens - before.tokens},
                             {"share_in_linears", kernel_share},
                             {"share_of_halves_run", halves_share},
                             {"invalid", state.counts.invalid},
                             {"predicted_memory", memory},
                             {"memory", run.allocated()},
                             {"predicted_database", p.predicted_bytes},
                             {"database", p.database_bytes},
                             {"table", table},
                             {"history", history}});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app(
      "Searches the compression level of every layer of a language model under one budget (EvoPress).");
  add_options(app, s);
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
