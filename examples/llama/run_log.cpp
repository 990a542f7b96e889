// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <llama/run_log.hpp>
#include <llama/svg.hpp>
#include <quern/core/error.hpp>
#include <quern/io/atomic_file.hpp>
#include <span>

namespace llama {
namespace {

/// At most this many points of a chart carry a mark; longer runs are thinned.
constexpr std::size_t chart_points = 200;

/// A line lists two numbers for every linear; that of a model of 100 layers has 30,000 characters.
constexpr std::size_t longest_line = std::size_t{1} << 20;

/// @returns false for a line that is too long, without reading it to its end
bool next_line(std::ifstream& in, std::string& out) {
  out.clear();
  for (int c = in.get(); c != std::ifstream::traits_type::eof() && c != '\n'; c = in.get()) {
    if (out.size() == longest_line) return false;
    out += static_cast<char>(c);
  }
  return true;
}

std::string text_of(const nlohmann::ordered_json& line) {
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n';
}

}  // namespace

run_log::run_log(std::string path, std::uint64_t resume) : path_(std::move(path)) {
  if (path_.empty()) return;
  std::ifstream in(path_, std::ios::binary);
  std::string kept, text;
  for (std::size_t number = 1; in && in.peek() != std::ifstream::traits_type::eof(); ++number) {
    const auto bad = [&](const auto&... why) {
      return quern::io_error("llama::run_log: '", path_, "' line ", number, ": ", why...,
                             "; give the log another name");
    };
    if (resume == 0)
      quern::raise(
          bad("is there already, and this run begins with step 1: go on from a checkpoint, or remove it"));
    if (!next_line(in, text)) quern::raise(bad("is longer than ", longest_line, " characters"));
    auto line = nlohmann::ordered_json::parse(text, nullptr, false);
    // The last line may be cut short where the program was.
    if (line.is_discarded() && in.peek() == std::ifstream::traits_type::eof()) break;
    if (!line.is_object() || !line.contains("step") || !line["step"].is_number_unsigned())
      quern::raise(bad("is no object with a \"step\""));
    // Losses that were no number are null, "layers" is a list.
    for (const auto& [name, value] : line.items())
      if (!value.is_number() && !value.is_null() && !value.is_array())
        quern::raise(bad("\"", name, "\" is neither a number nor a list"));
    if (line["step"].get<std::uint64_t>() > resume) continue;
    kept += text + '\n';
    lines_.push_back(std::move(line));
  }
  auto file = quern::atomic_file::create(path_).value();
  file.write(std::as_bytes(std::span(kept))).value();
  file.commit().value();
}

void run_log::add(nlohmann::ordered_json line) {
  const std::string text = text_of(line);
  lines_.push_back(std::move(line));
  if (path_.empty()) return;
  std::FILE* const file = std::fopen(path_.c_str(), "ab");
  const bool ok = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int problem = errno;
  if ((file != nullptr && std::fclose(file) != 0) || !ok)
    quern::raise(quern::io_error("llama::run_log: '", path_, "': cannot be written: ", std::strerror(problem),
                                 "; check the folder and the free space"));
}

std::string run_chart(const std::vector<nlohmann::ordered_json>& lines, const std::string& title,
                      const std::vector<std::string>& fields, const std::string& unit) {
  svg_chart chart{.title = title, .x_label = "step", .y_label = unit};
  for (const std::string& field : fields) {
    svg_series series{.name = field, .line = true};
    for (const auto& line : lines)
      if (line.contains(field) && line[field].is_number())
        series.points.push_back({line["step"].get<double>(), line[field].get<double>()});
    const std::size_t every = (series.points.size() + chart_points - 1) / chart_points;
    std::vector<svg_point> thin;
    for (std::size_t i = 0; i < series.points.size(); i += every) thin.push_back(series.points[i]);
    series.points = std::move(thin);
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return svg(chart);
}

}  // namespace llama
