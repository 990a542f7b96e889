// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/search_text.hpp>
#include <sstream>

namespace llama {
namespace {

using quern::error;
using quern::result;

/// Whether units are what is dropped, not linears with levels.
bool drops(const search_task& task) { return task.table.front().levels.front().label == "dropped"; }

/// [units] the halves [first, end) that a unit of a depth task stands for.
std::vector<std::pair<std::size_t, std::size_t>> halves_of(const search_task& task) {
  const bool halves = task.space.budget.size() == 2;
  const std::size_t step = !halves && task.table.size() > 1 ? task.half_of[1] / 2 : 1;
  std::vector<std::pair<std::size_t, std::size_t>> out;
  for (const std::size_t h : task.half_of) out.emplace_back(h, h + (halves ? 1 : 2 * step));
  return out;
}

constexpr const char* words[] = {"none", "attn", "mlp", "attn+mlp"};  // bit 0: attention, bit 1: feed-forward

result<genome> drops_from(const search_task& task, const std::vector<std::string>& lines,
                          std::size_t layers) {
  if (lines.size() != layers)
    return error("llama::from_text: ", lines.size(), " lines for ", layers, " blocks");
  std::vector<bool> dropped;
  for (std::size_t l = 0; l < layers; ++l) {
    const auto* const word = std::find(std::begin(words), std::end(words), lines[l]);
    if (word == std::end(words))
      return error("llama::from_text: line ", l + 1, ": '", lines[l], "' is not attn, mlp, attn+mlp or none");
    dropped.push_back(((word - words) & 1) != 0);
    dropped.push_back(((word - words) & 2) != 0);
  }
  genome g;
  for (const auto& [first, end] : halves_of(task)) {
    for (std::size_t h = first; h < end; ++h)
      if (dropped[h] != dropped[first])
        return error("llama::from_text: line ", h / 2 + 1,
                     ": drops a part of what this task drops as a whole");
    g.push_back(dropped[first] ? 0 : 1);
  }
  return g;
}

result<genome> levels_from(const search_task& task, const std::vector<std::string>& lines) {
  genome g(task.table.size());
  std::vector<bool> told(g.size()), off(g.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::size_t colon = lines[i].find(": ");
    const std::string name = lines[i].substr(0, colon);
    const auto unit =
        std::find_if(task.table.begin(), task.table.end(), [&](const auto& t) { return t.name == name; });
    const auto u = static_cast<std::size_t>(unit - task.table.begin());
    if (colon == std::string::npos || unit == task.table.end() || told[u])
      return error("llama::from_text: line ", i + 1, ": '", lines[i],
                   "' is not 'NAME: LEVEL' of something without a level");
    told[u] = true;
    const std::string label = lines[i].substr(colon + 2);
    const auto level = std::find_if(unit->levels.begin(), unit->levels.end(),
                                    [&](const auto& l) { return l.label == label; });
    if (level != unit->levels.end())
      g[u] = static_cast<std::uint16_t>(level - unit->levels.begin());
    else if (label == "dropped" && unit->gate != quern::search_unit::no_gate)
      off[u] = true;
    else
      return error("llama::from_text: line ", i + 1, ": '", name, "' has no level '", label, "' here");
  }
  for (std::size_t u = 0; u < g.size(); ++u) {
    const std::string& name = task.table[u].name;
    if (!told[u]) return error("llama::from_text: no line for '", name, "'");
    if (off[u] == quern::is_open(task.space, g, u))
      return error("llama::from_text: '", name,
                   off[u] ? "' is dropped, its half is not" : "' has a level, its half is dropped");
  }
  return g;
}

}  // namespace

std::string as_text(const search_task& task, const genome& g, std::size_t layers) {
  std::string out;
  if (!drops(task)) {
    for (std::size_t u = 0; u < g.size(); ++u) {
      const bool open = quern::is_open(task.space, g, u);
      out += task.table[u].name + ": " + (open ? task.table[u].levels[g[u]].label : "dropped") + '\n';
    }
    return out;
  }
  std::vector<int> dropped(layers);
  const auto halves = halves_of(task);
  for (std::size_t u = 0; u < g.size(); ++u)
    for (std::size_t h = halves[u].first; g[u] == 0 && h < halves[u].second; ++h)
      dropped[h / 2] |= 1 << h % 2;
  for (const int d : dropped) out += std::string(words[d]) + '\n';
  return out;
}

result<genome> from_text(const search_task& task, const std::string& text, std::size_t layers) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  auto g = drops(task) ? drops_from(task, lines, layers) : levels_from(task, lines);
  if (g && !quern::conforms(task.space, *g))
    return error("llama::from_text: this configuration does not keep the budget; it costs ",
                 quern::total_cost(task.space, *g));
  return g;
}

std::string as_tensor_types(const search_task& task, const genome& g) {
  constexpr const char* types[] = {"", "", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "q8_0"};
  std::string out;
  for (std::size_t u = 0; u < g.size(); ++u) {
    if (!quern::is_open(task.space, g, u)) continue;
    const std::string& label = task.table[u].levels[g[u]].label;
    if (label == "kept" || label == "dropped") continue;
    const int bits = std::atoi(label.c_str());  // "4", "4 nm<2,4>": llama.cpp has no sparse types
    std::string pattern;
    for (const char c : task.table[u].name) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
    out += pattern + "\\.weight=" + types[std::clamp(bits, 2, 8)] + '\n';
  }
  return out;
}

}  // namespace llama
