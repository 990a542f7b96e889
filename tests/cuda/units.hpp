// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<std::uint8_t> alive = units_of<quern::group<16>>(mask);   // [block rows][units]

#include <quern/pattern/mask.hpp>
#include <vector>

namespace quern_test {

/// Whether the units of a mask survive, one byte each.
template <class P>
std::vector<std::uint8_t> units_of(const quern::bit_mask& m) {
  const std::size_t units = quern::units_per_row<P>(m.cols());
  std::vector<std::uint8_t> out(quern::block_rows<P>(m.rows()) * units);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = m(i / units * P::unit_rows, i % units * P::unit_cols) ? 1 : 0;
  return out;
}

}  // namespace quern_test
