// SPDX-License-Identifier: Apache-2.0
#pragma once
// template <> struct quern::kernel<quern::isa::scalar> { ... };   // see isa/scalar.hpp

#include <quern/core/isa.hpp>
#include <quern/core/span2.hpp>
#include <quern/format/matrix.hpp>
#include <quern/kernel/cpu/activations.hpp>
#include <quern/kernel/cpu/int8_plan.hpp>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The customisation point of an instruction set. A specialisation has
///   template <class P, class Q, class A> static constexpr bool supports;   // decided at compile time
///   template <class P, class Q, class A>
///   static void multiply_tiles(const matrix_view<P, Q>&, std::size_t begin, std::size_t end,
///                              const activation_view<A>& x, span2<float> y) noexcept;
///   template <class A> static constexpr bool prepares;
///   template <class A>
///   static void prepare(const activation_view<A>&, std::size_t begin, std::size_t end) noexcept;
/// multiply_tiles writes rows [16 begin, 16 end) of W x to columns 16 begin .. of y [tokens x rows], whatever
/// was there, and allocates nothing. Tiles do not depend on each other. prepare fills parts [begin, end) of
/// activation_layout::parts().
template <class Isa>
struct kernel;

/// Base of the kernels of instruction sets that this machine cannot compile.
struct no_kernel {
  template <class P, class Q, class A>
  static constexpr bool supports = false;
  template <class A>
  static constexpr bool prepares = false;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
