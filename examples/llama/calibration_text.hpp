// SPDX-License-Identifier: Apache-2.0
#pragma once
// if (const auto ok = llama::check_calibration("llama::level_db", m.shape, ids.size(), 512, 64); !ok) return ok.error();

#include <cstddef>
#include <llama/config.hpp>
#include <quern/core/error.hpp>

namespace llama {

/// Whether a text of @p tokens has @p windows windows of @p context positions that a model can take.
/// @param who  what asks, the beginning of the error
inline quern::result<void> check_calibration(const char* who, const config& shape, std::size_t tokens,
                                             std::size_t context, std::size_t windows) {
  if (context == 0 || context > shape.context || windows == 0 || tokens / context < windows)
    return quern::error(who, ": the calibration text has ", tokens, " tokens; ", windows, " windows of ",
                        context, " (at most ", shape.context,
                        ") are asked for: take a longer text or fewer windows");
  return {};
}

}  // namespace llama
