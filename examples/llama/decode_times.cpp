// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <llama/decode_times.hpp>
#include <llama/hash.hpp>
#include <llama/input.hpp>
#include <llama/level_db.hpp>
#include <llama/text_file.hpp>
#include <nlohmann/json.hpp>
#include <quern/kernel/cpu/multiply.hpp>

namespace llama {
namespace {

using nlohmann::json;
using quern::io_error;
using quern::result;

template <class... Isas>
std::string available(quern::isa_list<Isas...>) {
  std::string out;
  ((out += Isas::available() ? std::string(out.empty() ? "" : " ") + Isas::label().c_str() : ""), ...);
  return out;
}

/// "model name" of Linux; empty elsewhere.
std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
  return {};
}

/// What times depend on beside the products.
json conditions(std::size_t repeats, quern::thread_pool& pool) {
  const std::string version = std::to_string(QUERN_VERSION_MAJOR) + '.' +
                              std::to_string(QUERN_VERSION_MINOR) + '.' + std::to_string(QUERN_VERSION_PATCH);
  return {{"processor", processor()},
          {"instruction sets", available(quern::default_isas())},
          {"threads", pool.concurrency()},
          {"activations", "int8"},
          {"repeats", repeats},
          {"version", version}};
}

/// "576 x 1536, 442368 of dense affine<4,16,two_level>"
std::string product_of(const linear_levels& l, const linear_levels::level& v, const level_recipe& r) {
  return std::to_string(l.rows) + " x " + std::to_string(l.cols) + ", " + std::to_string(v.kept) + " of " +
         r.pattern + ' ' + r.quantizer;
}

std::int64_t measure(const linear& w, std::size_t repeats, quern::thread_pool& pool) {
  using clock = std::chrono::steady_clock;
  const std::vector<float> x(w.cols(), 1.0f);
  std::vector<float> y(w.rows());
  input in;
  std::vector<std::int64_t> times;
  for (std::size_t r = 0; r < std::max<std::size_t>(repeats, 1); ++r) {
    const auto start = clock::now();
    in.assign({x.data(), 1, x.size()}, activation::int8);
    multiply(in, {{&w, {y.data(), 1, y.size()}}}, pool);
    times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - start).count());
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return std::max<std::int64_t>(1, *middle);
}

/// The times of @p path, none where there is no file.
result<json> read_times(const std::string& path, const json& here) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return json::object();
  const json file = json::parse(in, nullptr, false);
  const auto good = [&] {
    if (!file.is_object() || file.value("measured with", json()) != here) return false;
    const json ns = file.value("ns", json());
    return ns.is_object() && std::all_of(ns.begin(), ns.end(), [](const json& t) {
             // A sum over all layers stays far from 2^63.
             return t.is_number_integer() && t.get<std::int64_t>() > 0 &&
                    t.get<std::int64_t>() < std::int64_t{1000000000000000};
           });
  };
  if (!good())
    return io_error("llama::decode_times: '", path, "' is damaged; remove it, and times are measured again");
  return file["ns"];
}

}  // namespace

result<decode_costs> decode_times(const level_db& db, std::size_t repeats, const std::string& folder,
                                  quern::thread_pool& pool) {
  const json here = conditions(repeats, pool);
  hash h;
  h.add(here.dump());
  decode_costs out;
  out.path = folder + "/decode_times." + h.text() + ".json";
  auto known = read_times(out.path, here);
  if (!known) return known.error();
  for (std::size_t i = 0; i < db.linears().size(); ++i) {
    const linear_levels& l = db.linears()[i];
    auto& row = out.ns.emplace_back();
    for (std::size_t v = 0; v < l.levels.size(); ++v) {
      json& ns = (*known)[product_of(l, l.levels[v], db.plan().recipes[l.levels[v].recipe])];
      if (ns.is_null()) ns = measure(db.at(i, v), repeats, pool), ++out.measured;
      row.push_back(ns.get<std::int64_t>());
    }
  }
  if (out.measured != 0) {
    const json file = {{"measured with", here}, {"ns", *known}};
    if (const auto ok = write_text(out.path, file.dump(2) + '\n'); !ok) return ok.error();
  }
  return out;
}

}  // namespace llama
