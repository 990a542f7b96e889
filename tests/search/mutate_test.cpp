// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <quern/search/mutate.hpp>
#include <search/toy.hpp>

using namespace quern;

TEST_CASE("the smaller of two draws") {
  rng random(1);
  std::array<int, 4> seen{};
  constexpr int n = 90000;
  for (int i = 0; i < n; ++i) ++seen[draw_small(3, random)];
  CHECK(seen[0] == 0);
  // 5/9, 3/9, 1/9; six standard deviations of a count of n p are 6 sqrt(n p (1 - p)).
  for (int k = 1; k <= 3; ++k) {
    const double p = (7 - 2 * k) / 9.0;
    CHECK(std::abs(seen[static_cast<std::size_t>(k)] - n * p) < 6 * std::sqrt(n * p * (1 - p)));
  }
}

TEST_CASE("every mutation keeps an exact budget, group by group") {
  search_space s;
  const std::size_t sizes[] = {4, 4, 16, 16, 16, 1, 4, 16};
  for (const std::size_t w : sizes) {
    search_unit u{.name = "layer", .size = w};
    for (std::int64_t bits = 2; bits <= 8; ++bits) u.cost.push_back(bits * static_cast<std::int64_t>(w));
    s.units.push_back(u);
  }
  s.budget.assign(set_groups(s, grouping::size), 0);
  for (const double target : {2.0, 3.0, 3.25, 5.5, 8.0}) {
    for (std::size_t k = 0; k < s.budget.size(); ++k) {
      std::int64_t weights = 0;
      for (const search_unit& u : s.units)
        if (u.group == k) weights += static_cast<std::int64_t>(u.size);
      const std::int64_t step = k == 0 ? 4 : k == 1 ? 16 : 1;
      s.budget[k] = static_cast<std::int64_t>(target * static_cast<double>(weights)) / step * step;
    }
    REQUIRE(check(s));
    rng random(7);
    genome g = random_genome(s, random);
    REQUIRE(conforms(s, g));
    for (const std::size_t reach : {1, 3}) {
      std::size_t changed = 0;
      int furthest = 0;
      for (int i = 0; i < 3000; ++i) {
        const genome child =
            mutate(s, g, {.max_flips = reach == 1 ? std::size_t{3} : 1, .reach = reach}, random);
        REQUIRE(conforms(s, child));
        std::size_t moved = 0;
        for (std::size_t u = 0; u < g.size(); ++u) {
          moved += static_cast<std::size_t>(std::abs(child[u] - g[u]));
          furthest = std::max(furthest, std::abs(child[u] - g[u]));
        }
        CHECK(moved <= 6);  // three switches of two levels, or one of two times three
        changed += child != g ? 1 : 0;
        g = child;
      }
      if (target > 2 && target < 8) CHECK(changed > 1000);
      if (target > 2 && target < 8 && reach == 3) CHECK(furthest == 3);
    }
  }
}

TEST_CASE("random genomes of a fractional target differ; of an integer target they are uniform") {
  search_space s;
  for (int i = 0; i < 20; ++i) s.units.push_back({.name = "layer", .cost = {2, 3, 4}});
  s.budget = {50};
  rng random(2);
  const genome a = random_genome(s, random), b = random_genome(s, random);
  CHECK(a != b);
  CHECK(conforms(s, a));
  CHECK(*std::max_element(a.begin(), a.end()) <= 1);  // from 3, the next level above 2.5
  s.budget = {60};
  CHECK(random_genome(s, random) == genome(20, 1));
  CHECK(random_genome(s, random, 50) != genome(20, 1));
  CHECK(conforms(s, random_genome(s, random, 50)));
}

TEST_CASE("every mutation keeps a budget in bytes and leaves less than the largest step") {
  for (const std::int64_t budget : {10220, 15000, 40000, 61000, 100000, 1000000}) {
    const search_space s = quern_test::byte_space(budget);
    REQUIRE(check(s));
    rng random(11);
    genome g = random_genome(s, random);
    REQUIRE(conforms(s, g));
    for (std::size_t u = 0; u < g.size(); ++u)  // a start leaves nothing that still fits
      if (!is_gate(s, u) && is_open(s, g, u) && g[u] + 1u < s.units[u].cost.size())
        CHECK(total_cost(s, g) + step_cost(s, g, u, g[u] + 1u) > budget);
    std::size_t closed = 0, changed = 0;
    for (int i = 0; i < 3000; ++i) {
      genome child = mutate(s, g, {.reach = 3}, random);
      REQUIRE(conforms(s, child));
      REQUIRE(total_cost(s, child) <= budget);
      closed += child[12] == 0 || child[13] == 0 ? 1 : 0;
      changed += child != g ? 1 : 0;
      g = std::move(child);
    }
    CHECK(closed > 0);
    CHECK(changed > 300);
  }
}
