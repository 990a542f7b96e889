// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::block_checkpoint saved(plan, m, ids);
// if (plan.resume) saved.read(m).value();        // blocks that are done
// saved.add(m.blocks[l], l, report).value();          // one more, on disk when this returns

#include <llama/compress_model.hpp>

namespace llama {

/// The blocks that compress_model has finished: their packed linears in a safetensors file, and what was reported of
/// them. The file names the run that it belongs to, by its options, calibration text and weights.
class block_checkpoint {
 public:
  block_checkpoint(const compress_plan& plan, const model& m, std::span<const std::int32_t> ids);

  std::size_t blocks() const { return done_.size(); }
  /// Takes the blocks of the file for @p m, the model before them. @returns io_error if it is damaged or of another run;
  /// nothing is taken then
  quern::result<void> read(const model& m);
  /// Replaces the linears of a block by the finished ones and adds their report.
  void restore(std::size_t layer, block& b, compress_report& report) const;
  /// Adds block @p layer, the next one, and writes the file by temporary name and rename; without a name does nothing.
  quern::result<void> add(const block& b, std::size_t layer, const compress_report& report);
  /// "the last good checkpoint is 'x' with 3 blocks; ...", or that there is none.
  std::string last_good() const;

 private:
  struct finished {
    std::vector<linear> linears;  // null where the model's own was kept
    std::vector<compressed_linear> reports;
  };
  std::string path_, run_;
  const format_ops* format_;
  std::vector<finished> done_;
};

}  // namespace llama
