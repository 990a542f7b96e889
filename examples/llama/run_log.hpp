// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::run_log log("run.jsonl", resumed_step);          // keeps the lines up to that step
// log.add({{"step", 7}, {"loss", 1.9}});                  // on disk when it returns
// std::string chart = llama::run_chart(log.lines(), "loss", {"loss", "held_out"}, "nats per token");

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace llama {

/// The log of a run: one JSON object a line, each with its "step".
class run_log {
 public:
  /// @param path    the file; empty: in memory only
  /// @param resume  lines of later steps are dropped: a run that goes on repeats those steps. 0: the run begins, and
  /// the file must not be there, or be empty
  /// @throws io_error for a file that cannot be written, or whose earlier lines are no log
  run_log(std::string path, std::uint64_t resume);
  /// @throws io_error where the line does not reach the file (a full disk)
  void add(nlohmann::ordered_json line);
  const std::vector<nlohmann::ordered_json>& lines() const { return lines_; }

 private:
  std::string path_;
  std::vector<nlohmann::ordered_json> lines_;
};

/// An SVG of some fields of a log against "step". Lines without a field leave it out.
std::string run_chart(const std::vector<nlohmann::ordered_json>& lines, const std::string& title,
                      const std::vector<std::string>& fields, const std::string& unit);

}  // namespace llama
