// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<quern::trained_weight> weights = ...;       // the linears of one block, as one-shot compression left them
// std::vector<my_block> workers(pool.concurrency());      // forward and backward of the block, one per thread
// auto report = quern::train_block(weights, workers, {inputs, targets, 512}, {}, pool).value();

#include <algorithm>
#include <cmath>
#include <quern/dense/matrix.hpp>
#include <quern/train/lanes.hpp>
#include <quern/train/weight_optimizer.hpp>

namespace quern::inline v0 {

/// What a block is trained to lower, summed over the positions t of a sequence with student y^_t and target y_t.
enum class block_loss {
  squared,  ///< |y^_t - y_t|^2 / mean |y|^2: the paper's, made dimensionless
  relative,  ///< |y^_t - y_t|^2 / |y_t|^2: what is left of it behind the next norm. Positions whose hidden states
  ///< are a hundred times larger than others (attention sinks) would be all that the other one sees.
};

/// GQSA's first stage. Rates are in the units of trained_weight; the paper's own are not known, EfficientQAT's are
/// absolute (docs/papers.md).
struct bqpo_options {
  std::size_t epochs = 4;
  std::size_t batch = 4;       ///< sequences per step
  std::size_t lanes = 2;       ///< gradient buffers; the result depends on it, not on the number of threads
  std::size_t validation = 8;  ///< the last sequences, held back: the best epoch by their loss is kept
  /// Epochs in a row without a better one before training ends; at least 1. The rates are highest at the start, and
  /// codes flip: the first epoch may well end above the start, the last one of the cosine below it.
  std::size_t patience = 3;
  training_rates rates{.weight = 0.015f, .scale = 0.004f, .zero = 0.02f, .row_scale = 0.002f};
  float floor = 0.05f;  ///< share of the rates at the end of the cosine
  float clip = 1.0f;    ///< largest norm of the gradient
  block_loss loss = block_loss::relative;
  adamw_options adamw{.beta1 = 0.9f, .beta2 = 0.95f};
  std::uint64_t seed = 1;
  friend bool operator==(const bqpo_options&, const bqpo_options&) = default;
};

/// Sequences of `length` positions, one after the other: [sequences * length x width].
struct block_data {
  span2<const float> inputs;   ///< what the compressed blocks before put out
  span2<const float> targets;  ///< what the dense block makes of the dense blocks' output
  std::size_t length;
};

struct bqpo_report {
  double before = 0,
         after = 0;  ///< loss per position of the validation sequences (of all, if there are none)
  std::size_t steps = 0, best_epoch = 0;
};

/// A block as training sees it: y = F(x; w) in place, and the derivative of the last forward call. Not for two
/// threads at once; must not throw.
template <class B>
concept differentiable_block = requires(B& b, std::span<const span2<const float>> w,
                                        std::span<const span2<float>> dw, span2<float> stream) {
  b.forward(w, stream);       // stream [length x width] becomes the output
  b.backward(w, stream, dw);  // stream is dL/d output, to be used up; adds to dw
};

inline namespace QUERN_BUILD {

/// What the linears of a block are now, decoded, and views of it.
class decoded_weights {
 public:
  explicit decoded_weights(std::span<const trained_weight> weights) {
    for (const trained_weight& w : weights)
      values_.emplace_back(static_cast<Eigen::Index>(w.rows()), static_cast<Eigen::Index>(w.cols()));
    for (std::size_t i = 0; i < weights.size(); ++i)
      views_.emplace_back(values_[i].data(), weights[i].rows(), weights[i].cols());
  }
  template <class Exec>
  void update(std::span<const trained_weight> weights, Exec& exec) {
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i].quantize({values_[i].data(), weights[i].rows(), weights[i].cols()}, exec);
  }
  std::span<const span2<const float>> views() const { return views_; }

 private:
  std::vector<eigen_matrix<float>> values_;
  std::vector<span2<const float>> views_;
};

/// The loss of student rows against their targets, and its derivative times @p scale in place of the student.
/// @param energy  mean |y_t|^2 over the data, for block_loss::squared
inline double block_error(block_loss kind, double energy, span2<const float> target, float scale,
                          span2<float> student) {
  double sum = 0;
  for (std::size_t t = 0; t < student.rows(); ++t) {
    auto y = eigen_array(student.row(t), student.cols());
    const auto wanted = eigen_array(target.row(t), target.cols());
    y -= wanted;
    const double size = kind == block_loss::squared ? energy : static_cast<double>(wanted.square().sum());
    const double weight = size > 0 ? 1 / size : 1;
    sum += weight * static_cast<double>(y.square().sum());
    y *= 2 * scale * static_cast<float>(weight);
  }
  return sum;
}

/// One block's training: what does not change from step to step.
template <class Block, class Exec>
struct block_training {
  std::span<trained_weight> weights;
  std::span<Block> workers;
  const block_data& data;
  const bqpo_options& options;
  Exec& exec;
  double energy = 1;
  decoded_weights decoded;
  struct lane {
    eigen_matrix<float> stream;
    std::vector<trained_numbers> gradient;
    double loss = 0;
  };
  std::vector<lane> lanes;

  block_training(std::span<trained_weight> w, std::span<Block> b, const block_data& d, const bqpo_options& o,
                 Exec& e)
      : weights(w),
        workers(b),
        data(d),
        options(o),
        exec(e),
        decoded(w),
        lanes(std::max<std::size_t>(o.lanes, 1)) {
    for (lane& l : lanes) {
      l.stream.resize(static_cast<Eigen::Index>(d.length), static_cast<Eigen::Index>(d.inputs.cols()));
      for (const trained_weight& one : w) l.gradient.push_back(one.gradient(true));
    }
    if (d.targets.rows() > 0)
      energy =
          static_cast<double>(eigen_map(d.targets).squaredNorm()) / static_cast<double>(d.targets.rows());
  }
  /// The loss per position of some sequences; with @p learn, its gradient in lanes[0].
  double run(std::span<const std::size_t> sequences, bool learn) {
    decoded.update(weights, exec);
    const double positions = static_cast<double>(sequences.size() * data.length);
    const float scale = static_cast<float>(1 / positions);
    for_lanes(lanes.size(), exec, [&](std::size_t worker, std::size_t which) {
      lane& mine = lanes[which];
      mine.loss = 0;
      std::vector<span2<float>> dw;
      for (std::size_t i = 0; learn && i < weights.size(); ++i) {
        for (const trained k : trained_kinds)
          std::fill(mine.gradient[i][k].begin(), mine.gradient[i][k].end(), 0.0f);
        dw.emplace_back(mine.gradient[i][trained::weight].data(), weights[i].rows(), weights[i].cols());
      }
      const span2<float> stream(mine.stream.data(), data.length, data.inputs.cols());
      for (std::size_t s = which; s < sequences.size(); s += lanes.size()) {
        const std::size_t first = sequences[s] * data.length;
        eigen_map(stream) = eigen_map(data.inputs.rows_of(first, data.length));
        workers[worker].forward(decoded.views(), stream);
        mine.loss +=
            block_error(options.loss, energy, data.targets.rows_of(first, data.length), scale, stream);
        if (learn) workers[worker].backward(decoded.views(), stream, dw);
      }
    });
    double loss = 0;
    for (const lane& l : lanes) loss += l.loss;
    for (std::size_t i = 0; learn && i < weights.size(); ++i) {
      std::vector<float>& sum = lanes[0].gradient[i][trained::weight];
      exec.parallel_for(sum.size(), 1 << 14, [&](std::size_t first, std::size_t end) {
        for (std::size_t l = 1; l < lanes.size(); ++l)
          for (std::size_t k = first; k < end; ++k) sum[k] += lanes[l].gradient[i][trained::weight][k];
      });
      weights[i].backward({sum.data(), weights[i].rows(), weights[i].cols()}, lanes[0].gradient[i], exec);
    }
    return loss / positions;
  }
};

/// Trains the linears of one block so that its output for the compressed inputs comes near that of the dense block
/// (GQSA section 4, BQPO; EfficientQAT's Block-AP with a fixed mask): surviving weights through the straight-through
/// estimator, scales and zeros, AdamW under a cosine, clipped gradients. The values of the best epoch on the
/// validation sequences remain, those of the start if no epoch was better. For the attention and the MLP half apart,
/// call it once for each, with the dense stream between the halves as the first one's target.
///
/// Does not depend on the number of threads. Memory: `lanes` + 3 copies of the block's weights and AdamW's two.
/// @param workers   at least exec.concurrency() of them
/// @param progress  progress(step, steps, loss) after every step
/// @returns an error that names the step at which the loss or the gradient was not finite
/// @throws shape_error where the sizes do not fit
template <differentiable_block Block, class Exec = serial,
          class Progress = void (*)(std::size_t, std::size_t, double)>
result<bqpo_report> train_block(
    std::span<trained_weight> weights, std::span<Block> workers, const block_data& data,
    const bqpo_options& options, Exec&& exec = Exec{},
    Progress&& progress = [](std::size_t, std::size_t, double) {}) {
  require(data.length > 0 && data.inputs.rows() % data.length == 0 &&
              data.inputs.rows() == data.targets.rows() && data.inputs.cols() == data.targets.cols(),
          "quern::train_block: inputs and targets must be [sequences * ", data.length, " x width], not ",
          data.inputs.rows(), " x ", data.inputs.cols(), " and ", data.targets.rows(), " x ",
          data.targets.cols());
  require(workers.size() >= exec.concurrency() && options.batch > 0,
          "quern::train_block: a worker for each thread and a batch of at least 1 are needed");
  const std::size_t sequences = data.inputs.rows() / data.length;
  require(sequences > options.validation, "quern::train_block: ", sequences,
          " sequences leave none to learn from beside ", options.validation, " for validation");
  const std::size_t learned = sequences - options.validation;
  std::vector<std::size_t> judged(options.validation > 0 ? options.validation : sequences);
  std::iota(judged.begin(), judged.end(), options.validation > 0 ? learned : 0);

  block_training<Block, std::remove_reference_t<Exec>> training(weights, workers, data, options, exec);
  weight_optimizer optimizer(weights, options.rates, options.adamw, options.clip);
  const std::size_t per_epoch = (learned + options.batch - 1) / options.batch;
  const cosine_schedule schedule{1.0f, options.floor, 0, per_epoch * options.epochs};
  std::vector<trained_numbers> best(weights.size());
  const auto keep = [&] {
    for (std::size_t i = 0; i < weights.size(); ++i)
      for (const trained k : trained_kinds)
        best[i][k].assign(weights[i].values(k).begin(), weights[i].values(k).end());
  };
  bqpo_report report;
  report.before = report.after = training.run(judged, false);
  if (!std::isfinite(report.before))
    return error("quern::train_block: the loss is ", report.before, " before step 1");
  keep();
  std::size_t worse = 0;
  for (std::size_t epoch = 0; epoch < options.epochs && worse < std::max<std::size_t>(options.patience, 1);
       ++epoch) {
    const std::vector<std::size_t> order = sequence_order(options.seed, epoch, learned);
    for (std::size_t first = 0; first < learned; first += options.batch) {
      const std::span batch = std::span(order).subspan(first, std::min(options.batch, learned - first));
      const double loss = training.run(batch, true);
      const float share = schedule(report.steps);
      const auto norm = std::isfinite(loss) ? optimizer.step(weights, training.lanes[0].gradient, share, exec)
                                            : result<double>(error("the loss is ", loss));
      if (!norm)
        return error("quern::train_block: step ", report.steps + 1, ": ", norm.error().what(),
                     "; lower the rates or the clip");
      ++report.steps;
      progress(report.steps, per_epoch * options.epochs, loss);
    }
    const double now = training.run(judged, false);
    if (now < report.after) {
      report.after = now, report.best_epoch = epoch + 1, worse = 0;
      keep();
    } else {
      ++worse;
    }
  }
  for (std::size_t i = 0; i < weights.size(); ++i)
    for (const trained k : trained_kinds)
      std::copy(best[i][k].begin(), best[i][k].end(), weights[i].values(k).begin());
  return report;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
