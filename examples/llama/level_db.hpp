// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::level_plan plan{.recipes = llama::bit_recipes(2, 8)};
// auto db = llama::level_db::make(model, ids, plan, "levels", pool, [](std::size_t, std::size_t) { return true; });
// block.ffn_up = db->at(3, 5, level);                 // a pointer moves, nothing is copied

#include <cstdint>
#include <functional>
#include <llama/formats.hpp>
#include <llama/model.hpp>
#include <quern/compress/layer.hpp>
#include <quern/search/level_db.hpp>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// How one level of every linear is made.
struct level_recipe {
  std::string name;  ///< "3" bits, "-2" steps of sparsity, "4 nm<2,4>": unique in its plan
  std::string pattern, quantizer;
  /// Patterns of free density: the share that survives, and how many weights fewer than that share of this linear.
  /// Counting weights makes a step cost the same in layers of every size (EvoPress, prune.py).
  double density = 1;
  std::int64_t fewer = 0;
};

/// Affine codes of @p low .. @p high bits. @param run  what follows the bits in the quantizer's name
std::vector<level_recipe> bit_recipes(int low, int high, const std::string& run = "16,two_level");
/// 2 * @p steps + 1 densities around @p density, @p delta weights apart. @param pattern  bitmap or group<16>
std::vector<level_recipe> density_recipes(const std::string& pattern, double density, std::int64_t delta,
                                          int steps);
/// What the joint search chooses among: bit_recipes(2, 8), and with 2, 3 and 4 bits fp16 scales in runs of 64, 2:4, and
/// groups of 16 at 2 of 4 and 3 of 4.
std::vector<level_recipe> joint_recipes();

struct level_plan {
  std::vector<level_recipe> recipes;
  quern::compress_options options = {.over = quern::scope::layer};
  std::size_t context = 512, windows = 64;  ///< of the calibration text, from its start
  float sink_weight = 0;  ///< of the first position of a window in the Hessians; 0: sink_weight_of()
  double damp = 0.01;
};

/// The levels that one linear has: recipes whose density it cannot have are left out.
struct linear_levels {
  std::string name;                  ///< "blk.3.ffn_up"
  std::size_t layer = 0, index = 0;  ///< block, and place in block_linears
  std::size_t rows = 0, cols = 0;
  struct level {
    std::size_t recipe = 0;
    std::size_t kept = 0;   ///< weights that survive at most
    std::size_t bytes = 0;  ///< expected before it is made, exact afterwards
    double error = 0;       ///< relative squared error of the outputs on the calibration text
    linear weight = {};     ///< null before it is made
  };
  std::vector<level> levels = {};
};

/// All levels of all linears of a model, packed and mapped from one safetensors file per block. The Hessians are those
/// of the dense model (EvoPress: its sparsity database; its quantization database propagates at 3 bits instead).
class level_db {
 public:
  /// What make() will store; the sum over `bytes` is told before anything is made.
  /// @returns an error that names a recipe whose format is not compiled
  static quern::result<std::vector<linear_levels>> describe(const model& m, const level_plan& plan);

  /// Opens the database in @p folder, after making the blocks that it lacks: a stopped run goes on where it was. Files
  /// appear whole or not at all.
  /// @param ids       calibration text
  /// @param progress  progress(done, all) after every level; false stops, which is an error
  /// @returns an error that names the file, and the matrix, that is damaged, cut off, or of another plan, text or model
  static quern::result<level_db> make(const model& m, std::span<const std::int32_t> ids,
                                      const level_plan& plan, const std::string& folder,
                                      quern::thread_pool& pool,
                                      const std::function<bool(std::size_t, std::size_t)>& progress);

  const std::vector<linear_levels>& linears() const { return linears_; }
  const level_plan& plan() const { return plan_; }
  std::size_t bytes() const;
  const linear& at(std::size_t linear, std::size_t level) const {
    return linears_[linear].levels[level].weight;
  }

 private:
  level_db(level_plan plan, std::vector<linear_levels> linears)
      : plan_(std::move(plan)), linears_(std::move(linears)) {}
  level_plan plan_;
  std::vector<linear_levels> linears_;
};

/// Bytes of a description.
std::size_t bytes_of(const std::vector<linear_levels>& linears);

}  // namespace llama
