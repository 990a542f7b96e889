// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <llama/calibrate.hpp>
#include <llama/layer_scores.hpp>
#include <numeric>

namespace llama {
namespace {

using quern::error;
using quern::result;

struct pair_sums {
  double cosine = 0, ratio = 0;
};

/// Sums over rows of 1 - cos(a, b) and of |b - a| / |b|.
pair_sums compare(span2<const float> a, span2<const float> b) {
  pair_sums out;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    double ab = 0, aa = 0, bb = 0, dd = 0;
    for (std::size_t c = 0; c < a.cols(); ++c) {
      const double x = static_cast<double>(a(r, c)), y = static_cast<double>(b(r, c));
      ab += x * y, aa += x * x, bb += y * y, dd += (y - x) * (y - x);
    }
    out.cosine += 1 - (aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 1);
    out.ratio += bb > 0 ? std::sqrt(dd / bb) : 0;
  }
  return out;
}

std::span<const std::int32_t> window_of(std::span<const std::int32_t> ids, std::size_t context,
                                        std::size_t windows, std::size_t i) {
  quern::require(context > 0 && windows > 0 && ids.size() / context >= windows,
                 "llama::score_streams: the text has ", ids.size(), " tokens, not ", windows, " windows of ",
                 context, "; take a longer text");
  return ids.subspan(i * context, context);
}

}  // namespace

stream_scores score_streams(const model& m, std::span<const std::int32_t> ids, std::size_t context,
                            std::size_t windows, quern::thread_pool& pool) {
  const std::size_t layers = m.shape.layers, width = m.shape.width;
  stream_scores out{
      std::vector<double>(2 * layers), std::vector<double>(2 * layers), std::vector<double>(layers), {}};
  for (std::size_t l = 0; l < layers; ++l) out.window_cosine.emplace_back(layers - l);
  session run(m, context, pool, activation::f32);
  std::vector<aligned<float>> streams(layers + 1);
  for (auto& s : streams) s.resize(context * width);
  aligned<float> middle(context * width);
  const auto view = [&](aligned<float>& v) { return span2<float>(v.data(), context, width); };
  const double share = 1 / static_cast<double>(context * windows);
  for (std::size_t w = 0; w < windows; ++w) {
    run.embed(window_of(ids, context, windows, w), view(streams[0]));
    for (std::size_t l = 0; l < layers; ++l) {
      middle = streams[l];
      run.run_attention(l, view(middle));
      streams[l + 1] = middle;
      run.run_ffn(l, view(streams[l + 1]));
      const pair_sums attn = compare(view(streams[l]), view(middle)),
                      ffn = compare(view(middle), view(streams[l + 1]));
      out.cosine[2 * l] += attn.cosine * share, out.ratio[2 * l] += attn.ratio * share;
      out.cosine[2 * l + 1] += ffn.cosine * share, out.ratio[2 * l + 1] += ffn.ratio * share;
    }
    for (std::size_t l = 0; l < layers; ++l)
      for (std::size_t n = 0; n < layers - l; ++n)
        out.window_cosine[l][n] += compare(view(streams[l]), view(streams[l + n + 1])).cosine * share;
  }
  for (std::size_t l = 0; l < layers; ++l) out.block_cosine[l] = out.window_cosine[l][0];
  return out;
}

genome drop_blocks(const search_task& halves, std::span<const double> block_scores, std::size_t n) {
  std::vector<std::size_t> order(block_scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return block_scores[a] < block_scores[b]; });
  genome g(halves.space.units.size(), 1);
  for (std::size_t i = 0; i < n; ++i) g[order[i]] = g[order[i] + block_scores.size()] = 0;
  return g;
}

genome drop_window(const search_task& halves, const stream_scores& s, std::size_t n) {
  const std::size_t layers = s.block_cosine.size();
  std::size_t best = 0;
  for (std::size_t l = 1; l + n <= layers; ++l)
    if (s.window_cosine[l][n - 1] < s.window_cosine[best][n - 1]) best = l;
  std::vector<double> scores(layers, 1.0);
  std::fill_n(scores.begin() + static_cast<std::ptrdiff_t>(best), n, 0.0);
  return drop_blocks(halves, scores, n);
}

result<std::vector<double>> outlier_ratios(const model& dense, std::span<const std::int32_t> ids,
                                           std::size_t context, std::size_t windows, double m,
                                           quern::thread_pool& pool) {
  std::vector<double> out;
  const std::size_t width = dense.shape.width;
  session run(dense, context, pool, activation::f32);
  aligned<float> streams(windows * context * width);
  const auto window = [&](std::size_t i) {
    return span2<float>(streams.data() + i * context * width, context, width);
  };
  for (std::size_t w = 0; w < windows; ++w) run.embed(window_of(ids, context, windows, w), window(w));
  for (std::size_t l = 0; l < dense.shape.layers; ++l) {
    block_moments moments(dense.blocks[l], context, 1);
    run.observe([&](std::size_t layer, const char* name, span2<const float> x) {
      moments.see(layer, name, x, pool);
    });
    for (std::size_t w = 0; w < windows; ++w) run.run_block(l, window(w));
    run.observe({});
    if (!moments.problem().empty()) return error("llama::outlier_ratios: ", moments.problem());
    double outliers = 0, weights = 0;
    for (std::size_t i = 0; i < std::size(block_linears); ++i) {
      const linear& w = dense.blocks[l].*block_linears[i].weight;
      if (!w) continue;
      const quern::eigen_matrix<float> h = moments.of(i).matrix();
      std::vector<float> scores = values_of(w, pool);
      double sum = 0;
      for (std::size_t j = 0; j < scores.size(); ++j) {
        const auto c = static_cast<Eigen::Index>(j % w.cols());
        scores[j] = std::abs(scores[j]) * std::sqrt(h(c, c));
        sum += static_cast<double>(scores[j]);
      }
      const double bar = m * sum / static_cast<double>(scores.size());
      for (const float s : scores) outliers += static_cast<double>(s) > bar ? 1 : 0;
      weights += static_cast<double>(scores.size());
    }
    out.push_back(outliers / weights);
  }
  return out;
}

genome owl_levels(const search_task& task, const level_db& db, std::span<const double> ratios, double density,
                  double lambda) {
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  const double spread = *high > *low ? 2 * lambda / (*high - *low) : 0;
  double mean = 0;
  for (const double r : ratios) mean += (r - *low) * spread / static_cast<double>(ratios.size());
  const std::size_t n = task.table.size();
  std::vector<double> wanted(n);  // weights that survive
  genome g(n);
  for (std::size_t u = 0; u < n; ++u) {
    const double kept = density + (ratios[db.linears()[u].layer] - *low) * spread - mean;
    wanted[u] = kept * static_cast<double>(task.table[u].weights);
    const auto off = [&](std::size_t l) {
      return std::abs(static_cast<double>(task.table[u].levels[l].cost) - wanted[u]);
    };
    for (std::size_t l = 1; l < task.table[u].levels.size(); ++l)
      if (off(l) < off(g[u])) g[u] = static_cast<std::uint16_t>(l);
  }
  for (std::int64_t over; (over = quern::total_cost(task.space, g) - task.space.budget[0]) != 0;) {
    const int step = over > 0 ? -1 : 1;
    std::size_t best = n;
    double least = HUGE_VAL;
    for (std::size_t u = 0; u < n; ++u) {
      const int to = g[u] + step;
      if (to < 0 || to >= static_cast<int>(task.table[u].levels.size())) continue;
      const double cost = static_cast<double>(task.table[u].levels[static_cast<std::size_t>(to)].cost);
      const double away = (cost - wanted[u]) * step / static_cast<double>(task.table[u].weights);
      if (away < least) least = away, best = u;
    }
    if (best == n) break;
    g[best] = static_cast<std::uint16_t>(g[best] + step);
  }
  return g;
}

}  // namespace llama
