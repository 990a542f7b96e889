// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <llama/evolve_model.hpp>
#include <llama/load.hpp>
#include <llama/packed.hpp>
#include <llama/search_text.hpp>
#include <llama/tiny_model.hpp>
#include <string>

#include "scratch_folder.hpp"

namespace {

using namespace llama;
using llama_test::random_ids;
using llama_test::random_model;
using llama_test::tiny;

std::vector<float> logits_of(const model& m) {
  quern::thread_pool pool(1);
  session s(m, 24, pool);
  const auto l = s.logits(s.extend(random_ids(24)));
  return {l.data(), l.data() + l.rows() * l.cols()};
}

config deeper(std::size_t layers) {
  config c = tiny;
  c.layers = layers;
  return c;
}

level_db database(const model& m, std::vector<level_recipe> recipes, const char* name) {
  const std::string at = (std::filesystem::temp_directory_path() / name).string();
  std::filesystem::remove_all(at);
  level_plan plan;
  plan.recipes = std::move(recipes);
  plan.context = 16, plan.windows = 8;
  quern::thread_pool pool(2);
  level_db db = level_db::make(m, random_ids(128), plan, at, pool, {}).value();
  std::filesystem::remove_all(at);  // mapped files stay readable
  return db;
}

template <class T>
std::string message(const quern::result<T>& r) {
  return r ? std::string() : r.error().what();
}

}  // namespace

TEST_CASE("a dropped half adds nothing, survives a file, and is dropped whole or not at all") {
  const model m = random_model(401, deeper(3));
  model cut = m;
  depth_task(m, drop_unit::halves, 1, 1).value().assemble({1, 0, 1, 1, 1, 0}, cut);
  // The same as a half whose last linear is zero: adding zeros changes no bit.
  model zero = m;
  zero.blocks[1].attn_output = dense_linear(std::vector<float>(32 * 32), 32, 32);
  zero.blocks[2].ffn_down = dense_linear(std::vector<float>(32 * 48), 32, 48);
  CHECK(logits_of(cut) == logits_of(zero));
  CHECK(logits_of(cut) != logits_of(m));
  CHECK(cut.bytes() < m.bytes());

  const std::string path = (std::filesystem::temp_directory_path() / "quern_dropped.safetensors").string();
  save(path, cut, tokenizer::bytes(), {}).value();
  quern::thread_pool pool(1);
  const model again = load(path, pool).value();
  CHECK_FALSE(again.blocks[1].has_attn());
  CHECK(again.blocks[1].has_ffn());
  CHECK_FALSE(again.blocks[2].has_ffn());
  CHECK(logits_of(again) == logits_of(cut));
  // Names that are no half of a block say that the file is not understood.
  std::string bytes = bytes_of(path);
  for (const char* other : {"blk.9.attn", "blk.1.attx", "blk.01.att"}) {
    std::string changed = bytes;
    changed.replace(changed.find("blk.1.attn blk"), 10, other);
    std::ofstream(path, std::ios::binary) << changed;
    CHECK(message(load(path, pool)).find(std::string("'") + other + "' is no half") != std::string::npos);
  }
  std::filesystem::remove(path);

  cut.blocks[0].attn_k = linear();
  CHECK_THROWS_AS(check(cut), quern::shape_error);
  cut = m;
  cut.blocks[0].ffn_down = linear();
  CHECK_THROWS_AS(check(cut), quern::shape_error);
}

TEST_CASE("depth: halves, blocks and pairs, their budgets and EvoPress's text") {
  const model m = random_model(402, deeper(6));
  const search_task halves = depth_task(m, drop_unit::halves, 2, 3).value();
  CHECK(halves.space.budget == std::vector<std::int64_t>{4, 3});
  const genome g{1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 1};
  CHECK(quern::conforms(halves.space, g));
  CHECK(as_text(halves, g, 6) == "none\nattn+mlp\nattn\nmlp\nmlp\nnone\n");
  CHECK(from_text(halves, as_text(halves, g, 6), 6).value() == g);
  CHECK(message(from_text(halves, "none\n", 6)).find("1 lines for 6 blocks") != std::string::npos);
  CHECK(message(from_text(halves, "none\nall\nattn\nmlp\nmlp\nnone\n", 6)).find("line 2") !=
        std::string::npos);
  CHECK(message(from_text(halves, "mlp\nattn+mlp\nattn\nmlp\nmlp\nnone\n", 6)).find("budget") !=
        std::string::npos);
  const search_task pairs = depth_task(m, drop_unit::pairs, 1, 0).value();
  CHECK(pairs.space.units.size() == 3);
  CHECK(as_text(pairs, {1, 0, 1}, 6) == "none\nnone\nattn+mlp\nattn+mlp\nnone\nnone\n");
  CHECK(from_text(pairs, "none\nnone\nattn+mlp\nattn+mlp\nnone\nnone\n", 6).value() == genome{1, 0, 1});
  CHECK(message(from_text(pairs, "none\nnone\nattn+mlp\nmlp\nnone\nnone\n", 6)).find("line 4") !=
        std::string::npos);
  model cut = m;
  pairs.assemble({1, 0, 1}, cut);
  for (std::size_t l = 0; l < 6; ++l) CHECK(cut.blocks[l].has_attn() == (l < 2 || l > 3));
  pairs.assemble({1, 1, 1}, cut);  // what was taken out comes back
  CHECK(logits_of(cut) == logits_of(m));
  const search_task blocks = depth_task(m, drop_unit::blocks, 2, 0).value();
  CHECK(as_text(blocks, {1, 1, 1, 0, 1, 0}, 6) == "none\nnone\nnone\nattn+mlp\nnone\nattn+mlp\n");

  CHECK(message(depth_task(m, drop_unit::halves, 0, 0)).find("nearest possible: 1") != std::string::npos);
  CHECK(message(depth_task(m, drop_unit::blocks, 6, 0)).find("nearest possible: 5") != std::string::npos);
  CHECK(drop_count(30, 1.0 / 6) == 5);
  CHECK(drop_count(4, 0.25) == 1);
  CHECK(drop_count(4, std::nan("")) == 0);
}

TEST_CASE("bits: exact budgets per group, impossible ones with the nearest, exports") {
  const model m = random_model(403, deeper(4));
  const level_db db = database(m, bit_recipes(2, 8), "quern_task_bits");
  const search_task task = bits_task(db, 3, quern::grouping::size).value();
  REQUIRE(task.start.size() == 1);
  CHECK(task.start[0] == genome(28, 1));
  CHECK(quern::total_cost(task.space, task.start[0]) == 3 * static_cast<std::int64_t>(block_weights(m)));
  // k and v [16 x 32], q and output [32 x 32], gate, up and down [1536]: three sizes.
  CHECK(task.space.budget.size() == 3);
  model target = m;
  genome g = task.start[0];
  g[0] = 2, g[3] = 0;
  REQUIRE(quern::conforms(task.space, g));
  task.assemble(g, target);
  CHECK(packed_of(target.blocks[0].attn_q)->format->quantizer == "affine<4,16,two_level>");
  CHECK(packed_of(target.blocks[0].attn_output)->format->quantizer == "affine<2,16,two_level>");
  CHECK(packed_of(target.blocks[3].ffn_down)->format->quantizer == "affine<3,16,two_level>");
  CHECK(as_text(task, g, 4).substr(0, 30) == "blk.0.attn_q: 4\nblk.0.attn_k: ");
  const std::string text = as_text(task, g, 4);
  CHECK(from_text(task, text, 4).value() == g);
  CHECK(message(from_text(task, text.substr(0, text.rfind("blk.3.ffn_down")), 4))
            .find("no line for 'blk.3.ffn_down'") != std::string::npos);
  CHECK(message(from_text(task, "blk.0.attn_q: 4\nblk.0.attn_q: 4\n", 4)).find("line 2") !=
        std::string::npos);
  CHECK(message(from_text(task, "blk.0.attn_q 4\n", 4)).find("line 1") != std::string::npos);
  CHECK(message(from_text(task, "blk.0.attn_q: 9\n", 4)).find("no level '9'") != std::string::npos);
  CHECK(as_tensor_types(task, g).substr(0, 30) == "blk\\.0\\.attn_q\\.weight=q4_k\nbl");

  CHECK(bits_task(db, 2.25, quern::grouping::size).value().start.empty());
  CHECK(message(bits_task(db, 3.1, quern::grouping::size)).find("nearest possible: 3 or 3.125") !=
        std::string::npos);
  CHECK(message(bits_task(db, 9, quern::grouping::none)).find("nearest possible: 8") != std::string::npos);
  CHECK(message(bits_task(db, 1.5, quern::grouping::name)).find("nearest possible: 2") != std::string::npos);
  CHECK(message(bits_task(db, std::nan(""), quern::grouping::none)).find("impossible") != std::string::npos);
  CHECK(bits_task(db, 3.1, quern::grouping::none).value().space.rule == quern::budget_rule::at_most);
}

TEST_CASE("densities: uniform, dynamic programming and OWL keep the number of weights") {
  const model m = random_model(404, deeper(3));
  const level_db db = database(m, density_recipes("bitmap", 0.5, 32, 3), "quern_task_density");
  const search_task task = density_task(db).value();
  REQUIRE(task.start.size() == 1);
  CHECK(task.start[0] == genome(21, 3));
  quern::thread_pool pool(1);
  const auto rivals = level_rivals(task, db, m, random_ids(128), 0.5, pool).value();
  REQUIRE(rivals.size() == 3);
  for (const rival& r : rivals) CHECK_MESSAGE(quern::conforms(task.space, r.levels), r.name);
  CHECK(quern::summed_error(task.table, rivals[1].levels) <=
        quern::summed_error(task.table, rivals[0].levels));
  // With these ratios the first block keeps most and the last least.
  const genome owl = owl_levels(task, db, std::vector<double>{0.3, 0.2, 0.1}, 0.5, 0.08);
  CHECK(quern::conforms(task.space, owl));
  CHECK(owl[0] > owl[14]);
}

TEST_CASE("joint: one budget in bytes over formats, bits and dropping, paid by the bytes that are stored") {
  const model m = random_model(405, deeper(3));
  const level_db db = database(m, joint_recipes(), "quern_task_joint");
  const auto weights = static_cast<std::int64_t>(block_weights(m));
  const search_task task = joint_task(db, weights / 2, {}, {.keep = quern::level_choice::every_cost}).value();
  CHECK(task.space.units.size() == 21 + 6);
  quern::rng random(6);
  genome g = quern::random_genome(task.space, random);
  model target = m;
  std::size_t dropped = 0, sparse = 0;
  for (int i = 0; i < 300; ++i) {
    g = quern::mutate(task.space, g, {.reach = 3}, random);
    task.assemble(g, target);
    // What the budget counts is what the model stores.
    REQUIRE(static_cast<std::int64_t>(block_bytes(target)) == quern::total_cost(task.space, g));
    REQUIRE(static_cast<std::int64_t>(block_bytes(target)) <= weights / 2);
    const std::string text = as_text(task, g, 3);
    REQUIRE(as_text(task, from_text(task, text, 3).value(), 3) == text);
    const std::size_t kept = text.find(".attn: kept");  // a half is dropped as a whole
    if (kept != std::string::npos)
      REQUIRE(message(from_text(task, std::string(text).replace(kept, 11, ".attn: dropped"), 3))
                  .find("its half is") != std::string::npos);
    for (const block& b : target.blocks) {
      dropped += b.has_attn() ? 0 : 1;
      if (b.has_ffn()) sparse += packed_of(b.ffn_up)->format->pattern != "dense" ? 1 : 0;
    }
  }
  CHECK(dropped > 0);
  CHECK(sparse > 0);
  // Without being asked, only levels that are better than every cheaper one.
  const search_task front = joint_task(db, weights / 2).value();
  for (std::size_t u = 0; u < 21; ++u) {
    const auto& levels = front.table[u].levels;
    REQUIRE(levels.size() < task.table[u].levels.size());
    for (const quern::level_info& left :
         task.table[u].levels)  // nothing is left out without something better
      REQUIRE(std::any_of(levels.begin(), levels.end(), [&](const quern::level_info& l) {
        return l.error <= left.error && l.cost <= left.cost + left.cost / 32;
      }));
    for (std::size_t l = 1; l < levels.size(); ++l) REQUIRE(levels[l].error < levels[l - 1].error);
  }
  // The start gives every linear its share of the bytes, and spends what can be spent.
  for (const std::int64_t budget : {weights / 8, weights / 2, weights}) {
    CAPTURE(budget);
    const search_task at = joint_task(db, budget).value();
    CHECK(quern::conforms(at.space, at.start.at(0)));
    for (std::size_t u = 0; u < 21 && budget == weights; ++u) {
      const auto& levels = at.table[u].levels;  // of 8 bits per weight with padding and scales
      CHECK(levels[at.start[0][u]].cost * 2 > static_cast<std::int64_t>(at.table[u].weights));
    }
  }
  CHECK(message(joint_task(db, -1)).find("nearest possible: 0") != std::string::npos);
  // A single axis: the density of four bits, nothing dropped.
  const joint_choice density{.only = {"4", "4 group_nm<2,4,16>"}, .drop = false};
  const search_task axis = joint_task(db, weights * 3 / 4, {}, density).value();
  REQUIRE(axis.space.units.size() == 21);
  axis.assemble(axis.start.at(0), target);
  std::size_t both = 0;  // in matrices this small padding can make the two cost the same
  for (std::size_t u = 0; u < 21; ++u) {
    const auto& levels = axis.table[u].levels;
    for (const quern::level_info& l : levels) REQUIRE((l.label == "4" || l.label == "4 group_nm<2,4,16>"));
    const bool dense = levels.at(axis.start[0][u]).label == "4";
    const linear& w = target.blocks[u / 7].*block_linears[u % 7].weight;
    CHECK(packed_of(w)->format->pattern == (dense ? "dense" : "group_nm<2,4,16>"));
    both += levels.size() == 2 ? 1 : 0;
  }
  CHECK(both > 0);
  CHECK(message(joint_task(db, 1, {}, density)).find("nearest possible") != std::string::npos);
  CHECK(message(joint_task(db, weights, {}, {.only = {"9"}})).find("no level '9'; there are '2', '3'") !=
        std::string::npos);
  // A budget in another cost: here of as many nanoseconds as bits.
  std::vector<std::vector<std::int64_t>> times;
  for (const linear_levels& l : db.linears()) {
    times.emplace_back();
    for (const linear_levels::level& v : l.levels)
      times.back().push_back(static_cast<std::int64_t>(8 * v.bytes));
  }
  std::int64_t sum = 0;
  for (const auto& row : times) sum += *std::max_element(row.begin(), row.end());
  const search_task timed = joint_task(db, sum / 2, times).value();
  CHECK(quern::conforms(timed.space, quern::random_genome(timed.space, random)));
}

TEST_CASE("scores of the stream: a half that does nothing goes first") {
  model m = random_model(406, deeper(4));
  m.blocks[2].attn_output = dense_linear(std::vector<float>(32 * 32), 32, 32);
  m.blocks[1].ffn_down = dense_linear(std::vector<float>(32 * 48), 32, 48);
  m.blocks[1].attn_output = dense_linear(std::vector<float>(32 * 32), 32, 32);
  quern::thread_pool pool(1);
  const stream_scores s = score_streams(m, random_ids(128), 16, 8, pool);
  CHECK(s.ratio[4] == 0);
  CHECK(std::abs(s.cosine[4]) < 1e-12);  // 1 - x x / |x| |x| in double
  CHECK(std::abs(s.block_cosine[1]) < 1e-12);
  CHECK(s.window_cosine[0][3] > s.block_cosine[1]);
  const search_task task = depth_task(m, drop_unit::halves, 1, 1).value();
  const genome by_ratio = drop_lowest(task, unit_scores(task, s.ratio));
  CHECK(by_ratio == genome{1, 0, 1, 1, 1, 0, 1, 1});  // of two attentions that do nothing, the first
  CHECK(drop_blocks(task, s.block_cosine, 1) == genome{1, 0, 1, 1, 1, 0, 1, 1});
  CHECK(quern::conforms(task.space, drop_window(task, s, 1)));
  candidate_runner run(m, task.assemble, task.half_of, random_ids(128), {.context = 16}, pool);
  const auto single = single_drop_scores(task, 64, run);
  CHECK(single[1] == 0);
  CHECK(single[5] == 0);
  CHECK(single[0] > 0);
  for (const rival& r : depth_rivals(task, m, random_ids(128), 1, 64, run, pool))
    CHECK_MESSAGE(quern::conforms(task.space, r.levels), r.name);
}

TEST_CASE("presets scale the paper's tokens to the text") {
  const auto paper = preset("paper", "bits", 0, 1 << 20).value();
  CHECK(paper.generations == 150);
  CHECK(paper.offspring == 128);
  CHECK(paper.stages == std::vector<quern::stage>{{16, 2048}, {4, 16384}, {1, 131072}});
  CHECK(preset("paper", "bits", 0, 65536).value().stages.front().samples == 1024);
  CHECK(preset("paper", "depth", 250, 65536).value().generations == 166);  // 5 * 25 * 2 pairs over 1.5
  CHECK(preset("small", "depth", 250, 65536).value().stages.back().survivors == 2);
  CHECK_FALSE(preset("large", "bits", 0, 100));
  // Nothing is scaled in silence.
  CHECK(describe(preset("paper", "bits", 0, 65536).value()) ==
        "150 generations of 128 offspring, survivors@tokens 16@1024 4@8192 1@65536; begins with the best of "
        "64@1024");
  CHECK(scaling_of("paper", "bits", 65536).value() ==
        "preset paper: tokens are 0.5 times its own, which end with 131072; the text has 65536 "
        "(--text-tokens)");
  CHECK(scaling_of("paper", "bits", 131072).value().empty());
  CHECK(scaling_of("small", "bits", 8192).value().empty());
  CHECK_FALSE(scaling_of("large", "bits", 100));
}
