// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <llama/block_training.hpp>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>
#include <llama/packed.hpp>
#include <llama/slorb_linear.hpp>
#include <llama/train_model.hpp>
#include <llama/tune_model.hpp>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <quern/metric/cross_entropy.hpp>
#include <quern/metric/kl.hpp>

namespace llama {
namespace {

constexpr char run_key[] = "tune.run", step_key[] = "tune.step";

/// The packed linears of a model in training, and where each one belongs.
struct tuned_linears {
  std::vector<quern::trained_weight> weights;
  std::vector<std::size_t> layer, slot;            // slot among block_linears
  std::vector<std::vector<std::size_t>> of_layer;  // indices into the above

  explicit tuned_linears(const model& m) : of_layer(m.blocks.size()) {
    for (std::size_t l = 0; l < m.blocks.size(); ++l)
      for (std::size_t i = 0; i < std::size(block_linears); ++i) {
        const packed_matrix* p = packed_of(m.blocks[l].*block_linears[i].weight);
        if (p == nullptr) continue;
        of_layer[l].push_back(weights.size());
        weights.push_back(p->format->train(p->raw));
        layer.push_back(l), slot.push_back(i);
      }
  }
};

/// What the passes of all threads read: floats of everything that is not tuned.
struct fixed_weights {
  std::deque<std::vector<float>> floats;
  model_tensors<const float> tensors;

  fixed_weights(const model& m, quern::thread_pool& pool) {
    const auto matrix = [&](const linear& w) {
      floats.push_back(values_of(w, pool));
      return span2<const float>(floats.back().data(), w.rows(), w.cols());
    };
    tensors.embedding = matrix(m.embedding);
    tensors.head = m.shape.tied ? tensors.embedding : matrix(m.head);
    tensors.output_norm = m.output_norm;
    for (const block& b : m.blocks) {
      block_tensors<const float> t;
      t.attn_norm = b.attn_norm, t.ffn_norm = b.ffn_norm;
      for (std::size_t i = 0; i < std::size(block_linears); ++i)
        if (const linear& w = b.*block_linears[i].weight; packed_of(w) == nullptr)
          matrix_of(t, i) = matrix(w);
      tensors.blocks.push_back(t);
    }
  }
};

/// The forward and backward pass of one thread.
class tune_worker {
 public:
  tune_worker(const model& m, const model* teacher, const fixed_weights& fixed, const tuned_linears& tuned,
              const tune_plan& plan)
      : distill_(plan.distill),
        tuned_(&tuned),
        pass_(windowed(m.shape, plan.context)),
        weights_(fixed.tensors),
        own_(1) {
    if (teacher != nullptr) teacher_.emplace_back(*teacher, plan.context, own_);
    std::size_t size = 0;
    for (const named_linear& l : block_linears)
      size += (m.blocks[0].*l.weight).rows() * (m.blocks[0].*l.weight).cols();
    gradient_.resize(size);
    targets_.resize(plan.context - 1);
  }
  /// The loss of one window, in nats per token; hands scale * dL/dw of every tuned linear to @p sink.
  template <class Sink>
  double operator()(std::span<const std::int32_t> ids, std::span<const span2<const float>> views, float scale,
                    Sink&& sink) {
    for (std::size_t i = 0; i < views.size(); ++i)
      matrix_of(weights_.blocks[tuned_->layer[i]], tuned_->slot[i]) = views[i];
    const std::size_t n = ids.size() - 1;  // the last position predicts what is not in the window
    const span2<const float> logits = pass_.forward(weights_, ids).rows_of(0, n);
    const span2<float> dlogits = pass_.dlogits();
    std::copy(ids.begin() + 1, ids.end(), targets_.begin());
    std::fill_n(dlogits.row(n), dlogits.cols(), 0.0f);
    const float each = scale / static_cast<float>(n);
    double loss = 0;
    if (distill_ < 1)
      loss = static_cast<double>(1 - distill_) * quern::cross_entropy_gradient<float>(logits, targets_,
                                                                                      (1 - distill_) * each,
                                                                                      dlogits.rows_of(0, n));
    if (!teacher_.empty()) loss += distill(ids, logits, each, dlogits);

    // All blocks write their gradient into one buffer, which is used up before the next one needs it.
    model_tensors<float> gradient;
    gradient.blocks.resize(tuned_->of_layer.size());
    for (std::size_t l = 0; l < gradient.blocks.size(); ++l) {
      float* at = gradient_.data();
      for (const std::size_t i : tuned_->of_layer[l]) {
        const std::size_t rows = views[i].rows(), cols = views[i].cols();
        matrix_of(gradient.blocks[l], tuned_->slot[i]) = span2<float>(at, rows, cols);
        at += rows * cols;
      }
    }
    std::fill(gradient_.begin(), gradient_.end(), 0.0f);
    pass_.backward(weights_, dlogits, gradient, [&](std::size_t l) {
      for (const std::size_t i : tuned_->of_layer[l]) sink(i, matrix_of(gradient.blocks[l], tuned_->slot[i]));
      std::fill(gradient_.begin(), gradient_.end(), 0.0f);
    });
    return loss / static_cast<double>(n);
  }

 private:
  static config windowed(config c, std::size_t context) {
    c.context = context;
    return c;
  }
  /// Adds distill_ * KL(teacher || student) to the loss and its gradient.
  double distill(std::span<const std::int32_t> ids, span2<const float> logits, float each,
                 span2<float> dlogits) {
    session& t = teacher_.front();
    t.rewind();
    const span2<const float> hidden = t.extend(ids);
    const std::size_t vocab = logits.cols();
    double sum = 0;
    constexpr std::size_t rows = 64;  // a few rows at a time: a whole window of logits is 100 MB for SmolLM2
    scratch_.resize(rows * vocab);
    for (std::size_t first = 0; first < logits.rows(); first += rows) {
      const std::size_t count = std::min(rows, logits.rows() - first);
      const span2<float> d(scratch_.data(), count, vocab), into = dlogits.rows_of(first, count);
      sum += quern::kl_gradient<float>(t.logits(hidden.rows_of(first, count)), logits.rows_of(first, count),
                                       distill_ * each, 1.0f, d);
      if (distill_ < 1)
        add<float>(into, d);
      else
        std::copy_n(d.data(), count * vocab, into.data());
    }
    return static_cast<double>(distill_) * sum;
  }

  float distill_;
  const tuned_linears* tuned_;
  sequence_pass<float> pass_;
  model_tensors<const float> weights_;
  quern::thread_pool own_;       // the teacher's: one thread, like the rest of a worker
  std::deque<session> teacher_;  // none or one
  aligned<float> gradient_, scratch_;
  std::vector<std::int32_t> targets_;
};

std::string describe_run(const model& m, const model* teacher, std::span<const std::int32_t> ids,
                         const tune_plan& plan) {
  const quern::tune_options& o = plan.tune;
  fingerprint f;
  f.add("steps", o.steps).add("batch", o.batch).add("lanes", o.lanes).add("rates", o.rates);
  f.add("floor", o.floor).add("warmup", o.warmup).add("clip", o.clip).add("adamw", o.adamw);
  f.add("seed", o.seed).add("context", plan.context).add("distill", plan.distill);
  f.add("ids", hash_of(ids)).add("weights", hash_of(m));
  if (teacher != nullptr) f.add("teacher", hash_of(*teacher));
  return f.text();
}

quern::result<void> save_state(quern::scale_tuner& tuner, const std::string& run, const std::string& path) {
  if (path.empty()) return {};
  quern::safetensors_writer out;
  out.metadata(run_key, run);
  out.metadata(step_key, std::to_string(tuner.count()));
  tuner.for_each_state([&](const std::string& name, std::span<float> values) {
    out.add(name, quern::dtype::f32, {values.size()}, std::as_bytes(std::span<const float>(values)));
  });
  return out.write(path);
}

quern::result<void> load_state(quern::scale_tuner& tuner, const std::string& run, const std::string& path,
                               std::uint64_t steps) {
  const auto bad = [&](const auto&... why) {
    return quern::io_error("llama::tune_model: '", path, "' ", why...);
  };
  const auto file = quern::safetensors_file::open(path);
  if (!file) return file.error();
  const std::string* found = file->metadata(run_key);
  if (found == nullptr) return bad("(__metadata__): has no key '", run_key, "'; it is not such a checkpoint");
  if (*found != run)
    return bad("(__metadata__ '", run_key, "'): is of another run: ", difference(*found, run),
               "; give the options, text and model it began with");
  unsigned long long step = 0;
  const std::string* text = file->metadata(step_key);
  if (text == nullptr || std::sscanf(text->c_str(), "%llu", &step) != 1 || step > steps)
    return bad("(__metadata__ '", step_key, "'): is missing or damaged; use another checkpoint");
  std::string problem;
  const auto each = [&](auto&& f) {
    tuner.for_each_state([&](const std::string& name, std::span<float> values) {
      const quern::tensor_info* t = file->find(name);
      if (t == nullptr || t->type != quern::dtype::f32 || t->bytes != values.size_bytes())
        problem = name;
      else
        f(values, file->data(*t));
    });
  };
  // Everything is looked at before anything is replaced.
  each([&](std::span<float> values, std::span<const std::byte> bytes) {
    std::vector<float> read(values.size());
    std::memcpy(read.data(), bytes.data(), bytes.size());
    if (!quern::all_finite(read.data(), read.size())) problem = "a value that is not finite";
  });
  if (!problem.empty())
    return bad("(", problem, "): is missing, of another size or damaged; use another checkpoint");
  each([](std::span<float> values, std::span<const std::byte> bytes) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
  });
  tuner.resume_at(step);
  return {};
}

}  // namespace

quern::result<tune_report> tune_model(
    model& m, const model* teacher, std::span<const std::int32_t> ids, const tune_plan& plan,
    quern::thread_pool& pool, const std::function<bool(std::uint64_t, const quern::tune_step&)>& progress) {
  check(m);
  for (std::size_t l = 0; l < m.blocks.size(); ++l)
    if (!m.blocks[l].has_attn() || !m.blocks[l].has_ffn())
      return quern::error("llama::tune_model: a half of blk.", l,
                          " is dropped, which the training pass cannot do");
  const std::size_t n = plan.context, windows = n == 0 ? 0 : ids.size() / n;
  if (n < 2 || n > m.shape.context || windows == 0)
    return quern::error("llama::tune_model: ", ids.size(), " tokens have no whole window of ", n,
                        "; it must be 2..", m.shape.context);
  if (!(plan.distill >= 0 && plan.distill <= 1) || (plan.distill > 0) != (teacher != nullptr))
    return quern::error("llama::tune_model: distill is ", plan.distill,
                        "; it must be 0..1, and a teacher goes with more than 0");
  if (teacher != nullptr && teacher->shape != m.shape)
    return quern::error("llama::tune_model: the teacher has another shape than the model");
  if (const std::string side = first_slorb(m); !side.empty())
    return quern::error(
        "llama::tune_model: ", side,
        " has side weights (SLoRB), beside which scales cannot be trained yet; leave this stage out");
  tuned_linears tuned(m);
  if (tuned.weights.empty())
    return quern::error("llama::tune_model: no linear is packed; compress the model first");
  const std::string run = plan.checkpoint.empty() ? "" : describe_run(m, teacher, ids, plan);
  quern::scale_tuner tuner(tuned.weights, plan.tune);
  if (plan.resume)
    if (const auto ok = load_state(tuner, run, plan.checkpoint, plan.tune.steps); !ok) return ok.error();

  const fixed_weights fixed(m, pool);
  std::deque<tune_worker> workers;
  for (std::size_t i = 0; i < pool.concurrency(); ++i) workers.emplace_back(m, teacher, fixed, tuned, plan);
  const auto loss_of = [&](std::size_t worker, std::size_t window, auto views, float scale, auto&& sink) {
    return workers[worker](ids.subspan(window * n, n), views, scale, sink);
  };
  tune_report report;
  std::uint64_t saved = plan.resume ? tuner.count() : 0;
  while (tuner.count() < plan.tune.steps) {
    const auto done = tuner.step(windows, loss_of, pool);
    if (!done)
      return quern::error(
          "llama::tune_model: ", done.error().what(), "; ",
          plan.checkpoint.empty() || saved == 0
              ? std::string("there is no checkpoint")
              : "the last good checkpoint is '" + plan.checkpoint + "' at step " + std::to_string(saved));
    if (report.steps++ == 0) report.first = done->loss;
    report.last = done->loss;
    const bool stop = progress && !progress(tuner.count(), *done);
    if (stop || tuner.count() % plan.every == 0 || tuner.count() == plan.tune.steps) {
      if (const auto ok = save_state(tuner, run, plan.checkpoint); !ok) return ok.error();
      saved = tuner.count();
    }
    if (stop && tuner.count() < plan.tune.steps) {
      report.interrupted = true;
      return report;
    }
  }
  for (std::size_t i = 0; i < tuned.weights.size(); ++i) {
    linear& w = m.blocks[tuned.layer[i]].*block_linears[tuned.slot[i]].weight;
    auto packed = packed_of(w)->format->pack_trained(tuned.weights[i], pool);
    if (!packed)
      return quern::error("llama::tune_model: blk.", tuned.layer[i], ".", block_linears[tuned.slot[i]].name,
                          ": ", packed.error().what());
    w = packed_linear(std::move(*packed));
  }
  return report;
}

}  // namespace llama
