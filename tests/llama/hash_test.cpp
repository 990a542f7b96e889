// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>
#include <llama/packed.hpp>
#include <set>

#include "tiny_model.hpp"

using namespace llama;
using llama_test::random_model;
using llama_test::tiny;

namespace {

/// The same weights with the last one of a matrix a little larger.
linear nudged(const linear& w) {
  std::vector<float> v = llama_test::values(w);
  v.back() *= 1.0001f;
  return dense_linear(std::move(v), w.rows(), w.cols());
}

}  // namespace

TEST_CASE("the hash of a model sees every weight, every norm and the shape") {
  const model m = random_model(3);
  CHECK(hash_of(m) == hash_of(random_model(3)));
  std::set<std::string> seen{hash_of(m)};
  std::size_t changes = 0;
  const auto differs = [&](auto&& change) {
    model other = m;
    change(other);
    seen.insert(hash_of(other));
    CHECK(seen.size() == ++changes + 1);
  };
  for (std::size_t l = 0; l < tiny.layers; ++l) {
    for (const named_linear& n : block_linears)
      differs([&](model& o) { o.blocks[l].*n.weight = nudged(m.blocks[l].*n.weight); });
    differs([&](model& o) { o.blocks[l].attn_norm.back() = 0.5f; });
    differs([&](model& o) { o.blocks[l].ffn_norm.back() = 0.5f; });
  }
  differs([&](model& o) { o.embedding = nudged(m.embedding); });
  differs([&](model& o) { o.head = nudged(m.head); });
  differs([&](model& o) { o.output_norm.back() = 0.5f; });
  differs([&](model& o) { o.shape.rope_base = 500000; });
  differs([&](model& o) { std::swap(o.blocks[0], o.blocks[1]); });
  differs([&](model& o) { o.blocks[1].ffn_gate = o.blocks[1].ffn_up = o.blocks[1].ffn_down = {}; });

  // Packed weights by what is stored: codes, and how they are read.
  quern::thread_pool pool(1);
  const auto packed = [&](const char* quantizer, const linear& w) {
    const std::vector<float> v = llama_test::values(w);
    const auto* const format = find_format("dense", quantizer);
    return packed_linear(format->pack({v.data(), w.rows(), w.cols()}, nullptr, pool).value());
  };
  const linear &up = m.blocks[0].ffn_up, &gate = m.blocks[0].ffn_gate;
  for (const char* quantizer : {"affine<4,16>", "affine<3,16>"})
    for (const linear* w : {&up, &gate})
      differs([&](model& o) { o.blocks[0].ffn_up = packed(quantizer, *w); });
}

TEST_CASE("fingerprints keep every digit and say what differs") {
  fingerprint a, b;
  a.add("steps", std::uint64_t{7}).add("density", 0.1).add("rate", 0.1f).add("name", "x y").add("on", true);
  CHECK(a.text() == "steps 7 density 0.10000000000000001 rate 0.100000001 name x y on 1");
  b.add("steps", std::uint64_t{7}).add("density", std::nextafter(0.1, 1));
  CHECK(difference(a.text(), b.text()) == "density 0.10000000000000001, not 0.10000000000000002");
  CHECK(difference("seed 5 rate 1", "seed 9 rate 1") == "seed 5, not 9");
  CHECK(difference("seed 5", "seed 5 rate 1") == "5 nothing, not rate");
}
