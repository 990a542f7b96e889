// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::retrainer r(shape, options, texts, {.weights = start, .dense = dense, .teacher = {shape, dense}});
// while (r.step_count() < options.run.steps) log(r.step(pool).value());
// r.effective();                                        // what the model computes with: masked, side weights added

#include <functional>
#include <limits>
#include <llama/flat_model.hpp>
#include <llama/teacher.hpp>
#include <llama/trainer.hpp>
#include <optional>
#include <quern/core/communicator.hpp>
#include <quern/train/distill.hpp>
#include <quern/train/mask_update.hpp>
#include <quern/train/masked_decay.hpp>
#include <string>
#include <vector>

namespace llama {

/// Where masks come from while weights train.
enum class mask_policy {
  dense,    ///< nothing is masked: the dense model, trained on
  fixed,    ///< the first mask stays
  learned,  ///< chosen anew from the dense weights every update_every steps (AST); decay is decay_schedule's
  gradual,  ///< gradual magnitude pruning: what is pruned is zero and stays so
  iterative,  ///< iterative magnitude pruning, likewise
  cast,       ///< CAST: the forward pass is dense until the end, AdamS pulls what the mask leaves out to zero
};

/// How a model is retrained. Rates, batch and seed are those of training.
struct retrain_options {
  train_options run;
  mask_policy policy = mask_policy::learned;
  quern::mask_rule rule;  ///< of the linears of all blocks; embedding, head and norms are left alone
  quern::decay_schedule decay;
  std::uint64_t update_every = 10;  ///< steps between masks
  std::uint64_t rounds = 2;         ///< of iterative pruning, over the first 3/4 of the steps
  quern::distillation loss{.weight = 0};
  std::size_t top_k = 0;  ///< of the teacher's logits; 0: all
  std::optional<quern::hidden_loss> hidden;
  float hidden_weight = 1;
  std::size_t slorb = 0;          ///< inputs per group of side weights; 0: none
  bool train_projection = false;  ///< X starts as the indicator and is trained, too
  std::size_t scale_parts = 2;    ///< of a row, for CAST
};

/// What one step reports; losses are means per token.
struct retrain_report {
  batch_loss loss;
  double total = 0;  ///< what was minimised
  double gradient_norm = 0;
  float learning_rate = 0, lambda = 0;
  bool updated = false;  ///< whether masks were chosen in this step
  quern::flips flips;    ///< over all masked weights, where updated
  std::vector<quern::flips> layers;
};

/// How processes meet (see quern::communicator).
struct processes {
  std::size_t rank = 0, size = 1;
  std::function<void(std::span<float>)> sum_floats;
  std::function<void(std::span<double>)> sum_doubles;
  template <quern::communicator C>
  static processes of(C& c) {
    return {c.rank(), c.size(), [&c](std::span<float> v) { c.sum(v); },
            [&c](std::span<double> v) { c.sum(v); }};
  }
};

/// Where retraining starts. The spans must outlive the retrainer; `weights` is copied.
struct retrain_start {
  std::span<const float> weights;  ///< of a config, flat; zero where a one-shot method pruned
  std::span<const float> dense;    ///< the model before that: whose group sums side weights restore
  std::optional<teacher_model> teacher = {};  ///< for distillation
  const quern::top_logits* cached = nullptr;  ///< of the teacher, see cached_teacher
  /// The text whose losses note_held_out() hears, if any: a run goes on with the same only.
  std::span<const std::int32_t> held_out = {};
};

/// Retrains a model under masks. The batch of a step is the same for any number of processes: sequence i belongs to
/// process i % size, and gradients are added in the order of ranks.
class retrainer {
 public:
  /// @param c  the shape of the model; its context is the window of training
  /// @throws shape_error for a teacher of another vocabulary (another width or depth, for losses on hidden states),
  /// texts that are too short, and options that are not positive where they must be
  retrainer(const config& c, const retrain_options& options, std::vector<training_text> texts,
            const retrain_start& start, processes others = {});

  /// @returns an error, with the weights as they were, if loss, gradient or a weight is not finite
  quern::result<retrain_report> step(quern::thread_pool& pool);
  std::uint64_t step_count() const { return step_; }
  const config& shape() const { return config_; }
  const retrain_options& options() const { return options_; }
  const parameters& layout() const { return layout_; }
  /// What the model computes with, in the order of layout(): masks applied, side weights and factors in.
  std::span<const float> effective(quern::thread_pool& pool);
  /// The masked weights without side weights, to be stored beside them.
  aligned<float> sparse() const;
  /// [linears of all blocks] in the order of layout(); empty where nothing is masked.
  const std::vector<quern::learned_mask>& masks() const { return masks_; }
  /// Side weights S, and X where it is trained, of linear i of masks(); empty views without SLoRB.
  span2<const float> side(std::size_t i) const;
  span2<const float> projection(std::size_t i) const;
  /// Inputs per group of side weights; 0: there are none.
  std::size_t group() const { return s_.empty() ? 0 : options_.slorb; }
  /// The layer and slot of linear i.
  const tensor& linear_tensor(std::size_t i) const { return *linears_[i]; }
  std::size_t linear_count() const { return linears_.size(); }

  /// Notes a loss on held-out text. @returns whether it is the lowest so far
  bool note_held_out(double nll) {
    const bool best = nll < best_;
    if (best) best_ = nll, best_step_ = step_;
    return best;
  }
  double best_loss() const { return best_; }
  std::uint64_t best_step() const { return best_step_; }

  /// Writes the whole state, as trainer::save does.
  quern::result<void> save(const std::string& path) const;
  /// Takes it back, after which the run goes on bit for bit. @returns io_error, with the run as it was, for a
  /// checkpoint of other options, texts, start weights or teacher, or a damaged one
  quern::result<void> resume(const std::string& path);
  /// The sentence that tells runs apart.
  std::string fingerprint() const;

 private:
  /// One more weight beside a linear: S, X or a factor.
  struct side_tensor {
    std::size_t rows = 0, cols = 0, offset = 0;
    std::size_t size() const { return rows * cols; }
  };
  span2<float> side_view(aligned<float>& of, const side_tensor& t) {
    return {of.data() + t.offset, t.rows, t.cols};
  }
  span2<const float> side_view(const aligned<float>& of, const side_tensor& t) const {
    return {of.data() + t.offset, t.rows, t.cols};
  }
  std::string describe() const;
  bool masked() const { return options_.policy != mask_policy::dense; }
  bool frozen() const;  ///< masked weights are zero for good
  void build_effective(quern::thread_pool& pool, bool final);
  quern::result<void> update_masks(retrain_report& report);
  batch_loss run_batch(quern::thread_pool& pool);
  void split_gradient(quern::thread_pool& pool);
  void update_weights(quern::thread_pool& pool, const quern::adamw_step& at, float lambda);

  config config_;
  retrain_options options_;
  parameters layout_;
  std::vector<training_text> texts_;
  retrain_start start_;
  processes others_;
  std::vector<const tensor*> linears_;
  std::vector<side_tensor> s_, x_, scales_;  // one per linear, or none
  aligned<float> weights_, m_, v_, effective_;
  aligned<float> side_, side_m_, side_v_, side_gradient_;
  std::vector<quern::learned_mask> masks_;
  gradient_lanes lanes_;
  std::vector<sequence_pass<float>> passes_;  // one per thread
  std::vector<teacher_pass> teachers_;
  std::optional<parameters> teacher_layout_;
  quern::rng random_;
  std::string run_;  // see fingerprint()
  std::uint64_t step_ = 0, best_step_ = 0;
  double best_ = std::numeric_limits<double>::infinity();
};

/// Mean nats per token of flat weights over the first @p windows windows of a text (0: all), each of the context of
/// @p c. @returns what quern::perplexity says against it
quern::result<double> held_out_loss(const config& c, std::span<const float> weights,
                                    std::span<const std::int32_t> ids, std::size_t windows,
                                    quern::thread_pool& pool);

}  // namespace llama
