// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <llama/load.hpp>
#include <llama/trainer.hpp>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <quern/metric/cross_entropy.hpp>

namespace llama {
namespace {
constexpr char run_key[] = "train.run", step_key[] = "train.step", random_key[] = "train.random.";
}

trainer::trainer(const config& c, const train_options& options, std::vector<training_text> texts)
    : config_(c),
      options_(options),
      layout_(c),
      texts_(std::move(texts)),
      weights_(layout_.size()),
      m_(layout_.size()),
      v_(layout_.size()),
      lanes_(options.lanes),
      random_(options.seed) {
  quern::require(options.batch > 0 && options.lanes > 0, "llama::trainer: batch and lanes must be positive");
  quern::require(!texts_.empty(), "llama::trainer: no text to learn from");
  for (const training_text& t : texts_) {
    quern::require(t.ids.size() > c.context, "llama::trainer: a text of ", t.ids.size(),
                   " tokens is shorter than one window of ", c.context + 1);
    for (std::size_t i = 0; i < t.ids.size(); ++i)
      quern::require(t.ids[i] >= 0 && static_cast<std::size_t>(t.ids[i]) < c.vocab, "llama::trainer: token ",
                     t.ids[i], " at ", i, " must be below the vocabulary of ", c.vocab);
  }
  for (lane& l : lanes_) l.gradient.resize(layout_.size());
  initialise(c, layout_, random_, weights_);
}

quern::result<step_report> trainer::step(quern::thread_pool& pool) {
  const std::size_t window = config_.context;
  while (passes_.size() < pool.concurrency()) passes_.emplace_back(config_);

  std::vector<std::span<const std::int32_t>> batch;
  std::uint64_t starts = 0;
  for (const training_text& t : texts_) starts += t.ids.size() - window;
  for (std::size_t i = 0; i < options_.batch; ++i) {
    std::uint64_t at = random_.below(starts);
    std::size_t text = 0;
    while (at >= texts_[text].ids.size() - window) at -= texts_[text++].ids.size() - window;
    batch.push_back(std::span(texts_[text].ids).subspan(at, window + 1));
  }

  // Lanes are taken by whichever thread is free: what a lane computes does not depend on who computes it.
  const float scale = 1.0f / static_cast<float>(options_.batch * window);
  std::atomic<std::size_t> next_lane{0};
  pool.parallel_for(pool.concurrency(), 1, [&](std::size_t thread, std::size_t) {
    sequence_pass<float>& pass = passes_[thread];
    for (std::size_t l = next_lane++; l < lanes_.size(); l = next_lane++) {
      lane& mine = lanes_[l];
      mine.loss = 0;
      std::fill(mine.gradient.begin(), mine.gradient.end(), 0.0f);
      for (std::size_t i = l; i < batch.size(); i += lanes_.size()) {
        const auto logits = pass.forward(weights_, batch[i].first(window));
        mine.loss += quern::cross_entropy_gradient<float>(logits, batch[i].subspan(1), scale, pass.dlogits());
        pass.backward(weights_, pass.dlogits(), mine.gradient);
      }
    }
  });

  aligned<float>& gradient = lanes_[0].gradient;
  pool.parallel_for(gradient.size(), 1 << 14, [&](std::size_t begin, std::size_t end) {
    for (std::size_t l = 1; l < lanes_.size(); ++l)
      for (std::size_t i = begin; i < end; ++i) gradient[i] += lanes_[l].gradient[i];
  });
  double loss = 0;
  for (const lane& l : lanes_) loss += l.loss;
  loss *= static_cast<double>(scale);
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
    const auto part = [&](aligned<float>& all) { return std::span<float>(all).subspan(t.offset, t.size()); };
    quern::adamw_update<float>(t.rows == 1 ? norms : options_.adamw, at, part(gradient), part(m_), part(v_),
                               part(weights_), pool);
  }
  return step_report{loss, norm, rate};
}

// The same options give the same sentence: a checkpoint of another run is refused instead of continued.
std::string trainer::fingerprint() const {
  const config& c = config_;
  const train_options& o = options_;
  char text[512];
  std::snprintf(
      text, sizeof text,
      "vocab %zu width %zu layers %zu ffn %zu heads %zu kv %zu dim %zu context %zu base %.9g eps %.9g "
      "tied %d | steps %llu batch %zu lanes %zu rate %.9g..%.9g warmup %llu clip %.9g adamw %.9g %.9g "
      "%.9g %.9g seed %llu",
      c.vocab, c.width, c.layers, c.ffn, c.heads, c.kv_heads, c.head_dim, c.context,
      static_cast<double>(c.rope_base), static_cast<double>(c.rms_epsilon), c.tied ? 1 : 0,
      static_cast<unsigned long long>(o.steps), o.batch, o.lanes, static_cast<double>(o.peak_rate),
      static_cast<double>(o.floor_rate), static_cast<unsigned long long>(o.warmup),
      static_cast<double>(o.clip), static_cast<double>(o.adamw.beta1), static_cast<double>(o.adamw.beta2),
      static_cast<double>(o.adamw.epsilon), static_cast<double>(o.adamw.weight_decay),
      static_cast<unsigned long long>(o.seed));
  return text;
}

quern::result<void> trainer::save(const std::string& path) const {
  quern::safetensors_writer out;
  describe(config_, out);
  out.metadata(run_key, fingerprint());
  out.metadata(step_key, std::to_string(step_));
  for (std::size_t i = 0; i < 4; ++i)
    out.metadata(random_key + std::to_string(i), std::to_string(random_.state[i]));
  for (const auto& [prefix, values] : {std::pair{"", &weights_}, {"adamw.m.", &m_}, {"adamw.v.", &v_}})
    for (const tensor& t : layout_.tensors())
      out.add(prefix + t.name, quern::dtype::f32, {t.rows, t.cols},
              std::as_bytes(std::span<const float>(*values).subspan(t.offset, t.size())));
  return out.write(path);
}

quern::result<void> trainer::resume(const std::string& path) {
  const auto bad = [&](const auto&... why) {
    return quern::io_error("llama::trainer: '", path, "' ", why...);
  };
  const auto file = quern::safetensors_file::open(path);
  if (!file) return file.error();
  const std::string* run = file->metadata(run_key);
  if (run == nullptr) return bad("(__metadata__): has no key '", run_key, "'; it is not a checkpoint");
  if (*run != fingerprint())
    return bad("(__metadata__ '", run_key, "'): is of another run: ", *run, "; this one is: ", fingerprint());
  const auto number = [&](const std::string& key, std::uint64_t& out) {
    const std::string* text = file->metadata(key);
    if (text == nullptr) return false;
    const auto end = std::from_chars(text->data(), text->data() + text->size(), out);
    return end.ec == std::errc() && end.ptr == text->data() + text->size();
  };
  std::uint64_t step = 0;
  quern::rng random;
  bool ok = number(step_key, step);
  for (std::size_t i = 0; i < 4; ++i) ok = number(random_key + std::to_string(i), random.state[i]) && ok;
  if (!ok || step > options_.steps)
    return bad("(__metadata__): its step or generator is damaged; use another one");

  // Everything is read before anything is replaced: a damaged checkpoint leaves the run as it was.
  aligned<float> state[3];
  const char* const prefixes[] = {"", "adamw.m.", "adamw.v."};
  for (std::size_t k = 0; k < 3; ++k) {
    state[k].resize(layout_.size());
    for (const tensor& t : layout_.tensors()) {
      const std::string name = prefixes[k] + t.name;
      const quern::tensor_info* found = file->find(name);
      if (found == nullptr || found->type != quern::dtype::f32 || found->bytes != t.size() * sizeof(float))
        return bad("(tensor '", name, "'): must be there as F32 with ", t.size(),
                   " values; use another checkpoint");
      std::memcpy(state[k].data() + t.offset, file->data(*found).data(), found->bytes);
    }
    for (const float value : state[k])
      if (!std::isfinite(value)) return bad("holds a NaN or an infinity; use an earlier checkpoint");
  }
  weights_ = std::move(state[0]);
  m_ = std::move(state[1]);
  v_ = std::move(state[2]);
  step_ = step;
  random_ = random;
  return {};
}

}  // namespace llama
