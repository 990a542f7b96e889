// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cstring>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>
#include <llama/teacher.hpp>
#include <llama/text_file.hpp>

namespace llama {

teacher_pass::teacher_pass(const config& c, bool keep_hidden)
    : config_(c),
      keep_hidden_(keep_hidden),
      space_(c),
      block_(c),
      stream_(c.context * c.width),
      hidden_(keep_hidden ? c.layers * c.context * c.width : 0) {}

void teacher_pass::forward(const model_tensors<const float>& weights, std::span<const std::int32_t> ids) {
  const config& c = config_;
  quern::require(!ids.empty() && ids.size() <= c.context, "llama::teacher_pass: ", ids.size(),
                 " ids; a sequence holds 1..", c.context);
  n_ = ids.size();
  const span2<float> stream(stream_.data(), n_, c.width);
  for (std::size_t r = 0; r < n_; ++r) {
    quern::require(ids[r] >= 0 && static_cast<std::size_t>(ids[r]) < c.vocab, "llama::teacher_pass: id ",
                   ids[r], " at position ", r, " must be below the vocabulary of ", c.vocab);
    std::copy_n(weights.embedding.row(static_cast<std::size_t>(ids[r])), c.width, stream.row(r));
  }
  for (std::size_t l = 0; l < c.layers; ++l) {
    block_.forward(weights.blocks[l], stream, space_);
    if (keep_hidden_) std::copy_n(stream.data(), n_ * c.width, hidden_.data() + l * c.context * c.width);
  }
  rmsnorm<float>(stream, weights.output_norm, c.rms_epsilon, stream, {});
}

span2<const float> teacher_pass::logits(const model_tensors<const float>& weights, std::size_t first,
                                        std::size_t count) {
  if (logits_.size() < count * config_.vocab) logits_.resize(count * config_.vocab);
  const span2<float> out(logits_.data(), count, config_.vocab);
  product<float>(span2<const float>(stream_.data(), n_, config_.width).rows_of(first, count), weights.head,
                 out);
  return out;
}

span2<const float> teacher_pass::hidden(std::size_t layer) const {
  quern::require(keep_hidden_, "llama::teacher_pass: hidden states were not kept");
  return {hidden_.data() + layer * config_.context * config_.width, n_, config_.width};
}

namespace {

quern::result<quern::top_logits> read_cache(const std::string& path, const std::string& run,
                                            quern::top_logits expected) {
  const auto in = run_reader::open("llama::cached_teacher", path, run);
  if (!in) return in.error();
  quern::top_logits& t = expected;
  const auto ids = in->bytes("teacher.ids", t.ids.size() * sizeof(std::int32_t));
  if (!ids) return ids.error();
  std::memcpy(t.ids.data(), ids->data(), ids->size());
  for (std::size_t i = 0; i < t.ids.size(); ++i)
    if (t.ids[i] < 0 || static_cast<std::size_t>(t.ids[i]) >= t.classes ||
        (i % t.k > 0 && t.ids[i] <= t.ids[i - 1]))
      return in->bad("(tensor 'teacher.ids'): row ", i / t.k, " column ", i % t.k, " is ", t.ids[i],
                     "; ids must ascend and be below ", t.classes);
  if (const auto ok = in->floats("teacher.log_p", t.log_p); !ok) return ok.error();
  if (const auto ok = in->floats("teacher.rest", t.rest); !ok) return ok.error();
  return expected;
}

}  // namespace

quern::result<quern::top_logits> cached_teacher(const std::string& path, const teacher_model& teacher,
                                                const std::vector<training_text>& texts,
                                                const batch_plan& plan, std::size_t k, float temperature,
                                                quern::thread_pool& pool,
                                                const std::function<bool(std::uint64_t)>& progress) {
  const config& c = teacher.shape;
  if (k == 0 || k > c.vocab)
    return quern::error("llama::cached_teacher: k is ", k, "; it must be 1..", c.vocab);
  constexpr double most = 1e12;  // values; more is no cache, and their number has to stay inside 64 bits
  if (const double values = static_cast<double>(plan.steps) * static_cast<double>(plan.batch) *
                            static_cast<double>(plan.window) * static_cast<double>(k);
      values > most)
    return quern::error("llama::cached_teacher: the cache would hold ", values, " values; ", most,
                        " at most: train without it");
  const std::size_t n = plan.window, rows = plan.steps * plan.batch * n;
  quern::top_logits all;
  all.rows = rows, all.classes = c.vocab, all.k = k, all.temperature = temperature;
  all.ids.resize(rows * k), all.log_p.resize(rows * k), all.rest.resize(rows);
  fingerprint f;
  f.add("teacher", describe_shape(c)).add("of", hash_of(teacher.weights)).add("texts", hash_of(texts));
  f.add("seed", plan.seed).add("steps", plan.steps).add("batch", plan.batch).add("top", k);
  f.add("temperature", temperature);
  const auto made = is_there(path);
  if (!made) return made.error();
  if (*made) return read_cache(path, f.text(), std::move(all));

  const parameters layout(c);
  const auto weights = tensors_of(teacher.weights, layout, c.layers);
  std::vector<teacher_pass> passes;
  for (std::size_t i = 0; i < pool.concurrency(); ++i) passes.emplace_back(c, false);
  quern::rng random(plan.seed);
  for (std::uint64_t step = 0; step < plan.steps; ++step) {
    const auto batch = draw_batch(texts, n, plan.batch, random);
    std::atomic<std::size_t> next{0};
    pool.parallel_for(pool.concurrency(), 1, [&](std::size_t thread, std::size_t) {
      for (std::size_t i = next++; i < batch.size(); i = next++) {
        passes[thread].forward(weights, batch[i].first(n));
        const quern::top_logits top = quern::keep_top(passes[thread].logits(weights, 0, n), k, temperature);
        const std::size_t row = (step * plan.batch + i) * n;
        std::copy(top.ids.begin(), top.ids.end(), all.ids.begin() + static_cast<std::ptrdiff_t>(row * k));
        std::copy(top.log_p.begin(), top.log_p.end(),
                  all.log_p.begin() + static_cast<std::ptrdiff_t>(row * k));
        std::copy(top.rest.begin(), top.rest.end(), all.rest.begin() + static_cast<std::ptrdiff_t>(row));
      }
    });
    if (progress && !progress(step + 1))
      return quern::error("llama::cached_teacher: stopped before it was written");
  }
  quern::safetensors_writer out;
  begin_run(out, f.text(), plan.steps, random);
  out.add("teacher.ids", quern::dtype::u8, {rows, k * sizeof(std::int32_t)},
          std::as_bytes(std::span(all.ids)));
  out.add("teacher.log_p", quern::dtype::f32, {rows, k}, std::as_bytes(std::span(all.log_p)));
  out.add("teacher.rest", quern::dtype::f32, {rows}, std::as_bytes(std::span(all.rest)));
  if (const auto ok = out.write(path); !ok) return ok.error();
  return all;
}

}  // namespace llama
