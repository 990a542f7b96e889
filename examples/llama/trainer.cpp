// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <llama/fingerprint.hpp>
#include <llama/load.hpp>
#include <llama/trainer.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <quern/metric/cross_entropy.hpp>

namespace llama {

trainer::trainer(const config& c, const train_options& options, std::vector<training_text> texts)
    : config_(c),
      options_(options),
      layout_(c),
      texts_(std::move(texts)),
      weights_(layout_.size()),
      m_(layout_.size()),
      v_(layout_.size()),
      lanes_(options.lanes, layout_.size()),
      random_(options.seed) {
  quern::require(options.batch > 0 && options.lanes > 0, "llama::trainer: batch and lanes must be positive");
  check_texts("llama::trainer", texts_, c);
  run_ = describe_shape(c) + ' ' + describe_run(options) + " texts " + hash_of(texts_);
  initialise(c, layout_, random_, weights_);
}

quern::result<step_report> trainer::step(quern::thread_pool& pool) {
  const std::size_t window = config_.context;
  while (passes_.size() < pool.concurrency()) passes_.emplace_back(config_);
  const auto batch = draw_batch(texts_, window, options_.batch, random_);
  const float scale = 1.0f / static_cast<float>(options_.batch * window);
  const batch_loss sums =
      lanes_.run(pool, batch.size(), [&](std::size_t thread, std::size_t i, std::span<float> gradient) {
        sequence_pass<float>& pass = passes_[thread];
        const auto logits = pass.forward(weights_, batch[i].first(window));
        const double nll =
            quern::cross_entropy_gradient<float>(logits, batch[i].subspan(1), scale, pass.dlogits());
        pass.backward(weights_, pass.dlogits(), gradient);
        return batch_loss{.cross_entropy = nll};
      });
  const std::span<float> gradient = lanes_.sum();
  const double loss = sums.cross_entropy * static_cast<double>(scale);
  const double norm = quern::global_norm<float>(gradient);
  if (!std::isfinite(loss) || !std::isfinite(norm))
    return quern::error("llama::trainer: step ", step_, " has loss ", loss, " and gradient norm ", norm,
                        "; lower the learning rate or look at the checkpoint's weights");

  const float rate =
      quern::cosine_schedule{options_.peak_rate, options_.floor_rate, options_.warmup, options_.steps}(step_);
  ++step_;
  const quern::adamw_step at{
      .learning_rate = rate, .gradient_scale = quern::clip_scale(norm, options_.clip), .step = step_};
  quern::adamw_options norms = options_.adamw;
  norms.weight_decay = 0;  // gains are scales, not directions: shrinking them only lowers the logits
  for (const tensor& t : layout_.tensors()) {
    const auto part = [&](std::span<float> all) { return all.subspan(t.offset, t.size()); };
    quern::adamw_update<float>(t.rows == 1 ? norms : options_.adamw, at, part(gradient), part(m_), part(v_),
                               part(weights_), pool);
  }
  return step_report{loss, norm, rate};
}

std::string describe_run(const train_options& o) {
  fingerprint f;
  f.add("steps", o.steps).add("batch", o.batch).add("lanes", o.lanes).add("rate", o.peak_rate);
  f.add("floor", o.floor_rate).add("warmup", o.warmup).add("clip", o.clip).add("seed", o.seed);
  return f.add("adamw", o.adamw).text();
}

quern::result<void> trainer::save(const std::string& path) const {
  quern::safetensors_writer out;
  describe(config_, out);
  begin_run(out, run_, step_, random_);
  for (const auto& [prefix, values] : {std::pair{"", &weights_}, {"adamw.m.", &m_}, {"adamw.v.", &v_}})
    for (const tensor& t : layout_.tensors()) {
      const auto mine = std::span<const float>(*values).subspan(t.offset, t.size());
      if (auto ok = check_finite(path, t, mine); !ok) return ok;
      out.add(prefix + t.name, quern::dtype::f32, {t.rows, t.cols}, std::as_bytes(mine));
    }
  return out.write(path);
}

quern::result<void> trainer::resume(const std::string& path) {
  const auto in = run_reader::open("llama::trainer", path, run_);
  if (!in) return in.error();
  std::uint64_t step = 0;
  quern::rng random;
  if (const auto ok = read_progress(*in, options_.steps, step, random); !ok) return ok.error();
  // Everything is read before anything is replaced: a damaged checkpoint leaves the run as it was.
  aligned<float> state[3];
  const char* const prefixes[] = {"", "adamw.m.", "adamw.v."};
  for (std::size_t k = 0; k < 3; ++k) {
    state[k].resize(layout_.size());
    for (const tensor& t : layout_.tensors())
      if (const auto ok =
              in->floats(prefixes[k] + t.name, std::span<float>(state[k]).subspan(t.offset, t.size()));
          !ok)
        return ok.error();
  }
  weights_ = std::move(state[0]);
  m_ = std::move(state[1]);
  v_ = std::move(state[2]);
  step_ = step;
  random_ = random;
  return {};
}

}  // namespace llama
