// SPDX-License-Identifier: Apache-2.0
#include <llama/hash.hpp>
#include <llama/model.hpp>
#include <vector>

namespace llama {

std::string hash_of_first_rows(const model& m) {
  hash h;
  std::vector<float> first;
  const auto add = [&](const linear& w) {
    if (!w) return;  // of a dropped half
    first.resize(w.cols());
    w.row(0, first);
    h.add(first.data(), first.size() * sizeof(float));
  };
  for (const block& b : m.blocks)
    for (const named_linear& l : block_linears) add(b.*l.weight);
  add(m.embedding);
  add(m.head);
  return h.text();
}

}  // namespace llama
