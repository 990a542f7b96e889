// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <quern/metric/perplexity.hpp>
#include <string>
#include <vector>

namespace {

constexpr std::size_t classes = 4;

/// A toy model: at position p the next token is predicted with log-odds p + 1 for class 0 against each other
/// class.
float log_odds(std::size_t p) { return static_cast<float>(p) + 1; }
double nll_at(std::size_t p, std::int32_t target) {
  const double odds = static_cast<double>(log_odds(p)), sum = std::log(std::exp(odds) + 3);
  return target == 0 ? sum - odds : sum;
}
std::vector<float> toy_logits(std::size_t rows) {
  std::vector<float> out(rows * classes);
  for (std::size_t r = 0; r < rows; ++r) out[r * classes] = log_odds(r);
  return out;
}

}  // namespace

TEST_CASE("windows, halves and pieces are those of the protocol") {
  const std::vector<std::int32_t> ids{1, 0, 2, 0, 3, 0, /**/ 0, 0, 0, 1, 1, 1, /**/ 2, 2, 2, 2};
  std::vector<float> logits = toy_logits(6);
  const quern::span2<const float> rows(logits.data(), 6, classes);
  double all = 0, second = 0;
  std::vector<double> means;
  for (std::size_t w = 0; w < 2; ++w) {
    double here = 0;
    for (std::size_t p = 0; p < 5; ++p) {
      const double nll = nll_at(p, ids[w * 6 + p + 1]);
      here += nll;
      if (p >= 3) second += nll;
    }
    all += here;
    means.push_back(here / 5);
  }
  const auto check = [&](const quern::perplexity_result& r) {
    // Logits are exact in float; log_sum_exp in float of 4 values of at most 6: error below (4 + 6) eps
    // = 1.2e-6.
    CHECK(r.nll == doctest::Approx(all / 10).epsilon(0).scale(1).epsilon(1.2e-6));
    CHECK(r.nll_second == doctest::Approx(second / 4).scale(1).epsilon(1.2e-6));
    CHECK(r.tokens == 10);
    CHECK(r.tokens_second == 4);
    REQUIRE(r.window_nll.size() == 2);
    for (std::size_t w = 0; w < 2; ++w)
      CHECK(r.window_nll[w] == doctest::Approx(means[w]).scale(1).epsilon(1.2e-6));
  };
  SUBCASE("all rows at once") {
    check(quern::perplexity(std::span(ids), {.context = 6}, [&](auto window, auto&& score) {
            REQUIRE(window.size() == 6);
            score(0, rows);
          }).value());
  }
  SUBCASE("in pieces, without the last row") {
    check(quern::perplexity(std::span(ids), {.context = 6, .windows = 2}, [&](auto, auto&& score) {
            score(0, rows.rows_of(0, 3));
            score(3, rows.rows_of(3, 2));
          }).value());
  }
}

TEST_CASE("what cannot be scored is an error that says why") {
  const std::vector<std::int32_t> ids(20, 1);
  std::vector<float> logits = toy_logits(8);
  const quern::span2<const float> rows(logits.data(), 8, classes);
  const auto whole = [&](auto, auto&& score) { score(0, rows); };
  const auto message = [](const auto& r) { return r ? std::string() : std::string(r.error().what()); };
  CHECK(message(quern::perplexity(std::span(ids), {.context = 21}, whole)).find("20 tokens") !=
        std::string::npos);
  CHECK(message(quern::perplexity(std::span(ids), {.context = 8, .windows = 3}, whole))
            .find("2 whole windows") != std::string::npos);
  CHECK_FALSE(quern::perplexity(std::span(ids), {.context = 1}, whole));
  CHECK(message(quern::perplexity(std::span(ids), {.context = 8}, [&](auto, auto&& score) {
          score(0, rows.rows_of(0, 4));
        })).find("end at position 4") != std::string::npos);
  CHECK(message(quern::perplexity(std::span(ids), {.context = 8}, [&](auto, auto&& score) {
          score(0, rows.rows_of(0, 4));
          score(5, rows.rows_of(5, 2));
        })).find("where 4 is due") != std::string::npos);
  logits[2 * classes + 3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message(quern::perplexity(std::span(ids), {.context = 8}, whole)).find("position 2") !=
        std::string::npos);
  const std::vector<std::int32_t> strange(20, 7);
  CHECK(message(quern::perplexity(std::span(strange), {.context = 8}, whole)).find("token 7") !=
        std::string::npos);
}
