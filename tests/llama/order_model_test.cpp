// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <llama/order_model.hpp>
#include <llama/packed.hpp>
#include <llama/permute_model.hpp>
#include <llama/slorb_linear.hpp>
#include <llama/tiny_model.hpp>
#include <numeric>
#include <string>

namespace {

using namespace llama;

using llama_test::random_ids;
using llama_test::random_model;
using llama_test::tiny;
using llama_test::values;

/// Two key-value heads, each shared by two query heads.
constexpr config grouped{.vocab = 64,
                         .width = 64,
                         .layers = 2,
                         .ffn = 96,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 16,
                         .context = 32};

std::vector<std::size_t> shuffled(std::size_t n, quern::rng& g) {
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = n; i > 1; --i) std::swap(order[i - 1], order[g.below(i)]);
  return order;
}

model with_gains(std::uint64_t seed) {
  model m = random_model(seed, grouped);
  quern::rng g(seed);
  const auto draw = [&](std::vector<float>& gains) {
    for (float& f : gains) f = 0.5f + g.uniform();
  };
  draw(m.output_norm);
  for (block& b : m.blocks) draw(b.attn_norm), draw(b.ffn_norm);
  return m;
}

std::vector<float> logits(const model& m) {
  quern::thread_pool pool(1);
  session s(m, 24, pool, activation::f32);
  const auto out = s.logits(s.extend(random_ids(24)));
  return {out.data(), out.data() + out.rows() * out.cols()};
}

/// Largest difference of the logits over what other orders of sums may cost. A sum of K products is off by at most
/// K 2^-24 of the sum of their sizes, which for random signs is sqrt(K) times the sum itself; there are at most four
/// such sums after another in a block and one in the head, and a normed stream passes relative errors on as they are.
double difference(const model& a, const model& b) {
  const std::vector<float> x = logits(a), y = logits(b);
  double most = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(x[i] - y[i])));
    size = std::max(size, std::abs(static_cast<double>(x[i])));
  }
  const double k = grouped.ffn, sums = 4.0 * grouped.layers + 1;
  return most / (sums * k * std::sqrt(k) * 0x1p-24 * size);
}

compress_plan plan_of(const char* pattern, const char* quantizer = "real<f32>") {
  compress_plan plan;
  plan.format = find_format(pattern, quantizer);
  REQUIRE(plan.format != nullptr);
  plan.context = 16, plan.windows = 8;
  return plan;
}

/// Hidden units that read one half of the stream each, shuffled: in blocks of 16 rows both halves are needed, in
/// order one of them is.
model planted(std::uint64_t seed) {
  model m = random_model(seed);
  quern::rng g(seed + 1);
  for (block& b : m.blocks) {
    const std::vector<std::size_t> units = shuffled(tiny.ffn, g);
    for (linear* w : {&b.ffn_gate, &b.ffn_up}) {
      std::vector<float> v = values(*w);
      for (std::size_t n = 0; n < tiny.ffn; ++n)
        for (std::size_t c = 0; c < 16; ++c) v[units[n] * tiny.width + (n < 16 ? c : 16 + c)] = 0;
      *w = dense_linear(std::move(v), tiny.ffn, tiny.width);
    }
  }
  return m;
}

double mean_error(const compress_report& r, const std::string& what) {
  double sum = 0, count = 0;
  for (const compressed_linear& l : r.linears)
    if (l.name.find(what) != std::string::npos) sum += l.error, count += 1;
  return sum / count;
}

}  // namespace

TEST_CASE("a model with hidden units, values or stream in another order computes the same") {
  quern::thread_pool pool(2);
  quern::rng g(301);
  const model before = with_gains(302);
  {
    model m = before;
    permute_ffn(m.blocks[1], shuffled(grouped.ffn, g), pool);
    CHECK(values(m.blocks[1].ffn_up) != values(before.blocks[1].ffn_up));
    CHECK(difference(before, m) < 1);
  }
  {
    model m = before;
    std::vector<std::size_t> order = shuffled(grouped.head_dim, g);
    const std::vector<std::size_t> other = shuffled(grouped.head_dim, g);
    order.insert(order.end(), other.begin(), other.end());
    permute_values(m.blocks[0], m.shape, order, pool);
    CHECK(values(m.blocks[0].attn_v) != values(before.blocks[0].attn_v));
    CHECK(difference(before, m) < 1);
  }
  {
    model m = before;
    permute_stream(m, shuffled(grouped.width, g), pool);
    CHECK(values(m.embedding) != values(before.embedding));
    CHECK(difference(before, m) < 1);
    m.blocks[1].ffn_norm = before.blocks[1].ffn_norm;  // what the bound is worth
    CHECK(difference(before, m) > 100);
  }
  {
    // Not tied, and a half dropped.
    model first = before;
    first.shape.tied = false;
    std::vector<float> head = values(first.head);
    for (float& f : head) f = -f;
    first.head = dense_linear(std::move(head), grouped.vocab, grouped.width);
    block& b = first.blocks[0];
    b.ffn_gate = b.ffn_up = b.ffn_down = {};
    model m = first;
    permute_stream(m, shuffled(grouped.width, g), pool);
    CHECK(difference(first, m) < 1);
    CHECK_THROWS_AS(permute_ffn(m.blocks[0], shuffled(grouped.ffn, g), pool), quern::shape_error);
  }
}

TEST_CASE("what is no permutation is refused") {
  quern::thread_pool pool(1);
  model m = with_gains(303);
  std::vector<std::size_t> order(grouped.ffn);
  std::iota(order.begin(), order.end(), std::size_t{0});
  order[5] = 6;
  CHECK_THROWS_AS(permute_ffn(m.blocks[0], order, pool), quern::shape_error);
  order[5] = grouped.ffn;
  CHECK_THROWS_AS(permute_ffn(m.blocks[0], order, pool), quern::shape_error);
  CHECK_THROWS_AS(permute_ffn(m.blocks[0], std::span(order).first(8), pool), quern::shape_error);
  CHECK_THROWS_AS(permute_stream(m, std::span(order).first(8), pool), quern::shape_error);
  std::vector<std::size_t> heads(grouped.kv_width());
  for (std::size_t i = 0; i < heads.size(); ++i) heads[i] = i % grouped.head_dim;
  permute_values(m.blocks[0], m.shape, heads, pool);
  heads[20] = 20;  // a place in the row, not in the head
  CHECK_THROWS_AS(permute_values(m.blocks[0], m.shape, heads, pool), quern::shape_error);
}

TEST_CASE("planted blocks are found, and compressing the model then costs nothing of them") {
  quern::thread_pool pool(2);
  const auto ids = random_ids(128);
  const compress_plan plan = plan_of("bsr<16,16>");
  model given = planted(304), ordered = planted(304);
  const auto report = order_model(ordered, ids, plan, reorder::hidden, pool).value();
  REQUIRE(report.parts.size() == 4);
  CHECK(report.parts[0].name == "blk.0.ffn");
  CHECK(report.parts[3].name == "blk.1.values");
  for (const ordered_part& p : report.parts) {
    CHECK(p.after >= p.before);
    CHECK(p.taken == (p.error_after < p.error_before));
  }
  CHECK(report.parts[0].taken);
  const auto before = compress_model(given, ids, plan, pool, {}).value();
  const auto after = compress_model(ordered, ids, plan, pool, {}).value();
  CHECK(mean_error(before, "ffn_gate") > 0.05);
  CHECK(mean_error(after, "ffn_gate") < 1e-6);
  CHECK(mean_error(after, "ffn_up") < 1e-6);
  CHECK(after.mean_error() < before.mean_error());
}

TEST_CASE("every order leaves the logits and is the same again; none is taken that costs more") {
  const auto ids = random_ids(128);
  const model before = with_gains(305);
  for (const char* pattern : {"group<16>", "bsr<16,32>", "group_nm<2,4,16>"})
    for (const reorder what : {reorder::none, reorder::hidden, reorder::all}) {
      CAPTURE(pattern);
      const compress_plan plan = plan_of(pattern);
      std::vector<float> first;
      for (const std::size_t threads : {1u, 2u}) {
        quern::thread_pool pool(threads);
        model m = before;
        const auto report = order_model(m, ids, plan, what, pool).value();
        CHECK(report.parts.empty() == (what == reorder::none));
        for (const ordered_part& p : report.parts) CHECK(p.taken == (p.error_after < p.error_before));
        CHECK(difference(before, m) < 1);
        if (what == reorder::none) CHECK(values(m.blocks[0].ffn_up) == values(before.blocks[0].ffn_up));
        if (threads == 1) first = values(m.blocks[1].ffn_down);
        CHECK(values(m.blocks[1].ffn_down) == first);
      }
    }
}

TEST_CASE("progress counts to its end, and a run that is stopped leaves a model that computes the same") {
  quern::thread_pool pool(1);
  const auto ids = random_ids(128);
  const model before = with_gains(307);
  const compress_plan plan = plan_of("bsr<16,16>");
  for (const reorder what : {reorder::hidden, reorder::all}) {
    std::size_t last = 0, total = 0;
    model m = before;
    const auto whole = order_model(m, ids, plan, what, pool, [&](std::size_t step, std::size_t steps) {
                         CHECK(step == last + 1);
                         last = step, total = steps;
                         return true;
                       }).value();
    CHECK(last == total);
    CHECK(!whole.interrupted);
    for (std::size_t stop = 1; stop <= total; ++stop) {
      m = before;
      const auto part = order_model(m, ids, plan, what, pool, [&](std::size_t step, std::size_t) {
                          CHECK(step <= stop);
                          return step < stop;
                        }).value();
      CHECK(part.interrupted);
      CHECK(difference(before, m) < 1);
    }
  }
}

TEST_CASE("models and plans that cannot be ordered are refused with a sentence") {
  quern::thread_pool pool(1);
  const auto ids = random_ids(128);
  const auto why = [&](model m, const compress_plan& plan, reorder what = reorder::hidden) {
    const auto r = order_model(m, ids, plan, what, pool);
    return r ? std::string() : std::string(r.error().what());
  };
  CHECK(why(random_model(306), {}).find("no format") != std::string::npos);
  compress_plan plan = plan_of("group<16>");
  plan.windows = 9;
  CHECK(why(random_model(306), plan).find("9 windows of 16") != std::string::npos);
  plan = plan_of("group<16>");
  model side = random_model(306);
  linear& w = side.blocks[0].ffn_up;
  w = slorb_linear({.sparse = w,
                    .side = dense_linear(std::vector<float>(tiny.ffn * 2), tiny.ffn, 2),
                    .projection = {},
                    .k = 16});
  CHECK(why(side, plan).find("ffn_up has side weights") != std::string::npos);
  model packed = random_model(306);
  const std::vector<float> v = values(packed.embedding);
  const format_ops* f = find_format("dense", "affine<4,32>");
  REQUIRE(f != nullptr);
  packed.embedding = packed.head =
      packed_linear(f->pack({v.data(), tiny.vocab, tiny.width}, nullptr, pool).value());
  CHECK(why(packed, plan).empty());
  CHECK(why(packed, plan, reorder::all).find("packed") != std::string::npos);
  CHECK(why(random_model(306), plan_of("dense"), reorder::all).empty());
}
