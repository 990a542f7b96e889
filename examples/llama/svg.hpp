// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::svg_chart c{.title = "Quality", .x_label = "bits per weight", .y_label = "perplexity", .log_y =
// true}; c.series.push_back({.name = "dense", .points = {{4.25, 1.6, "W4"}}, .line = true}); std::string text
// = llama::svg(c);

#include <string>
#include <vector>

namespace llama {

struct svg_point {
  double x = 0, y = 0;
  std::string label = {};  ///< drawn beside the point; may be empty
};

struct svg_series {
  std::string name;
  std::vector<svg_point> points = {};
  bool line = false;  ///< joins the points in their order
};

/// A chart of points and lines.
struct svg_chart {
  std::string title = {}, x_label = {}, y_label = {};
  bool log_x = false, log_y = false;
  std::vector<svg_series> series = {};
  int width = 720, height = 440;  ///< pixels, each 200 or more
};

/// Where an axis is marked: between @p low and @p high at 1, 2 or 5 times a power of ten, about five marks; a
/// logarithmic axis of more than a decade at powers of ten and their doubles and fivefolds.
/// @throws shape_error unless low < high, both finite, and positive where the axis is logarithmic
std::vector<double> svg_ticks(double low, double high, bool log);

/// The chart as one self-contained SVG document, readable on light and dark backgrounds: text and axes take
/// the reader's colour scheme. The same chart gives the same bytes.
/// @throws shape_error for a coordinate that is not finite, or not positive on a logarithmic axis; names
/// series and point
std::string svg(const svg_chart& chart);

}  // namespace llama
