// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::evolve_report report(settings, model, task, words, held_out_ids);
// report.add("uniform", &genome, fitness, pool);      // a line on stdout, a row of table()

#include <llama/evolve_settings.hpp>
#include <llama/search_task.hpp>
#include <llama/tokenizer.hpp>
#include <nlohmann/json.hpp>
#include <quern/search/evolve.hpp>

namespace llama {

/// What is said of the configurations that a search and its rivals chose.
class evolve_report {
 public:
  /// All arguments must outlive the report. @param m  the model as it is; weights are shared
  /// @param held  text to measure on, none if empty
  evolve_report(const evolve_settings& s, const model& m, const search_task& task, const tokenizer& words,
                std::vector<std::int32_t> held);

  /// Measures a configuration on the held-out text, if there is one. @param g  null: the model as it is
  void add(const std::string& name, const genome* g, double fitness, quern::thread_pool& pool);
  const nlohmann::ordered_json& table() const { return table_; }

  /// Writes what -o, --config, --tensor-types and --svg ask for. @throws io_error
  void write_winner(const quern::evolve_state& state);

 private:
  const evolve_settings& settings_;
  const search_task& task_;
  const tokenizer& words_;
  model work_;
  std::vector<std::int32_t> held_;
  nlohmann::ordered_json table_ = nlohmann::ordered_json::array();
};

}  // namespace llama
