// SPDX-License-Identifier: Apache-2.0
#pragma once
// const quern::matrix<P, Q>& w = bench::example<P, Q>(4096, 4096);   // half of the units kept, made once

#include <map>
#include <quern/core/rng.hpp>
#include <quern/format/pack.hpp>
#include <utility>
#include <vector>

namespace bench {

/// Bytes of copies that are gone through, more than any cache holds; and one copy, which stays in the cache.
constexpr std::size_t cold = std::size_t{256} << 20, cached = 0;

struct shape {
  std::size_t rows, cols, tokens, threads;
  std::size_t rotated;  // cold or cached
};

inline const std::vector<float>& inputs(std::size_t n) {
  static std::vector<float> x;
  quern::rng g(1);
  if (x.size() < n) {
    x.resize(n);
    for (float& f : x) f = g.normal();
  }
  return x;
}

/// A matrix with half of its units kept at random, where the pattern leaves a choice: rows of `group` and `bitmap`
/// and blocks of `bsr` are free and unbalanced.
template <class P, class Q>
const quern::matrix<P, Q>& example(std::size_t rows, std::size_t cols) {
  using namespace quern;
  static std::map<std::pair<std::size_t, std::size_t>, matrix<P, Q>> made;
  const auto found = made.find({rows, cols});
  if (found != made.end()) return found->second;
  rng g(2);
  std::vector<float> w(rows * cols);
  for (float& f : w) f = g.normal();
  bit_mask keep(rows, cols, P::kind == survivors::all);
  if (P::kind != survivors::all)
    for (std::size_t top = 0; top < rows; top += P::unit_rows)
      for (std::size_t unit = 0; unit<cols / P::unit_cols; unit += P::of> 0 ? P::of : 1) {
        // Of every N:M window the first N of a random order; else a coin for each unit.
        std::size_t alive = 0;
        for (std::size_t kept = 0; P::of > 0 && kept < P::keep;) {
          const std::size_t at = static_cast<std::size_t>(g.uniform() * static_cast<float>(P::of));
          if (at < P::of && (alive >> at & 1) == 0) alive |= std::size_t{1} << at, ++kept;
        }
        if (P::of == 0) alive = g.uniform() < 0.5f ? 1 : 0;
        for (std::size_t u = 0; u < (P::of > 0 ? P::of : 1); ++u)
          for (std::size_t i = 0; (alive >> u & 1) != 0 && i < P::unit_rows * P::unit_cols; ++i)
            if (top + i / P::unit_cols < rows && (unit + u + 1) * P::unit_cols <= cols)
              keep.set(top + i / P::unit_cols, (unit + u) * P::unit_cols + i % P::unit_cols, true);
      }
  return made.emplace(std::pair{rows, cols}, pack<P, Q>(span2<const float>(w.data(), rows, cols), keep))
      .first->second;
}

}  // namespace bench
