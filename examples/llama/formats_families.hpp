// SPDX-License-Identifier: Apache-2.0
#pragma once
// for (const llama::format_ops& o : llama::dense_ops()) ...   // llama::all_formats() has them all

#include <llama/formats.hpp>
#include <vector>

namespace llama {

// One for each formats_*.cpp.
const std::vector<format_ops>& dense_ops();
const std::vector<format_ops>& dense_scaled_ops();
const std::vector<format_ops>& group_ops();
const std::vector<format_ops>& group_nm_ops();
const std::vector<format_ops>& block_ops();
const std::vector<format_ops>& nm_ops();
const std::vector<format_ops>& level_ops();

}  // namespace llama
