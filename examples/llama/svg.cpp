// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <llama/svg.hpp>
#include <quern/core/error.hpp>

namespace llama {
namespace {

/// Colours that can be told apart with colour-blindness and stand out from white and from black (Okabe and
/// Ito, "Color universal design", 2008; yellow and black left out).
constexpr const char* colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += byte < 0x20 || byte >= 0x7f ? '?' : c;  // XML forbids control characters and broken UTF-8
  }
  return out;
}

template <class... Args>
void print(std::string& out, const char* format, Args... args) {
  char text[256];
  const int n = std::snprintf(text, sizeof text, format, args...);
  out.append(text, static_cast<std::size_t>(std::clamp(n, 0, static_cast<int>(sizeof text) - 1)));
}

void write_text(std::string& out, double x, double y, const char* attributes, const std::string& text) {
  print(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
  out += escaped(text) + "</text>\n";
}

std::string number(double v) {
  std::string s;
  print(s, "%.6g", v);
  return s;
}

/// One axis: from data to pixels.
struct axis {
  double low, high, from, to;  ///< data, and the pixels they fall on
  bool log;
  double at(double v) const {
    const double share = log ? std::log(v / low) / std::log(high / low) : (v - low) / (high - low);
    return from + share * (to - from);
  }
};

/// The range of one coordinate, a little wider than the data.
template <class Get>
axis axis_of(const svg_chart& c, Get&& get, bool log, double from, double to) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const svg_series& s : c.series)
    for (std::size_t i = 0; i < s.points.size(); ++i) {
      const double v = get(s.points[i]);
      // Far from the limits of double, so that no difference or quotient overflows.
      quern::require(std::abs(v) < 1e100 && (!log || v > 1e-100), "llama::svg: point ", i, " of '", s.name,
                     "' has the coordinate ", v, "; it must be finite", log ? " and positive" : "");
      low = std::min(low, v), high = std::max(high, v);
    }
  if (low > high) low = high = 1;  // no points
  if (log) {
    const double wider = std::max(std::pow(high / low, 0.06), 1.05);
    return {low / wider, high * wider, from, to, true};
  }
  const double wider = std::max(0.06 * (high - low), high == low ? std::max(0.05 * std::abs(low), 1e-6) : 0);
  return {low - wider, high + wider, from, to, false};
}

}  // namespace

std::vector<double> svg_ticks(double low, double high, bool log) {
  quern::require(std::isfinite(low) && std::isfinite(high) && low < high && (!log || low > 0),
                 "llama::svg_ticks: ", low, " to ", high, " is no range",
                 log ? " of a logarithmic axis" : "");
  std::vector<double> out;
  if (log && high / low > 10) {
    const double decades = std::log10(high / low);
    const int skip = std::max(1, static_cast<int>(decades / 6));
    for (int e = static_cast<int>(std::floor(std::log10(low))); std::pow(10.0, e) <= high; ++e)
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double v = digit * std::pow(10.0, e);
        if (v >= low && v <= high && (digit == 1 ? e % skip == 0 : decades < 3)) out.push_back(v);
      }
    return out;
  }
  const double rough = (high - low) / 5, power = std::pow(10.0, std::floor(std::log10(rough)));
  const double lead = rough / power, step = (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10) * power;
  for (double i = std::ceil(low / step); i * step <= high && out.size() < 20; ++i)
    out.push_back(i == 0 ? 0 : i * step);
  return out;
}

std::string svg(const svg_chart& c) {
  quern::require(c.width >= 200 && c.height >= 200, "llama::svg: a chart of ", c.width, " x ", c.height,
                 " pixels is too small; 200 x 200 is the least");
  const double left = 70, top = 44, bottom = c.height - 54.0, right = c.width - 24.0;
  const axis x = axis_of(
      c, [](const svg_point& p) { return p.x; }, c.log_x, left, right);
  const axis y = axis_of(
      c, [](const svg_point& p) { return p.y; }, c.log_y, bottom, top);
  std::string out;
  print(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" ",
        c.width, c.height, c.width, c.height);
  out +=
      "font-family=\"sans-serif\" font-size=\"12\">\n<style>text{fill:#24292f}.l{stroke:#8c959f}"
      ".g{stroke:#8c959f;stroke-opacity:.25}@media (prefers-color-scheme:dark){text{fill:#e6edf3}}</style>\n";
  out += "<title>" + escaped(c.title) + "</title>\n";
  write_text(out, (left + right) / 2, 24, "text-anchor=\"middle\" font-size=\"15\"", c.title);
  for (const double v : svg_ticks(x.low, x.high, x.log)) {
    print(out, "<line class=\"g\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x.at(v), top, x.at(v),
          bottom);
    write_text(out, x.at(v), bottom + 18, "text-anchor=\"middle\"", number(v));
  }
  for (const double v : svg_ticks(y.low, y.high, y.log)) {
    print(out, "<line class=\"g\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", left, y.at(v), right,
          y.at(v));
    write_text(out, left - 8, y.at(v) + 4, "text-anchor=\"end\"", number(v));
  }
  print(out, "<path class=\"l\" fill=\"none\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n", left, top, bottom, right);
  write_text(out, (left + right) / 2, bottom + 40, "text-anchor=\"middle\"", c.x_label);
  std::string turned;
  print(turned, "text-anchor=\"middle\" transform=\"rotate(-90 18 %.1f)\"", (top + bottom) / 2);
  write_text(out, 18, (top + bottom) / 2, turned.c_str(), c.y_label);

  double legend = top + 14;
  for (std::size_t i = 0; i < c.series.size(); ++i) {
    const svg_series& s = c.series[i];
    const char* const colour = colours[i % std::size(colours)];
    if (s.line && s.points.size() > 1) {
      print(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"", colour);
      for (const svg_point& p : s.points) print(out, "%.1f,%.1f ", x.at(p.x), y.at(p.y));
      out += "\"/>\n";
    }
    for (const svg_point& p : s.points) {
      print(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x.at(p.x), y.at(p.y), colour);
      // Labels turn to the left in the right third, so that they stay inside.
      const bool turn = x.at(p.x) > left + (right - left) * 2 / 3;
      if (!p.label.empty())
        write_text(out, x.at(p.x) + (turn ? -8 : 8), y.at(p.y) - 6,
                   turn ? "font-size=\"11\" text-anchor=\"end\"" : "font-size=\"11\"", p.label);
    }
    if (s.name.empty()) continue;
    print(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", right - 8, legend - 4, colour);
    write_text(out, right - 18, legend, "text-anchor=\"end\"", s.name);
    legend += 18;
  }
  return out + "</svg>\n";
}

}  // namespace llama
