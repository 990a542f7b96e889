// SPDX-License-Identifier: Apache-2.0
#include <llama/calibrate.hpp>
#include <string_view>

namespace llama {

block_moments::block_moments(const block& b, std::size_t context, float sink_weight)
    : weights_(context, 1.0f) {
  if (context != 0) weights_[0] = sink_weight;
  for (const std::size_t i : {0, 3, 4, 6}) {
    const linear& w = b.*block_linears[i].weight;
    sums_.emplace_back(w ? w.cols() : 0);
  }
}

void block_moments::see(std::size_t layer, const char* name, span2<const float> x, quern::thread_pool& pool) {
  for (std::size_t i = 0; i < std::size(block_linears); ++i) {
    // The first linear that sees an input adds it for all that share it.
    if (std::string_view(block_linears[i].name) != name || (i > 0 && input_of[i] == input_of[i - 1]))
      continue;
    const auto ok = sums_[input_of[i]].add(x, std::span(weights_).first(x.rows()), pool);
    if (!ok && problem_.empty())
      problem_ = "blk." + std::to_string(layer) + "." + name + ": " + ok.error().what();
  }
}

}  // namespace llama
