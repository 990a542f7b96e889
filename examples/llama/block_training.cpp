// SPDX-License-Identifier: Apache-2.0
#include <llama/block_training.hpp>
#include <llama/packed.hpp>
#include <string>

namespace llama {
namespace {

enum class part { attention, mlp, both };

/// A block, or a half of it, as quern::train_block sees it: some linears come from outside, the rest is fixed.
struct block_worker {
  block_tensors<const float> weights;
  std::vector<std::size_t> trained;  // among block_linears
  part half;
  block_pass<float> pass;
  block_workspace<float> space;

  block_worker(const block_tensors<const float>& fixed, std::vector<std::size_t> linears, part which,
               const config& c)
      : weights(fixed), trained(std::move(linears)), half(which), pass(c), space(c) {}
  void forward(std::span<const span2<const float>> w, span2<float> stream) {
    for (std::size_t i = 0; i < trained.size(); ++i) matrix_of(weights, trained[i]) = w[i];
    if (half != part::mlp) pass.forward_attention(weights, stream, space);
    if (half != part::attention) pass.forward_mlp(weights, stream);
  }
  void backward(std::span<const span2<const float>>, span2<float> dstream, std::span<const span2<float>> dw) {
    block_tensors<float> gradient;
    for (std::size_t i = 0; i < trained.size(); ++i) matrix_of(gradient, trained[i]) = dw[i];
    if (half != part::attention) pass.backward_mlp(weights, dstream, gradient, space);
    if (half != part::mlp) pass.backward_attention(weights, dstream, gradient, space);
  }
};
static_assert(quern::differentiable_block<block_worker>);

std::vector<block_worker> workers_of(const block_runner& block, const std::vector<std::size_t>& linears,
                                     part half, std::size_t count) {
  std::vector<block_worker> out;
  for (std::size_t i = 0; i < count; ++i) out.emplace_back(block.tensors(), linears, half, block.shape());
  return out;
}

}  // namespace

block_runner::block_runner(const model& m, std::size_t layer, std::size_t length, quern::thread_pool& pool)
    : block_(&m.blocks[layer]), shape_(m.shape) {
  shape_.context = length;
  for (const named_linear& l : block_linears) values_.push_back(values_of(block_->*l.weight, pool));
}

span2<const float> block_runner::values(std::size_t i) const {
  const linear& w = block_->*block_linears[i].weight;
  return {values_[i].data(), w.rows(), w.cols()};
}

block_tensors<const float> block_runner::tensors() const {
  block_tensors<const float> t;
  t.attn_norm = block_->attn_norm;
  t.ffn_norm = block_->ffn_norm;
  for (std::size_t i = 0; i < values_.size(); ++i) matrix_of(t, i) = values(i);
  return t;
}

void block_runner::run(span2<float> stream, span2<float> mid, quern::thread_pool& pool) const {
  const std::size_t length = shape_.context;
  std::vector<block_worker> workers = workers_of(*this, {}, part::both, pool.concurrency());
  quern::for_lanes(stream.rows() / length, pool, [&](std::size_t worker, std::size_t window) {
    block_worker& w = workers[worker];
    const span2<float> x = stream.rows_of(window * length, length);
    w.pass.forward_attention(w.weights, x, w.space);
    if (mid.rows() != 0) std::copy_n(x.data(), length * x.cols(), mid.row(window * length));
    w.pass.forward_mlp(w.weights, x);
  });
}

quern::result<quern::bqpo_report> train_packed_block(
    model& m, std::size_t layer, const block_runner& dense, const block_streams& streams,
    const block_training_options& options, quern::thread_pool& pool,
    const std::function<void(std::size_t, std::size_t, double)>& progress) {
  block& b = m.blocks[layer];
  const auto train = [&](std::size_t first, std::size_t end, part half, span2<const float> inputs,
                         span2<const float> targets) -> quern::result<quern::bqpo_report> {
    std::vector<std::size_t> linears;
    std::vector<quern::trained_weight> weights;
    for (std::size_t i = first; i < end; ++i) {
      const packed_matrix* packed = packed_of(b.*block_linears[i].weight);
      if (packed == nullptr) continue;
      linears.push_back(i);
      weights.push_back(packed->format->train(packed->raw));
      if (options.pull > 0) weights.back().pull(dense.values(i), options.pull);
    }
    if (linears.empty()) return quern::bqpo_report{};
    const block_runner now(m, layer, streams.length, pool);
    std::vector<block_worker> workers = workers_of(now, linears, half, pool.concurrency());
    const auto failed = [&](const quern::error& e) { return quern::error("blk.", layer, ": ", e.what()); };
    const auto report =
        quern::train_block(std::span(weights), std::span(workers), {inputs, targets, streams.length},
                           options.bqpo, pool, [&](std::size_t step, std::size_t steps, double loss) {
                             if (progress) progress(step, steps, loss);
                           });
    if (!report) return failed(report.error());
    for (std::size_t i = 0; i < linears.size(); ++i) {
      linear& w = b.*block_linears[linears[i]].weight;
      auto packed = packed_of(w)->format->pack_trained(weights[i], pool);
      if (!packed) return failed(packed.error());
      w = packed_linear(std::move(*packed));
    }
    return *report;
  };
  constexpr std::size_t mlp = 4;  // the first of block_linears behind the attention
  if (!options.halves) return train(0, std::size(block_linears), part::both, streams.inputs, streams.targets);
  if (const auto attention = train(0, mlp, part::attention, streams.inputs, streams.mid); !attention)
    return attention.error();
  // The MLP half sees what the compressed attention put out; its own forward pass is thrown away.
  const std::size_t width = m.shape.width, rows = streams.inputs.rows();
  aligned<float> whole(streams.inputs.data(), streams.inputs.data() + rows * width), mid(rows * width);
  block_runner(m, layer, streams.length, pool)
      .run({whole.data(), rows, width}, {mid.data(), rows, width}, pool);
  return train(mlp, std::size(block_linears), part::mlp, {mid.data(), rows, width}, streams.targets);
}

}  // namespace llama
