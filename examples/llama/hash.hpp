// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::uint64_t h = llama::hash(llama::hash_seed, ids.data(), ids.size_bytes());

#include <cstddef>
#include <cstdint>

namespace llama {

inline constexpr std::uint64_t hash_seed = 0xcbf29ce484222325u;

/// FNV-1a, continued from @p seed: tells two runs apart, not two adversaries.
inline std::uint64_t hash(std::uint64_t seed, const void* data, std::size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < bytes; ++i) seed = (seed ^ p[i]) * 0x100000001b3u;
  return seed;
}

}  // namespace llama
