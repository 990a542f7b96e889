// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <llama/sampler.hpp>
#include <numeric>
#include <quern/core/error.hpp>
#include <vector>

namespace llama {

std::int32_t sample(std::span<const float> logits, const sampling& options, quern::rng& random) {
  quern::require(!logits.empty(), "llama::sample: there are no logits");
  quern::require(options.temperature >= 0 && std::isfinite(options.temperature),
                 "llama::sample: temperature is ", options.temperature, "; it must be 0 or more");
  quern::require(options.top_p > 0 && options.top_p <= 1, "llama::sample: top_p is ", options.top_p,
                 "; it must be above 0 and at most 1");
  for (std::size_t i = 0; i < logits.size(); ++i)
    quern::require(std::isfinite(logits[i]), "llama::sample: logit ", i,
                   " is infinite or not a number; the model is damaged");
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options.temperature == 0) return static_cast<std::int32_t>(best - logits.begin());

  std::vector<double> weight(logits.size());
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    weight[i] = std::exp(static_cast<double>(logits[i] - *best) / static_cast<double>(options.temperature));
    sum += weight[i];
  }
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Equal weights keep their order, so that a seed gives one text everywhere.
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return weight[a] > weight[b]; });
  std::size_t kept = 0;
  double mass = 0;
  while (kept < order.size() && (kept == 0 || mass < static_cast<double>(options.top_p) * sum))
    mass += weight[order[kept++]];
  double left = static_cast<double>(random.uniform()) * mass;
  for (std::size_t i = 0; i + 1 < kept; ++i)
    if ((left -= weight[order[i]]) < 0) return static_cast<std::int32_t>(order[i]);
  return static_cast<std::int32_t>(order[kept - 1]);
}

}  // namespace llama
