// SPDX-License-Identifier: Apache-2.0
#pragma once
// const llama::decode_costs t = llama::decode_times(db, 15, "levels", pool).value();
// auto task = llama::joint_task(db, budget, t.ns);

#include <cstdint>
#include <quern/core/error.hpp>
#include <quern/core/thread_pool.hpp>
#include <string>
#include <vector>

namespace llama {

class level_db;

/// What one token costs.
struct decode_costs {
  std::vector<std::vector<std::int64_t>> ns;  ///< [linears][levels] in the order of the database
  std::string path;                           ///< where they are kept
  std::size_t measured = 0;                   ///< products that were timed by this call; 0: all were found
};

/// Nanoseconds of one token through every level of every linear on this machine, the median of @p repeats, measured once
/// per shape and format. They are kept in @p folder and found there by the next call: a clock never gives the same
/// numbers again, and a search that is resumed, or compared with another, must count the same costs. The name of the
/// file holds a hash of what times depend on: processor, instruction sets, threads, repeats and version.
/// @returns an error that names a file which is damaged or cannot be written
quern::result<decode_costs> decode_times(const level_db& db, std::size_t repeats, const std::string& folder,
                                         quern::thread_pool& pool);

}  // namespace llama
