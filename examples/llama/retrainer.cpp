// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cmath>
#include <llama/retrainer.hpp>
#include <quern/metric/perplexity.hpp>
#include <quern/train/low_rank.hpp>
#include <quern/train/weight_scale.hpp>

namespace llama {
namespace {

/// Rows of logits whose loss is made at a time: the teacher's for a whole window of a large vocabulary would be as
/// large as the student's.
constexpr std::size_t logit_rows = 128;

/// Sequences of a batch that belong to a process.
std::size_t share_of(std::size_t n, const processes& p) { return (n + p.size - 1 - p.rank) / p.size; }

}  // namespace

retrainer::retrainer(const config& c, const retrain_options& options, std::vector<training_text> texts,
                     const retrain_start& start, processes others)
    : config_(c),
      options_(options),
      layout_(c),
      texts_(std::move(texts)),
      start_(start),
      others_(std::move(others)),
      weights_(start.weights.begin(), start.weights.end()),
      m_(layout_.size()),
      v_(layout_.size()),
      effective_(layout_.size()),
      lanes_(options.run.lanes, layout_.size()),
      random_(options.run.seed) {
  const auto& o = options_;
  quern::require(
      o.run.batch > 0 && o.run.lanes > 0 && o.update_every > 0 && o.rounds > 0 && o.scale_parts > 0,
      "llama::retrainer: batch, lanes, update_every, rounds and scale_parts must be positive");
  quern::require(weights_.size() == layout_.size() && start.dense.size() == layout_.size(),
                 "llama::retrainer: the start must have ", layout_.size(), " weights, not ", weights_.size(),
                 ", and so must the dense model");
  check_texts("llama::retrainer", texts_, c);
  const bool needs_teacher = o.loss.weight > 0 || o.hidden;
  if (needs_teacher) {
    quern::require(start.teacher.has_value(), "llama::retrainer: distillation needs a teacher");
    const config& t = start.teacher->shape;
    quern::require(t.vocab == c.vocab && t.context >= c.context,
                   "llama::retrainer: the teacher has a vocabulary of ", t.vocab, " and windows of ",
                   t.context, ", the student of ", c.vocab, " and ", c.context,
                   "; take a teacher with the same tokenizer");
    quern::require(!o.hidden || (t.width == c.width && t.layers == c.layers),
                   "llama::retrainer: the teacher has ", t.layers, " layers of width ", t.width,
                   ", the student ", c.layers, " of ", c.width, "; a loss on hidden states needs equal ones");
    teacher_layout_.emplace(t);
    quern::require(start.teacher->weights.size() == teacher_layout_->size(),
                   "llama::retrainer: the teacher has ", start.teacher->weights.size(),
                   " weights, but its shape asks for ", teacher_layout_->size());
  }
  run_ = describe();
  for (std::size_t l = 0; l < c.layers; ++l)
    for (const slot s : linear_slots) linears_.push_back(&layout_.block(l, s));
  if (!masked()) return;
  std::size_t side = 0;
  const auto append = [&](std::vector<side_tensor>& to, std::size_t rows, std::size_t cols) {
    to.push_back({rows, cols, side});
    side += rows * cols;
  };
  for (const tensor* t : linears_) {
    if (o.slorb > 0) append(s_, t->rows, quern::slorb_groups(t->cols, o.slorb));
    if (o.slorb > 0 && o.train_projection) append(x_, quern::slorb_groups(t->cols, o.slorb), t->cols);
    if (o.policy == mask_policy::cast) append(scales_, t->rows, o.scale_parts);
  }
  for (auto* v : {&side_, &side_m_, &side_v_, &side_gradient_}) v->resize(side);
  for (std::size_t i = 0; i < linears_.size(); ++i) {
    const tensor& t = *linears_[i];
    const auto w = view(std::span<const float>(weights_), t);
    quern::bit_mask mask = quern::magnitude_mask(w, o.rule).value();
    if (o.slorb > 0) {
      aligned<float> kept(t.size());
      const span2<float> sparse(kept.data(), t.rows, t.cols);
      quern::apply_mask<float>(mask, w, sparse);
      quern::slorb_start<float>(view(start.dense, t), sparse, o.slorb, side_view(side_, s_[i]));
    }
    if (!x_.empty()) quern::slorb_indicator<float>(o.slorb, side_view(side_, x_[i]));
    if (!scales_.empty()) std::fill_n(side_.data() + scales_[i].offset, scales_[i].size(), 1.0f);
    masks_.emplace_back(std::move(mask));
  }
}

bool retrainer::frozen() const {
  return options_.policy == mask_policy::fixed || options_.policy == mask_policy::gradual ||
         options_.policy == mask_policy::iterative;
}

span2<const float> retrainer::side(std::size_t i) const {
  return s_.empty() ? span2<const float>() : side_view(side_, s_[i]);
}
span2<const float> retrainer::projection(std::size_t i) const {
  return x_.empty() ? span2<const float>() : side_view(side_, x_[i]);
}

void retrainer::build_effective(quern::thread_pool& pool, bool final) {
  pool.parallel_for(weights_.size(), 1 << 16, [&](std::size_t begin, std::size_t end) {
    std::copy_n(weights_.data() + begin, end - begin, effective_.data() + begin);
  });
  if (!masked()) return;
  pool.parallel_for(linears_.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const tensor& t = *linears_[i];
      const auto w = view(std::span<const float>(weights_), t);
      const auto out = view(std::span<float>(effective_), t);
      if (!scales_.empty()) quern::scale_weights<float>(side_view(std::as_const(side_), scales_[i]), w, out);
      if (scales_.empty() || final) quern::apply_mask<float>(masks_[i].now(), out, out);
      if (!x_.empty())
        quern::slorb_add<float>(side(i), projection(i), out);
      else if (!s_.empty())
        quern::slorb_add<float>(side(i), options_.slorb, out);
    }
  });
}

std::span<const float> retrainer::effective(quern::thread_pool& pool) {
  build_effective(pool, true);
  return effective_;
}

aligned<float> retrainer::sparse() const {
  aligned<float> out = weights_;
  for (std::size_t i = 0; i < masks_.size(); ++i) {
    const auto w = view(std::span<float>(out), *linears_[i]);
    quern::apply_mask<float>(masks_[i].now(), w, w);
    if (!scales_.empty()) quern::scale_weights<float>(side_view(side_, scales_[i]), w, w);
  }
  return out;
}

quern::result<void> retrainer::update_masks(retrain_report& report) {
  using enum mask_policy;
  const mask_policy p = options_.policy;
  const std::uint64_t last = options_.run.steps / 4 * 3;
  quern::mask_rule rule = options_.rule;
  if (p == dense || p == fixed || step_ % options_.update_every != 0) return {};
  if ((p == learned || p == cast) && step_ == 0) return {};  // the first mask is that of these weights
  const double final = rule.shape.of > 0
                           ? static_cast<double>(rule.shape.keep) / static_cast<double>(rule.shape.of)
                           : rule.density;
  if (p == gradual) rule = quern::rule_at(rule, quern::gradual_schedule{final, last}(step_));
  if (p == iterative)
    rule = quern::rule_at(rule, quern::iterative_schedule{final, options_.rounds, last}(step_));
  double weights = 0;
  for (std::size_t i = 0; i < masks_.size(); ++i) {
    const auto w = view(std::span<float>(weights_), *linears_[i]);
    const auto f = masks_[i].update(w, rule);
    if (!f) return quern::error("llama::retrainer: ", linears_[i]->name, ": ", f.error().what());
    if (frozen()) quern::apply_mask<float>(masks_[i].now(), w, w);
    const double n = static_cast<double>(linears_[i]->size());
    report.flips.since_last += n * f->since_last, report.flips.since_start += n * f->since_start;
    report.layers.push_back(*f);
    weights += n;
  }
  report.flips.since_last /= weights, report.flips.since_start /= weights;
  report.updated = true;
  return {};
}

batch_loss retrainer::run_batch(quern::thread_pool& pool) {
  const auto& o = options_;
  const std::size_t n = config_.context, layers = config_.layers;
  const bool teach = o.hidden || (o.loss.weight > 0 && start_.cached == nullptr);
  while (passes_.size() < pool.concurrency()) passes_.emplace_back(config_);
  while (teach && teachers_.size() < pool.concurrency())
    teachers_.emplace_back(start_.teacher->shape, o.hidden.has_value());
  const auto batch = draw_batch(texts_, n, o.run.batch, random_);
  const auto weights = tensors_of(std::span<const float>(effective_), layout_, layers);
  model_tensors<const float> teacher_weights;
  if (teach)
    teacher_weights = tensors_of(start_.teacher->weights, *teacher_layout_, start_.teacher->shape.layers);
  const float scale = 1.0f / static_cast<float>(o.run.batch * n);
  const float hidden_scale = o.hidden_weight / static_cast<float>(o.run.batch);

  return lanes_.run(
      pool, share_of(batch.size(), others_),
      [&](std::size_t thread, std::size_t j, std::span<float> gradient) {
        const std::size_t i = others_.rank + j * others_.size;
        const auto ids = batch[i].first(n), targets = batch[i].subspan(1);
        sequence_pass<float>& pass = passes_[thread];
        const span2<const float> logits = pass.forward(weights, ids);
        if (teach) teachers_[thread].forward(teacher_weights, ids);
        batch_loss loss;
        for (std::size_t first = 0; first < n; first += logit_rows) {
          const std::size_t count = std::min(logit_rows, n - first);
          const auto rows = logits.rows_of(first, count);
          const auto part = targets.subspan(first, count);
          const auto d = pass.dlogits().rows_of(first, count);
          quern::distill_sums sums;
          if (o.loss.weight == 0) {
            sums.cross_entropy = quern::cross_entropy_gradient<float>(rows, part, scale, d);
          } else if (start_.cached != nullptr) {
            const std::size_t row = (step_ * o.run.batch + i) * n + first;
            sums = quern::distill_gradient<float>(o.loss, *start_.cached, row, rows, part, scale, d);
          } else {
            const auto t = teachers_[thread].logits(teacher_weights, first, count);
            sums = o.top_k > 0
                       ? quern::distill_gradient<float>(
                             o.loss, quern::keep_top(t, o.top_k, o.loss.temperature), 0, rows, part, scale, d)
                       : quern::distill_gradient<float>(o.loss, t, rows, part, scale, d);
          }
          loss += {sums.cross_entropy, sums.divergence, 0};
        }
        const auto grads = tensors_of(gradient, layout_, layers);
        std::function<void(std::size_t, span2<float>)> entering;
        if (o.hidden)
          entering = [&](std::size_t l, span2<float> dstream) {
            loss.hidden += quern::hidden_gradient<float>(*o.hidden, teachers_[thread].hidden(l),
                                                         pass.hidden(l), hidden_scale, dstream);
          };
        pass.backward(weights, pass.dlogits(), grads, {}, entering);
        return loss;
      });
}

/// Turns the gradient of the effective weights into that of weights and side weights.
void retrainer::split_gradient(quern::thread_pool& pool) {
  std::fill(side_gradient_.begin(), side_gradient_.end(), 0.0f);
  if (!masked()) return;
  pool.parallel_for(linears_.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const auto d = view(lanes_.sum(), *linears_[i]);
      if (!x_.empty())
        quern::slorb_backward<float>(d, side(i), projection(i), side_view(side_gradient_, s_[i]),
                                     side_view(side_gradient_, x_[i]));
      else if (!s_.empty())
        quern::slorb_backward<float>(d, options_.slorb, side_view(side_gradient_, s_[i]));
      if (!scales_.empty())
        quern::scale_backward<float>(side_view(std::as_const(side_), scales_[i]),
                                     view(std::span<const float>(weights_), *linears_[i]), d,
                                     side_view(side_gradient_, scales_[i]));
      if (frozen()) quern::apply_mask<float>(masks_[i].now(), d, d);
    }
  });
}

void retrainer::update_weights(quern::thread_pool& pool, const quern::adamw_step& at, float lambda) {
  const auto& adamw = options_.run.adamw;
  quern::adamw_options plain = adamw;
  plain.weight_decay = 0;  // gains and factors are scales, not directions
  const float share = static_cast<float>(at.step - 1) / static_cast<float>(options_.run.steps);
  const auto part = [](std::span<float> all, const tensor& t) { return all.subspan(t.offset, t.size()); };
  std::size_t i = 0;
  for (const tensor& t : layout_.tensors()) {
    const std::span<const float> g = part(lanes_.sum(), t);
    const auto m = part(m_, t), v = part(v_, t), w = part(weights_, t);
    const bool linear = i < linears_.size() && linears_[i]->offset == t.offset;
    if (linear && options_.policy == mask_policy::learned)
      quern::masked_adamw_update<float>(adamw, at, lambda, masks_[i].now(), g, m, v, w, pool);
    else if (linear && options_.policy == mask_policy::cast)
      quern::adams_update<float>(adamw, at, lambda, share, masks_[i].now(), g, m, v, w, pool);
    else
      quern::adamw_update<float>(t.rows == 1 ? plain : adamw, at, g, m, v, w, pool);
    if (linear) ++i;
  }
  quern::adamw_update<float>(plain, at, std::span<const float>(side_gradient_), side_m_, side_v_, side_,
                             pool);
}

quern::result<retrain_report> retrainer::step(quern::thread_pool& pool) {
  const auto& o = options_;
  retrain_report report;
  if (const auto ok = update_masks(report); !ok) return ok.error();
  build_effective(pool, false);
  report.loss = run_batch(pool);
  if (others_.size > 1) {
    others_.sum_floats(lanes_.sum());
    double sums[] = {report.loss.cross_entropy, report.loss.divergence, report.loss.hidden};
    others_.sum_doubles(sums);
    report.loss = {sums[0], sums[1], sums[2]};
  }
  const double tokens = static_cast<double>(o.run.batch * config_.context);
  report.loss.cross_entropy /= tokens, report.loss.divergence /= tokens;
  report.loss.hidden /= static_cast<double>(o.run.batch);
  report.total = quern::distill_sums{report.loss.cross_entropy, report.loss.divergence}.loss(o.loss) +
                 static_cast<double>(o.hidden_weight) * report.loss.hidden;
  split_gradient(pool);
  report.gradient_norm = std::hypot(quern::global_norm<float>(std::span<const float>(lanes_.sum())),
                                    quern::global_norm<float>(std::span<const float>(side_gradient_)));
  if (!std::isfinite(report.total) || !std::isfinite(report.gradient_norm))
    return quern::error("llama::retrainer: step ", step_, " has loss ", report.total, " and gradient norm ",
                        report.gradient_norm,
                        "; lower the learning rate, or look at the weights it started from");
  report.learning_rate =
      quern::cosine_schedule{o.run.peak_rate, o.run.floor_rate, o.run.warmup, o.run.steps}(step_);
  report.lambda = o.decay(step_);
  ++step_;
  update_weights(pool,
                 {.learning_rate = report.learning_rate,
                  .gradient_scale = quern::clip_scale(report.gradient_norm, o.run.clip),
                  .step = step_},
                 report.lambda);
  return report;
}

quern::result<double> held_out_loss(const config& c, std::span<const float> weights,
                                    std::span<const std::int32_t> ids, std::size_t windows,
                                    quern::thread_pool& pool) {
  const std::size_t whole = ids.size() / c.context, n = windows == 0 ? whole : windows;
  if (n == 0 || n > whole)
    return quern::error("llama::held_out_loss: the text has ", whole, " whole windows of ", c.context, "; ",
                        n == 0 ? 1 : n, " are needed");
  const parameters layout(c);
  const auto tensors = tensors_of(weights, layout, c.layers);
  std::vector<double> nll(n);
  std::vector<quern::error> problems(n);
  std::vector<unsigned char> failed(n);
  std::atomic<std::size_t> next{0};
  pool.parallel_for(pool.concurrency(), 1, [&](std::size_t, std::size_t) {
    teacher_pass pass(c, false);
    for (std::size_t w = next++; w < n; w = next++) {
      const auto r = quern::perplexity(
          ids.subspan(w * c.context, c.context), {.context = c.context, .windows = 1},
          [&](std::span<const std::int32_t> window, auto&& score) {
            pass.forward(tensors, window);
            for (std::size_t first = 0; first < window.size(); first += logit_rows)
              score(first, pass.logits(tensors, first, std::min(logit_rows, window.size() - first)));
          });
      if (r)
        nll[w] = r->nll;
      else
        problems[w] = r.error(), failed[w] = 1;
    }
  });
  double sum = 0;
  for (std::size_t w = 0; w < n; ++w) {
    if (failed[w] != 0)
      return quern::error("llama::held_out_loss: window ", w, " of the text: ", problems[w].what());
    sum += nll[w];
  }
  return sum / static_cast<double>(n);
}

}  // namespace llama
