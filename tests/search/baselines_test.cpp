// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <functional>
#include <quern/search/baselines.hpp>
#include <quern/search/level_db.hpp>
#include <search/toy.hpp>

using namespace quern;

namespace {

std::vector<std::vector<double>> random_errors(const search_space& s, rng& random) {
  std::vector<std::vector<double>> errors;
  for (const search_unit& u : s.units) {
    std::vector<double> e(u.cost.size());
    for (double& x : e) x = static_cast<double>(random.uniform());
    std::sort(e.begin(), e.end(), std::greater<>());
    errors.push_back(e);
  }
  return errors;
}

double sum_of(const std::vector<std::vector<double>>& errors, const genome& g) {
  double sum = 0;
  for (std::size_t u = 0; u < g.size(); ++u) sum += errors[u][g[u]];
  return sum;
}

}  // namespace

TEST_CASE("enumeration finds every genome once") {
  const auto all = all_genomes(quern_test::drop_space(12, 5), 1000).value();
  CHECK(all.size() == 792);  // 12 over 5
  search_space s = quern_test::drop_space(12, 5);
  for (const genome& g : all) CHECK(conforms(s, g));
  CHECK_FALSE(all_genomes(s, 791));
  for (std::size_t u = 6; u < 12; ++u) s.units[u].group = 1;
  s.budget = {4, 3};
  CHECK(all_genomes(s, 1000).value().size() == 15 * 20);
  s.rule = budget_rule::at_most;
  s.budget = {3};
  CHECK_FALSE(all_genomes(s, 1000));
}

TEST_CASE("dynamic programming finds the least sum that enumeration finds") {
  rng random(31);
  for (int round = 0; round < 20; ++round) {
    search_space s;
    for (std::size_t i = 0; i < 7; ++i)
      s.units.push_back({.name = "layer", .cost = {20, 30, 40}, .group = i < 3 ? 0u : 1u});
    s.budget = {static_cast<std::int64_t>(60 + 10 * random.below(7)),
                static_cast<std::int64_t>(80 + 10 * random.below(9))};
    const auto errors = random_errors(s, random);
    const genome found = knapsack(s, errors).value();
    REQUIRE(conforms(s, found));
    double least = 1e9;
    for (const genome& g : all_genomes(s, 10000).value()) least = std::min(least, sum_of(errors, g));
    CHECK(sum_of(errors, found) <= least + 1e-15);  // sums of seven numbers below 1 in two orders: 7 eps
  }
}

TEST_CASE("a knapsack of bytes keeps its budget and is close to the best") {
  rng random(37);
  search_space s{.rule = budget_rule::at_most, .budget = {0}};
  for (const std::int64_t w : {1000, 333, 2777, 512, 129})
    s.units.push_back({.name = "layer", .cost = {2 * w, 3 * w, 5 * w, 8 * w}});
  for (const std::int64_t budget : {9502, 14000, 20000, 30000, 99999}) {
    s.budget = {budget};
    const auto errors = random_errors(s, random);
    const genome found = knapsack(s, errors).value();
    REQUIRE(conforms(s, found));
    double least = 1e9;
    genome g(5);
    for (std::size_t code = 0; code < 1024; ++code) {
      for (std::size_t u = 0; u < 5; ++u) g[u] = static_cast<std::uint16_t>(code >> 2 * u & 3);
      if (total_cost(s, g) <= budget) least = std::min(least, sum_of(errors, g));
    }
    // The first four budgets are cut into places of one byte: exact but for the order of the sum. The last one
    // pays for everything.
    CHECK(sum_of(errors, found) <= least + 1e-15);
  }
  CHECK_FALSE(knapsack(s, std::vector<std::vector<double>>(5)));
}

TEST_CASE("best of n and brute force") {
  const search_space s = quern_test::drop_space(12, 4);
  rng random(41);
  const auto f = quern_test::random_linear(12, random);
  const auto all = brute_force(s, 1000, 1, f, 1).value();
  CHECK(all.size() == 495);
  CHECK(all.front().fitness <= all.back().fitness);
  const measured best = best_of(s, 32, 1, f, 1).value();
  CHECK(best.fitness >= all.front().fitness);
  CHECK(best.fitness < all[247].fitness);  // 32 draws miss the better half with probability 2^-32
  CHECK_FALSE(brute_force(s, 494, 1, f, 1));
}
