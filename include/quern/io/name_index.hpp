// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::name_index index;
// for (std::size_t i = 0; i < tensors.size(); ++i) index.add(tensors[i].name, i);
// if (auto twice = index.sort()) ...   // a name that occurs twice
// const std::size_t at = index.find("blk.0.attn_q.weight");   // or name_index::none

#include <algorithm>
#include <cstddef>
#include <optional>
#include <quern/core/config.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// From names to positions. A sorted array: n log n for any names, where a pairwise search for duplicates is
/// quadratic and a hash table can be made so by a hostile file. The names must outlive the index.
class name_index {
 public:
  static constexpr std::size_t none = ~std::size_t{0};

  void add(std::string_view name, std::size_t position) { entries_.emplace_back(name, position); }

  /// To be called once, after the last add and before the first find.
  /// @return the position of the later of two equal names, if there are any
  std::optional<std::size_t> sort() {
    std::sort(entries_.begin(), entries_.end());
    const auto twice = std::adjacent_find(entries_.begin(), entries_.end(),
                                          [](const auto& a, const auto& b) { return a.first == b.first; });
    if (twice == entries_.end()) return std::nullopt;
    return (twice + 1)->second;
  }

  /// The position of @p name, or none. O(log n).
  std::size_t find(std::string_view name) const {
    const auto at = std::lower_bound(entries_.begin(), entries_.end(), name,
                                     [](const auto& entry, std::string_view n) { return entry.first < n; });
    return at != entries_.end() && at->first == name ? at->second : none;
  }

 private:
  std::vector<std::pair<std::string_view, std::size_t>> entries_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
