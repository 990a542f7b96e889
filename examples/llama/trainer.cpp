// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
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

// The same options give the same sentence: a checkpoint of another run is refused instead of continued.
std::string trainer::fingerprint() const {
  const train_options& o = options_;
  char text[256];
  std::snprintf(
      text, sizeof text,
      " | steps %llu batch %zu lanes %zu rate %.9g..%.9g warmup %llu clip %.9g adamw %.9g %.9g %.9g %.9g "
      "seed %llu",
      static_cast<unsigned long long>(o.steps), o.batch, o.lanes, static_cast<double>(o.peak_rate),
      static_cast<double>(o.floor_rate), static_cast<unsigned long long>(o.warmup),
      static_cast<double>(o.clip), static_cast<double>(o.adamw.beta1), static_cast<double>(o.adamw.beta2),
      static_cast<double>(o.adamw.epsilon), static_cast<double>(o.adamw.weight_decay),
      static_cast<unsigned long long>(o.seed));
  return describe_shape(config_) + text;
}

quern::result<void> trainer::save(const std::string& path) const {
  quern::safetensors_writer out;
  describe(config_, out);
  begin_run(out, fingerprint(), step_, random_);
  for (const auto& [prefix, values] : {std::pair{"", &weights_}, {"adamw.m.", &m_}, {"adamw.v.", &v_}})
    for (const tensor& t : layout_.tensors()) {
      const auto mine = std::span<const float>(*values).subspan(t.offset, t.size());
      if (auto ok = check_finite(path, t, mine); !ok) return ok;
      out.add(prefix + t.name, quern::dtype::f32, {t.rows, t.cols}, std::as_bytes(mine));
    }
  return out.write(path);
}

quern::result<void> trainer::resume(const std::string& path) {
  const auto in = run_reader::open("llama::trainer", path, fingerprint());
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
