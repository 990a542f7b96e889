// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <llama/level_db.hpp>
#include <llama/packed.hpp>
#include <llama/tiny_model.hpp>
#include <string>

namespace {

using namespace llama;
using llama_test::random_ids;
using llama_test::random_model;

/// A folder that is gone when the test ends.
struct folder {
  std::string path;
  explicit folder(const char* name) : path((std::filesystem::temp_directory_path() / name).string()) {
    std::filesystem::remove_all(path);
  }
  ~folder() { std::filesystem::remove_all(path); }
  std::string file(std::size_t layer) const {
    return path + "/blk." + std::to_string(layer) + ".safetensors";
  }
};

std::string bytes_in(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

level_plan plan_of(std::vector<level_recipe> recipes) {
  level_plan plan;
  plan.recipes = std::move(recipes);
  plan.context = 16, plan.windows = 8;
  return plan;
}

quern::result<level_db> make(const model& m, const level_plan& plan, const folder& at,
                             std::size_t stop = 1000000) {
  quern::thread_pool pool(2);
  return level_db::make(m, random_ids(128), plan, at.path, pool,
                        [&](std::size_t done, std::size_t) { return done < stop; });
}

std::string refused(const model& m, const level_plan& plan, const folder& at) {
  const auto r = make(m, plan, at);
  return r ? std::string() : r.error().what();
}

}  // namespace

TEST_CASE("levels of bits: sizes known before, errors fall, switching moves a pointer") {
  const folder at("quern_level_db_bits");
  const model m = random_model(201);
  const level_plan plan = plan_of(bit_recipes(2, 4));
  const std::size_t told = bytes_of(level_db::describe(m, plan).value());
  CHECK_FALSE(std::filesystem::exists(at.path));  // describing makes nothing
  const level_db db = make(m, plan, at).value();
  CHECK(db.bytes() == told);
  REQUIRE(db.linears().size() == 14);
  std::size_t stored = 0;
  for (std::size_t l = 0; l < 2; ++l) stored += std::filesystem::file_size(at.file(l));
  // Headers are most of the files of a model of 14 x 32 x 32 weights: 100 bytes for each of 5 streams a level.
  CHECK(stored >= told);
  CHECK(stored < told + 2 * 7 * 3 * 5 * 200);
  for (std::size_t i = 0; i < db.linears().size(); ++i) {
    const linear_levels& l = db.linears()[i];
    REQUIRE(l.levels.size() == 3);
    for (std::size_t v = 1; v < 3; ++v) {
      CHECK(l.levels[v].error < l.levels[v - 1].error);
      CHECK(l.levels[v].bytes > l.levels[v - 1].bytes);
    }
  }
  model target = m;
  target.blocks[1].ffn_up = db.at(12, 2);
  CHECK(packed_of(target.blocks[1].ffn_up) == packed_of(db.at(12, 2)));
  CHECK(db.linears()[12].name == "blk.1.ffn_up");
}

TEST_CASE("levels of sparsity are a number of weights apart in layers of every size") {
  const model m = random_model(202);
  for (const char* pattern : {"bitmap", "group<16>"}) {
    const folder at("quern_level_db_density");
    const std::int64_t delta = 32;
    level_plan plan = plan_of(density_recipes(pattern, 0.5, delta, 2));
    const std::size_t told = bytes_of(level_db::describe(m, plan).value());
    const level_db db = make(m, plan, at).value();
    for (std::size_t i = 0; i < db.linears().size(); ++i) {
      const linear_levels& l = db.linears()[i];
      REQUIRE(l.levels.size() == 5);
      for (std::size_t v = 0; v < 5; ++v) {
        CHECK(l.levels[v].kept == l.rows * l.cols / 2 + static_cast<std::size_t>(delta) * v - 64);
        std::size_t alive = 0;
        for (const float w : llama_test::values(db.at(i, v))) alive += w != 0 ? 1 : 0;
        CHECK(alive == l.levels[v].kept);
      }
    }
    CHECK(static_cast<double>(db.bytes()) < 1.1 * static_cast<double>(told));
    CHECK(static_cast<double>(db.bytes()) > 0.9 * static_cast<double>(told));
  }
}

TEST_CASE("a stopped database goes on where it was, with the same bytes") {
  const folder whole("quern_level_db_whole"), part("quern_level_db_part");
  const model m = random_model(203);
  const level_plan plan = plan_of(bit_recipes(2, 3));
  make(m, plan, whole).value();
  CHECK_FALSE(make(m, plan, part, 20));  // in the second block
  CHECK(std::filesystem::exists(part.file(0)));
  CHECK_FALSE(std::filesystem::exists(part.file(1)));
  for (const auto& entry : std::filesystem::directory_iterator(part.path))
    CHECK(entry.path().extension() == ".safetensors");
  make(m, plan, part).value();
  for (std::size_t l = 0; l < 2; ++l) CHECK(bytes_in(part.file(l)) == bytes_in(whole.file(l)));
}

TEST_CASE("a database that is damaged, cut off or of something else is refused by the name of its file") {
  const folder at("quern_level_db_damaged");
  const model m = random_model(204);
  const level_plan plan = plan_of(bit_recipes(2, 3));
  make(m, plan, at).value();
  const std::string good = bytes_in(at.file(1));
  const auto says = [&](const std::string& what, const std::string& word) {
    CHECK_MESSAGE(what.find("blk.1.safetensors") != std::string::npos, what);
    CHECK_MESSAGE(what.find(word) != std::string::npos, what);
  };
  for (const std::size_t n : {std::size_t{0}, std::size_t{5}, good.size() / 2, good.size() - 1}) {
    write(at.file(1), good.substr(0, n));
    says(refused(m, plan, at), "safetensors");
  }
  // One bit of a code, which every structural check accepts.
  std::string bad = good;
  const auto file = quern::safetensors_file::open((write(at.file(1), good), at.file(1))).value();
  bad[file.find("ffn_gate@3.codes")->offset + 7] ^= 1;
  std::filesystem::remove(at.file(1));
  write(at.file(1), bad);
  says(refused(m, plan, at), "ffn_gate@3");
  write(at.file(1), good);
  CHECK(refused(m, plan, at).empty());

  CHECK(refused(random_model(205), plan, at).find("blk.0.safetensors") != std::string::npos);
  CHECK(refused(m, plan_of(bit_recipes(2, 4)), at).find("another") != std::string::npos);
  level_plan other = plan;
  other.damp = 0.02;
  CHECK(refused(m, other, at).find("another") != std::string::npos);
  other = plan;
  other.options.refine = 3;
  CHECK(refused(m, other, at).find("another") != std::string::npos);
}

TEST_CASE("levels of a model are not those of one whose blocks see other inputs") {
  const folder at("quern_level_db_inputs");
  const model m = random_model(207);
  const level_plan plan = plan_of(bit_recipes(2, 3));
  make(m, plan, at).value();
  CHECK(refused(m, plan, at).empty());
  const auto is_other = [&](const std::string& what, auto change) {
    model n = m;
    change(n);
    CHECK_MESSAGE(refused(n, plan, at).find("another model") != std::string::npos, what);
  };
  is_other("attn_norm", [](model& n) { n.blocks[0].attn_norm[3] *= 1.5f; });
  is_other("ffn_norm", [](model& n) { n.blocks[1].ffn_norm[0] += 0.25f; });
  is_other("embedding", [](model& n) {
    std::vector<float> w = llama_test::values(n.embedding);
    w[7] += 0.5f;
    n.embedding = dense_linear(w, n.embedding.rows(), n.embedding.cols());
  });
  is_other("rope", [](model& n) { n.shape.rope_base *= 2; });
  is_other("epsilon", [](model& n) { n.shape.rms_epsilon *= 2; });
  // With the file of block 0 gone, that of block 1 was made behind another block 0.
  std::filesystem::remove(at.file(0));
  is_other("a block before", [](model& n) {
    std::vector<float> w = llama_test::values(n.blocks[0].ffn_down);
    w[0] += 0.5f;
    n.blocks[0].ffn_down = dense_linear(w, n.blocks[0].ffn_down.rows(), n.blocks[0].ffn_down.cols());
  });
}

TEST_CASE("plans that cannot be made are refused") {
  const folder at("quern_level_db_bad");
  const model m = random_model(206);
  CHECK(refused(m, plan_of({{"x", "dense", "affine<4,999>"}}), at).find("not compiled") != std::string::npos);
  CHECK(refused(m, plan_of({}), at).find("no level") != std::string::npos);
  level_plan plan = plan_of(bit_recipes(2, 3));
  plan.windows = 9;
  CHECK(refused(m, plan, at).find("128 tokens") != std::string::npos);
}
