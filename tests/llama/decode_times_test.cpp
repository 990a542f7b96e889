// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <llama/decode_times.hpp>
#include <llama/level_db.hpp>
#include <llama/scratch_folder.hpp>
#include <llama/text_file.hpp>
#include <llama/tiny_model.hpp>
#include <nlohmann/json.hpp>

namespace {

using namespace llama;
using nlohmann::json;

json read(const std::string& path) {
  std::ifstream in(path);
  return json::parse(in, nullptr, false);
}

/// Levels of 2 to @p most_bits bits.
level_db levels_of(const model& m, int most_bits, const std::string& folder, quern::thread_pool& pool) {
  level_plan plan;
  plan.recipes = bit_recipes(2, most_bits);
  plan.context = 16, plan.windows = 8;
  return level_db::make(m, llama_test::random_ids(128), plan, folder, pool, [](auto, auto) { return true; })
      .value();
}

}  // namespace

TEST_CASE("times are measured once: a second start counts the same costs") {
  const scratch_folder at;
  const model m = llama_test::random_model(501);
  quern::thread_pool pool(1), two(2);
  const std::string folder = at.path.string();
  const level_db db = levels_of(m, 4, folder, pool);

  const decode_costs first = decode_times(db, 3, folder, pool).value();
  REQUIRE(first.ns.size() == db.linears().size());
  // Attention and the two shapes of a feed-forward half, unless some are equal; not one for each of 14 linears.
  CHECK(first.measured % 3 == 0);
  CHECK(first.measured <= 4 * 3);
  for (const auto& row : first.ns) {
    CHECK(row.size() == 3);
    for (const std::int64_t t : row) CHECK(t > 0);
  }
  json file = read(first.path);
  CHECK(file["ns"].size() == first.measured);
  CHECK(file["measured with"]["repeats"] == 3);

  // What the file says counts, not the clock.
  for (json& t : file["ns"]) t = t.get<std::int64_t>() + 1000000000;
  write_text(first.path, file.dump()).value();
  const decode_costs again = decode_times(db, 3, folder, pool).value();
  CHECK(again.measured == 0);
  CHECK(again.path == first.path);
  for (std::size_t i = 0; i < first.ns.size(); ++i)
    for (std::size_t v = 0; v < 3; ++v) CHECK(again.ns[i][v] == first.ns[i][v] + 1000000000);

  // One product that is missing is measured, the others stay.
  file["ns"].erase(file["ns"].begin());
  write_text(first.path, file.dump()).value();
  CHECK(decode_times(db, 3, folder, pool).value().measured == 1);

  // Other conditions have a file of their own.
  CHECK(decode_times(db, 5, folder, pool).value().measured == first.measured);
  CHECK(decode_times(db, 3, folder, two).value().measured == first.measured);
  CHECK(decode_times(db, 3, folder, pool).value().measured == 0);
}

TEST_CASE("a file of times that is damaged is refused by its name") {
  const scratch_folder at;
  const model m = llama_test::random_model(502);
  quern::thread_pool pool(1);
  const std::string folder = at.path.string();
  const level_db db = levels_of(m, 3, folder, pool);
  const std::string path = decode_times(db, 1, folder, pool).value().path;
  const json good = read(path);
  const auto refused = [&](const std::string& text) {
    write_text(path, text).value();
    const auto r = decode_times(db, 1, folder, pool);
    REQUIRE_FALSE(r);
    CHECK(std::string(r.error().what()).find(path) != std::string::npos);
  };
  refused("");
  refused(good.dump().substr(0, 60));
  refused("[]");
  json bad = good;
  bad["measured with"]["processor"] = "another";
  refused(bad.dump());
  for (const json& t : {json(0), json(-5), json(1.5), json("7"), json(std::uint64_t{1} << 63), json()}) {
    bad = good;
    *bad["ns"].begin() = t;
    refused(bad.dump());
  }
  bad = good;
  bad["ns"] = 5;
  refused(bad.dump());
  write_text(path, good.dump()).value();
  CHECK(decode_times(db, 1, folder, pool).value().measured == 0);
}
