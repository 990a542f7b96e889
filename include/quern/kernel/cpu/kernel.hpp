// SPDX-License-Identifier: Apache-2.0
#pragma once
// template <> struct quern::kernel<quern::isa::scalar> { ... };   // see isa/scalar.hpp

#include <quern/core/isa.hpp>
#include <quern/core/span2.hpp>
#include <quern/format/matrix.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The customisation point of an instruction set. A specialisation has
///   template <class P, class Q> static constexpr bool supports;   // decided at compile time
///   template <class P, class Q>
///   static void multiply_tile(const matrix_view<P, Q>&, std::size_t tile, span2<const float> x, span2<float>
///   y) noexcept;
/// multiply_tile writes rows [16 tile, 16 tile + 16) of W x to columns 16 tile .. of y [tokens x rows]; x is
/// [tokens x cols], one token per row, with rows of at least cols floats. It allocates nothing.
template <class Isa>
struct kernel;

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
