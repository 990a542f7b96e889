// SPDX-License-Identifier: Apache-2.0
#pragma once
// template <quern::sparsity_pattern P> void f();   // P = quern::group<16>, quern::nm<2, 4>, ...

#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/name.hpp>

namespace quern::inline v0 {

/// How the survivors of a pattern are found again. Every kernel is written for one of these four, so a new
/// pattern that fits one of them needs no new kernel.
enum class survivors {
  all,        ///< every weight is stored
  listed,     ///< blocks of 16, 32, .. rows: a list of block columns per block row
  masked,     ///< units of 1, 2, 4 or 8 rows: a 16-bit mask per window of at most 16 units
  positions,  ///< N of every M consecutive weights: a small position for each
};

/// A sparsity pattern: an empty type that says which sets of weights may survive.
///
/// A pattern cuts W [rows x cols] into units of `unit_rows` x `unit_cols` weights that live or die together.
/// The laws the compiler cannot check: units tile the matrix from its upper left corner, units at the right
/// and lower edge are completed with zeros, and `label()` is the C++ spelling of the type, a constant.
template <class P>
concept sparsity_pattern = requires {
  {P::unit_rows + P::unit_cols};
  {P::kind == survivors::all};
  {P::keep + P::of};  // at most `keep` of every `of` consecutive units of a row survive; 0, 0: any number
  {P::label()};
};

inline namespace QUERN_BUILD {

/// Units per row of a matrix with @p cols inputs; the last one may be completed with zeros.
template <sparsity_pattern P>
constexpr std::size_t units_per_row(std::size_t cols) {
  return (cols + P::unit_cols - 1) / P::unit_cols;
}

/// Block rows: groups of unit_rows rows that share one list of survivors.
template <sparsity_pattern P>
constexpr std::size_t block_rows(std::size_t rows) {
  return (rows + P::unit_rows - 1) / P::unit_rows;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
