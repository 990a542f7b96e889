// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/calibrate.hpp>
#include <string_view>

namespace llama {
namespace {

constexpr std::size_t input_count = 4;

/// The input that a linear is the first to see, or input_count: that one adds it for all that share it.
std::size_t first_sight(std::string_view name) {
  for (std::size_t i = 0; i < std::size(block_linears); ++i)
    if (block_linears[i].name == name && (i == 0 || input_of[i] != input_of[i - 1])) return input_of[i];
  return input_count;
}

}  // namespace

block_moments::block_moments(const block& b, std::size_t context, float sink_weight, bool crossed)
    : dense_inputs_(input_count), weights_(context, 1.0f) {
  if (context != 0) weights_[0] = sink_weight;
  for (const std::size_t i : {0, 3, 4, 6}) {
    const linear& w = b.*block_linears[i].weight;
    sums_.emplace_back(w ? w.cols() : 0);
    if (crossed) crossed_.emplace_back(sums_.back().cols());
  }
}

void block_moments::see_dense(const char* name, span2<const float> x) {
  if (const std::size_t i = first_sight(name); i < input_count) dense_inputs_[i] = quern::eigen_map(x);
}

void block_moments::see(std::size_t layer, const char* name, span2<const float> x, quern::thread_pool& pool) {
  const std::size_t i = first_sight(name);
  if (i == input_count) return;
  const auto add = [&](const quern::result<void>& ok) {
    if (!ok && problem_.empty())
      problem_ = "blk." + std::to_string(layer) + "." + name + ": " + ok.error().what();
  };
  const auto weights = std::span<const float>(weights_).first(x.rows());
  add(sums_[i].add(x, weights, pool));
  if (!crossed_.empty())
    add(crossed_[i].add({dense_inputs_[i].data(), x.rows(), x.cols()}, x, weights, pool));
}

float sink_weight_of(const model& m, std::span<const std::int32_t> ids, std::size_t context,
                     quern::thread_pool& pool) {
  const std::size_t n = std::min(ids.size(), context), width = m.shape.width;
  if (n < 2) return 1;
  std::vector<float> stream(n * width), others(n - 1);
  const span2<float> all(stream.data(), n, width);
  const auto mean_square = [&](std::size_t t) {
    return quern::eigen_map(all.rows_of(t, 1)).squaredNorm() / static_cast<float>(width);
  };
  session run(m, n, pool, activation::f32);
  run.embed(ids.first(n), all);
  for (std::size_t layer = 0; layer < m.shape.layers; ++layer) {
    for (std::size_t t = 1; t < n; ++t) others[t - 1] = mean_square(t);
    const auto middle = others.begin() + static_cast<std::ptrdiff_t>(others.size() / 2);
    std::nth_element(others.begin(), middle, others.end());
    if (mean_square(0) > 100 * *middle) return 256;
    run.run_block(layer, all);
  }
  return 1;
}

}  // namespace llama
