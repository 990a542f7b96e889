// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/candidates.hpp>
#include <llama/compress_model.hpp>
#include <llama/evolve_task.hpp>
#include <llama/load.hpp>
#include <llama/method_models.hpp>
#include <llama/packed.hpp>
#include <llama/retrain_ends.hpp>
#include <llama/tune_model.hpp>

namespace llama {
namespace {

constexpr std::size_t calibration_context = 512, training_context = 256;

compress_plan plan_of(const method_inputs& in, const std::string& pattern, const std::string& quantizer) {
  compress_plan plan{.format = find_format(pattern, quantizer)};
  quern::require(plan.format != nullptr, "llama::method_models: ", pattern, " with ", quantizer,
                 " is not compiled into this program");
  plan.context = calibration_context, plan.windows = in.windows;
  return plan;
}

void compress(model& m, const method_inputs& in, const compress_plan& plan, quern::thread_pool& pool) {
  compress_model(m, in.text, plan, pool, [](const auto&) { return true; }).value();
}

}  // namespace

model one_shot_model(const method_inputs& in, const std::string& pattern, const std::string& quantizer,
                     quern::thread_pool& pool) {
  model m = load(in.source, pool).value();
  compress(m, in, plan_of(in, pattern, quantizer), pool);
  return m;
}

model gqsa_model(const method_inputs& in, const std::string& pattern, const std::string& quantizer,
                 quern::thread_pool& pool) {
  const model dense = load(in.source, pool).value();
  model m = dense;
  compress_plan plan = plan_of(in, pattern, quantizer);
  plan.options.refine = 20;
  plan.training.emplace();
  plan.training->bqpo.epochs = in.epochs, plan.training->bqpo.batch = 2;
  plan.training->bqpo.validation = std::min(plan.training->bqpo.validation, in.windows / 2);
  compress(m, in, plan, pool);
  const auto windows = std::span(in.text).first(in.windows * calibration_context);
  tune_model(m, &dense, windows,
             {.tune = {.steps = in.tune_steps}, .context = calibration_context, .distill = 1}, pool, {})
      .value();
  return m;
}

model ast_model(const method_inputs& in, const std::string& pattern, const std::string& quantizer,
                quern::thread_pool& pool) {
  const model original = load(in.source, pool).value();
  const aligned<float> dense = flatten(original);
  config shape = original.shape;
  shape.context = training_context;
  retrain_options o;
  o.run = {.steps = in.steps,
           .batch = 4,
           .lanes = 2,
           .peak_rate = 5e-4f,
           .floor_rate = 5e-6f,
           .warmup = in.steps / 8};
  o.run.adamw = {.beta1 = 0.9f, .beta2 = 0.95f, .weight_decay = 0};
  o.rule.shape = shape_of_pattern(pattern).value();
  o.decay = quern::annealed_decay(6e-3f, in.steps / 4);
  o.loss.weight = 0.67f;
  retrainer r(shape, o, {{in.text}},
              {.weights = dense, .dense = dense, .teacher = teacher_model{shape, dense}});
  while (r.step_count() < in.steps) r.step(pool).value();
  model m = retrained_model(r, original.shape, nullptr, pool);
  compress_plan plan = plan_of(in, pattern, quantizer);
  plan.options.choose = quern::timing::given;
  compress(m, in, plan, pool);
  const std::vector<float> embedding = values_of(m.embedding, pool);
  const span2<const float> rows(embedding.data(), m.embedding.rows(), m.embedding.cols());
  m.embedding = packed_linear(find_format("dense", "real<bf16>")->pack(rows, nullptr, pool).value());
  if (m.shape.tied) m.head = m.embedding;
  return m;
}

model evopress_model(const method_inputs& in, double bits, quern::thread_pool& pool) {
  model m = load(in.source, pool).value();
  evolve_settings s;
  s.task = "bits", s.target = bits;
  s.db = in.folder;
  s.generations = in.generations;
  s.calibration_windows = 2 * in.windows;  // of half the length
  s.fitness.context = training_context;
  const std::size_t tokens = std::min<std::size_t>(in.text.size(), in.windows * calibration_context);
  prepared_search p = prepare_levels(s, m, in.text, {}, pool);
  prepare_task(p, s, m, {});
  candidate_runner run(m, p.task.assemble, p.task.half_of, std::span(in.text).first(tokens), s.fitness, pool);
  const quern::evolve_options o = search_options(s, p.task, run.tokens());
  quern::evolve_state state = quern::evolve_start(p.task.space, o, p.task.start).value();
  quern::evolve(p.task.space, o, state, run, [](const auto&) { return true; }).value();
  p.task.assemble(state.parents[0].levels, m);
  return m;
}

}  // namespace llama
