// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <quern/core/thread_pool.hpp>
#include <quern/train/scale_tune.hpp>
#include <string>

#include "toy.hpp"

namespace {

using namespace quern;
using quern_test::toy_block;
using quern_test::toy_problem;

constexpr tune_options options{
    .steps = 40, .batch = 5, .lanes = 2, .rates = {.scale = 0.02f, .row_scale = 0.02f}};

/// Both linears as the model of the tuner: the loss of one sequence and its gradient.
template <class Q>
struct toy_model {
  const toy_problem<Q>* problem;
  std::vector<toy_block> blocks;
  toy_model(const toy_problem<Q>& p, std::size_t threads) : problem(&p), blocks(threads) {}

  template <class Sink>
  double operator()(std::size_t worker, std::size_t sequence, std::span<const span2<const float>> w,
                    float scale, Sink&& sink) {
    constexpr std::size_t n = toy_problem<Q>::length;
    quern_test::dense_matrix stream(n, toy_problem<Q>::width);
    eigen_map(stream.view()) = eigen_map(problem->inputs.view().rows_of(sequence * n, n));
    blocks[worker].forward(w, stream.view());
    const double loss = block_error(block_loss::squared, 1, problem->targets.view().rows_of(sequence * n, n),
                                    scale, stream.view());
    quern_test::dense_matrix da(w[0].rows(), w[0].cols()), db(w[1].rows(), w[1].cols());
    const std::vector<span2<float>> dw{da.view(), db.view()};
    blocks[worker].backward(w, stream.view(), dw);
    for (std::size_t i = 0; i < 2; ++i) sink(i, dw[i]);
    return loss;
  }
};

std::vector<float> state_of(scale_tuner& t) {
  std::vector<float> out;
  t.for_each_state(
      [&](const std::string&, std::span<float> v) { out.insert(out.end(), v.begin(), v.end()); });
  return out;
}

template <class Q>
void codes_stay_and_scales_move() {
  CAPTURE(std::string(Q::label().c_str()));
  const toy_problem<Q> p(81);
  std::vector<trained_weight> w = p.start();
  scale_tuner tuner(w, options);
  thread_pool pool(2);
  toy_model<Q> model(p, 2);
  double first = 0, last = 0;
  while (tuner.count() < options.steps) {
    const tune_step s = tuner.step(p.sequences, model, pool).value();
    // Every epoch visits all sequences, so five steps of five of 24 are about one: a mean of the ends.
    if (tuner.count() <= 5) first += s.loss / 5;
    if (tuner.count() > options.steps - 5) last += s.loss / 5;
  }
  MESSAGE(std::string(Q::label().c_str()) << ": " << first << " -> " << last);
  CHECK(last < 0.85 * first);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto again = toy_problem<Q>::pack_again(w[i]);
    REQUIRE(again.bytes().total() == p.packed[i].bytes().total());
    bool scales_moved = false;
    for (int s = 0; s < stream_count; ++s) {
      const auto which = static_cast<stream>(s);
      const bool same =
          std::memcmp(again.view()[which], p.packed[i].view()[which], again.bytes().bytes[s]) == 0;
      if (which == stream::scale || which == stream::row_scale)
        scales_moved = scales_moved || !same;
      else
        CHECK(same);  // codes in all their planes, masks, lists and zeros
    }
    CHECK(scales_moved);
  }
}

}  // namespace

TEST_CASE("packed codes are the same bits before and after; scales are not") {
  codes_stay_and_scales_move<affine<3, 16>>();
  codes_stay_and_scales_move<affine<2, 16, two_level>>();
  codes_stay_and_scales_move<affine<4, 16, bf16>>();
  codes_stay_and_scales_move<symmetric<4, 16>>();
}

TEST_CASE("interrupted and resumed, or with other threads, it is the same run bit for bit") {
  using q = affine<3, 16, two_level>;
  const toy_problem<q> p(82);
  const auto go = [&](scale_tuner& t, std::uint64_t until, std::size_t threads) {
    thread_pool pool(threads);
    toy_model<q> model(p, threads);
    while (t.count() < until) t.step(p.sequences, model, pool).value();
  };
  std::vector<trained_weight> a = p.start(), b = p.start(), c = p.start();
  scale_tuner whole(a, options), half(b, options), rest(c, options);
  go(whole, 40, 1);
  go(half, 17, 2);
  std::map<std::string, std::vector<float>> saved;
  half.for_each_state(
      [&](const std::string& name, std::span<float> v) { saved[name].assign(v.begin(), v.end()); });
  rest.for_each_state([&](const std::string& name, std::span<float> v) {
    REQUIRE(saved[name].size() == v.size());
    std::copy(saved[name].begin(), saved[name].end(), v.begin());
  });
  rest.resume_at(half.count());
  CHECK(state_of(whole) != state_of(rest));
  go(rest, 40, 4);
  CHECK(state_of(whole) == state_of(rest));
  CHECK(saved.size() == 2 * 2 * 3);  // two linears, scales and row scales, with two moments each
}

TEST_CASE("zeros train only when asked; a loss that is not finite changes nothing and names the step") {
  using q = affine<3, 16>;
  toy_problem<q> p(83);
  std::vector<trained_weight> w = p.start();
  const std::vector<float> zeros(w[0].values(trained::zero).begin(), w[0].values(trained::zero).end());
  tune_options o = options;
  {
    scale_tuner tuner(w, o);
    toy_model<q> model(p, 1);
    tuner.step(p.sequences, model).value();
    CHECK(std::equal(zeros.begin(), zeros.end(), w[0].values(trained::zero).begin()));
  }
  o.rates.zero = 0.05f;
  scale_tuner tuner(w, o);
  toy_model<q> model(p, 1);
  tuner.step(p.sequences, model).value();
  CHECK_FALSE(std::equal(zeros.begin(), zeros.end(), w[0].values(trained::zero).begin()));
  const std::vector<float> before = state_of(tuner);
  for (float& x : p.targets.data) x = std::nanf("");
  const auto failed = tuner.step(p.sequences, model);
  REQUIRE_FALSE(failed);
  CHECK(std::string(failed.error().what()).find("step 2") != std::string::npos);
  CHECK(state_of(tuner) == before);
  CHECK(tuner.count() == 1);
  CHECK_THROWS_AS(tuner.step(0, model), shape_error);
}
