// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::string text = quern::to_text(state, quern::fingerprint(space, options));
// auto state = quern::parse_state(text, space, quern::fingerprint(space, options));   // goes on bit for bit

#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <quern/search/evolve.hpp>
#include <string_view>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// A hash (FNV-1a, 64 bits) of all that decides how a search goes on: a state belongs to the space and the options it
/// was made with. The number of generations is not part of it, so that a finished search can be prolonged.
/// @param extra  of what the fitness depends on
inline std::uint64_t fingerprint(const search_space& s, const evolve_options& o,
                                 std::string_view extra = {}) {
  std::uint64_t h = 0xcbf29ce484222325u;
  const auto add = [&](std::uint64_t v) {
    for (int i = 0; i < 8; ++i) h = (h ^ (v >> 8 * i & 0xff)) * 0x100000001b3u;
  };
  add(static_cast<std::uint64_t>(s.rule));
  for (const std::int64_t b : s.budget) add(static_cast<std::uint64_t>(b));
  for (const search_unit& u : s.units) {
    add(u.group), add(u.gate), add(u.cost.size());
    for (const std::int64_t c : u.cost) add(static_cast<std::uint64_t>(c));
  }
  add(o.offspring), add(o.initial), add(o.initial_samples), add(o.mutate.max_flips), add(o.mutate.reach),
      add(o.seed);
  for (const stage& t : o.stages) add(t.survivors), add(t.samples);
  for (const char c : extra) add(static_cast<unsigned char>(c));
  return h;
}

/// A state as text of whole numbers (fitnesses by their bits), so that nothing is lost.
inline std::string to_text(const evolve_state& state, std::uint64_t mark) {
  std::string out = "quern.search 1";
  const auto add = [&](std::uint64_t v) { out.append(" ").append(std::to_string(v)); };
  add(mark), add(state.generation);
  for (const std::uint64_t w : state.random.state) add(w);
  add(state.counts.candidates), add(state.counts.samples), add(state.counts.invalid);
  add(state.parents.size());
  for (const measured& m : state.parents) {
    add(std::bit_cast<std::uint64_t>(m.fitness)), add(m.levels.size());
    for (const std::uint16_t l : m.levels) add(l);
  }
  add(state.history.size());
  for (const generation_record& r : state.history)
    add(r.generation), add(std::bit_cast<std::uint64_t>(r.fitness)), add(r.candidates), add(r.samples);
  return out + " end\n";
}

/// Reads what to_text() wrote. @returns an error that names the place, for text that is not whole, that belongs to
/// another space or other options, or that evolve() cannot have left
/// @param generations  of the search that goes on; a state behind its last one is refused
inline result<evolve_state> parse_state(
    std::string_view text, const search_space& s, std::uint64_t mark,
    std::uint64_t generations = std::numeric_limits<std::uint64_t>::max()) {
  constexpr std::string_view head = "quern.search 1 ";
  error problem;
  std::size_t at = head.size();
  bool ok = text.substr(0, head.size()) == head;
  const auto fail = [&](const auto&... why) {
    if (ok || at == head.size()) problem = io_error("quern::parse_state: offset ", at, ": ", why...);
    ok = false;
  };
  if (!ok) fail("is not a checkpoint of version 1; start the search anew");
  const auto number = [&](const char* field) {
    std::uint64_t v = 0;
    if (!ok) return v;
    const auto [end, e] = std::from_chars(text.data() + at, text.data() + text.size(), v);
    if (e != std::errc() || end == text.data() + text.size() || *end != ' ')
      fail(field, " is missing; the checkpoint is cut off or damaged, use an older one");
    else
      at = static_cast<std::size_t>(end - text.data()) + 1;
    return v;
  };
  /// How many items of at least @p least characters follow.
  const auto count = [&](const char* field, std::size_t least) {
    const std::uint64_t n = number(field);
    if (ok && n > (text.size() - at) / least) fail(field, " is ", n, ", more than the text can hold");
    return ok ? static_cast<std::size_t>(n) : 0;
  };
  evolve_state out;
  if (number("fingerprint") != mark && ok)
    fail("belongs to another search; give the options it was started with, or another file");
  out.generation = number("generation");
  if (ok && out.generation > generations)
    fail("is at generation ", out.generation, ", behind the last one, ", generations,
         "; give as many or more");
  for (std::uint64_t& w : out.random.state) w = number("generator");
  const auto& state = out.random.state;
  if (ok && (state[0] | state[1] | state[2] | state[3]) == 0)
    fail("the generator is all zeros, from which it never moves; use an older checkpoint");
  out.counts.candidates = number("candidates"), out.counts.samples = number("samples");
  out.counts.invalid = number("invalid");
  out.parents.resize(count("parents", 4));
  if (ok && out.parents.empty() && out.generation > 0)
    fail("generation ", out.generation, " has no parents; use an older checkpoint");
  const auto fitness = [&] {
    const double f = std::bit_cast<double>(number("fitness"));
    if (ok && !std::isfinite(f)) fail("a fitness is ", f, "; use an older checkpoint");
    return f;
  };
  for (measured& m : out.parents) {
    m.fitness = fitness();
    m.levels.resize(count("levels", 2));
    for (std::uint16_t& l : m.levels) {
      const std::uint64_t v = number("level");
      if (v > 65535) fail("level ", v, " is not below 65536");
      l = static_cast<std::uint16_t>(v);
    }
    if (ok && !conforms(s, m.levels)) fail("a parent does not keep the budget");
  }
  out.history.resize(count("history", 8));
  if (ok && out.history.size() != out.generation)
    fail("generation ", out.generation, " has a history of ", out.history.size(),
         "; use an older checkpoint");
  for (generation_record& r : out.history) {
    r.generation = number("generation"), r.fitness = fitness();
    r.candidates = number("candidates"), r.samples = number("samples");
    if (ok && r.generation != static_cast<std::uint64_t>(&r - out.history.data()) + 1)
      fail("generation ", r.generation, " is out of order; use an older checkpoint");
  }
  if (ok && text.substr(at) != "end\n") fail("the end is missing; the checkpoint is cut off");
  if (!ok) return problem;
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
