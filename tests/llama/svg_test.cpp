// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <llama/svg.hpp>
#include <quern/core/error.hpp>
#include <string>
#include <vector>

namespace {

/// Whether every tag is closed in order, attributes are quoted and no bare & or < is in a text.
bool well_formed(const std::string& s) {
  std::vector<std::string> open;
  std::size_t at = 0, roots = 0;
  while (at < s.size()) {
    if (s[at] == '&') {
      const std::size_t end = s.find(';', at);
      if (end == std::string::npos || end - at > 6) return false;
    }
    if (s[at] != '<') {
      ++at;
      continue;
    }
    bool quoted = false;
    std::size_t end = at + 1;
    for (; end < s.size() && (quoted || s[end] != '>'); ++end) {
      if (s[end] == '"') quoted = !quoted;
      if (s[end] == '<') return false;
    }
    if (end == s.size()) return false;
    const std::string tag = s.substr(at + 1, end - at - 1);
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      roots += open.empty();
      open.push_back(name);
    }
    at = end + 1;
  }
  return open.empty() && roots == 1;
}

std::size_t count(const std::string& s, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = s.find(part); at != std::string::npos; at = s.find(part, at + 1)) ++n;
  return n;
}

llama::svg_chart example() {
  llama::svg_chart c{.title = "a < b & \"c\"", .x_label = "bits", .y_label = "perplexity", .series = {}};
  c.series.push_back({.name = "group<16>", .points = {{4.25, 1.6, "W4"}, {2.25, 1.9, "W2"}}, .line = true});
  c.series.push_back({.name = "alone", .points = {{3, 10}}});
  return c;
}

}  // namespace

TEST_CASE("a chart is well-formed, escaped and complete, on linear and logarithmic axes") {
  CHECK_FALSE(well_formed("<svg><g></svg>"));
  CHECK_FALSE(well_formed("<svg>a & b</svg>"));
  for (const bool log : {false, true}) {
    auto c = example();
    c.log_x = c.log_y = log;
    const std::string s = llama::svg(c);
    CHECK(well_formed(s));
    CHECK(s.find("a &lt; b &amp; &quot;c&quot;") != std::string::npos);
    CHECK(s.find(">group&lt;16&gt;<") != std::string::npos);
    CHECK(count(s, "<circle") == 3 + 2);  // points and legend
    CHECK(count(s, "<polyline") == 1);
    CHECK(count(s, "nan") + count(s, "inf\"") == 0);
    CHECK(s == llama::svg(c));
  }
}

TEST_CASE("charts without points, with one, and with equal ones") {
  llama::svg_chart c;
  CHECK(well_formed(llama::svg(c)));
  for (const double v : {0.0, -3.0, 1e-30, 1e30}) {
    c.series = {{.name = "", .points = {{v, v, "\x01\xff"}, {v, v}}, .line = true}};
    const std::string s = llama::svg(c);
    CHECK(well_formed(s));
    CHECK(count(s, "nan") == 0);
    CHECK(s.find(">?\?<") != std::string::npos);
  }
}

TEST_CASE("coordinates that cannot be drawn are refused by name") {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity(), 0.0}) {
    auto c = example();
    c.log_y = true;
    c.series[1].points[0].y = bad;
    CHECK_THROWS_WITH_AS(llama::svg(c), doctest::Contains("point 0 of 'alone'"), quern::shape_error);
  }
  llama::svg_chart tiny;
  tiny.width = 10;
  CHECK_THROWS_AS(llama::svg(tiny), quern::shape_error);
  CHECK_THROWS_AS(llama::svg_ticks(1, 1, false), quern::shape_error);
  CHECK_THROWS_AS(llama::svg_ticks(0, 1, true), quern::shape_error);
}

TEST_CASE("ticks are round numbers inside the range") {
  CHECK(llama::svg_ticks(0, 10, false) == std::vector<double>{0, 2, 4, 6, 8, 10});
  CHECK(llama::svg_ticks(1, 100, true) == std::vector<double>{1, 2, 5, 10, 20, 50, 100});
  CHECK(llama::svg_ticks(2, 4, true).size() >= 3);
  for (const double high : {1e-9, 3.0, 17.5, 1e12}) {
    const auto t = llama::svg_ticks(-high, high, false);
    CHECK(t.size() >= 3);
    CHECK(t.size() <= 12);
    for (const double v : t) CHECK(std::abs(v) <= high);
  }
}
