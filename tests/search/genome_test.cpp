// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/search/level_db.hpp>
#include <search/toy.hpp>
#include <string>

using namespace quern;

namespace {
std::string refused(const search_space& s) {
  const auto r = check(s);
  return r ? std::string() : r.error().what();
}
}  // namespace

TEST_CASE("groups by size, by last name, or none") {
  search_space s;
  for (const char* name : {"blk.0.attn_q", "blk.0.attn_k", "blk.1.attn_q", "blk.1.attn_output"})
    s.units.push_back({.name = name, .cost = {1, 2}, .size = std::string(name).back() == 'k' ? 4u : 16u});
  CHECK(set_groups(s, grouping::size) == 2);
  CHECK(s.units[3].group == s.units[0].group);
  CHECK(s.units[1].group != s.units[0].group);
  CHECK(set_groups(s, grouping::name) == 3);
  CHECK(s.units[2].group == s.units[0].group);
  CHECK(s.units[3].group == 2);
  CHECK(set_groups(s, grouping::none) == 1);
}

TEST_CASE("an impossible budget is refused with the nearest possible one") {
  search_space s;
  for (int i = 0; i < 4; ++i) s.units.push_back({.name = "layer", .cost = {20, 30, 40}});
  for (const auto& [budget, nearest] : {std::pair<std::int64_t, const char*>{79, "possible: 80"},
                                        {161, "possible: 160"},
                                        {95, "possible: 90 or 100"},
                                        {81, "possible: 80 or 90"}}) {
    s.budget = {budget};
    CHECK(refused(s).find(nearest) != std::string::npos);
  }
  for (std::int64_t budget = 80; budget <= 160; budget += 10) {
    s.budget = {budget};
    CHECK(refused(s).empty());
  }
  search_space bytes = quern_test::byte_space(100);
  // With both gates closed the other four units cost at least 2 (1000 + 333 + 2777 + 1000).
  CHECK(refused(bytes).find("nearest possible: 10220") != std::string::npos);
  bytes.budget = {10220};
  CHECK(refused(bytes).empty());
}

TEST_CASE("spaces that make no sense are refused by the name of the unit") {
  search_space s = quern_test::drop_space(4, 1);
  s.units[2].cost = {0, 2};
  CHECK(refused(s).find("unit 2") != std::string::npos);
  s.units[2].cost = {1, 1};
  CHECK(refused(s).find("must cost more") != std::string::npos);
  s.units[2].cost = {};
  CHECK(refused(s).find("levels") != std::string::npos);
  s.units[2] = {.name = "x", .cost = {0, 1}, .group = 7};
  CHECK(refused(s).find("group 7") != std::string::npos);
  s = quern_test::drop_space(4, 1);
  s.units[2].gate = 1;
  CHECK(refused(s).find("unit") != std::string::npos);
  CHECK(!refused({}).empty());
}

TEST_CASE("costs behind a closed gate are not counted, and steps say what they change") {
  search_space s = quern_test::byte_space(1 << 20);
  genome g(s.units.size(), 1);
  const std::int64_t open = total_cost(s, g);
  std::int64_t behind = 0;
  for (std::size_t u = 4; u < 8; ++u) behind += s.units[u].cost[1];
  CHECK(step_cost(s, g, 12, 0) == -behind);
  g[12] = 0;
  CHECK(total_cost(s, g) == open - behind);
  CHECK(step_cost(s, g, 4, 3) == 0);
  CHECK(step_cost(s, g, 12, 1) == behind);
  CHECK(step_cost(s, g, 0, 2) == s.units[0].cost[2] - s.units[0].cost[1]);
  rng random(3);
  for (int i = 0; i < 200; ++i) {  // every step is the difference of two totals
    const std::size_t u = random.below(g.size()), level = random.below(s.units[u].cost.size());
    const std::int64_t before = total_cost(s, g), step = step_cost(s, g, u, level);
    g[u] = static_cast<std::uint16_t>(level);
    CHECK(total_cost(s, g) == before + step);
  }
}

TEST_CASE("levels are sorted by cost; of equal cost the better one stays") {
  level_unit u{.name = "layer", .levels = {{"a", 30, .1}, {"b", 10, .4}, {"c", 30, .05}, {"d", 20, .2}}};
  CHECK(sort_levels(u) == std::vector<std::size_t>{1, 3, 2});
  level_unit v{
      .name = "layer",
      .levels = {
          {"a", 300, .1}, {"b", 100, .2}, {"c", 400, .1}, {"d", 200, .3}, {"e", 97, .4}, {"f", 90, .5}}};
  CHECK(sort_levels(v, level_choice::front) == std::vector<std::size_t>{5, 1, 0});  // e saves 3 %
  const level_table t{u};
  const search_space s = space_of(t, budget_rule::at_most, {20});
  CHECK(s.units[0].cost == std::vector<std::int64_t>{10, 20, 30});
  CHECK(errors_of(t)[0][2] == .05);
  CHECK(summed_error(t, {1}) == .2);
}
