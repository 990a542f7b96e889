// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::activations<> a;                 // int8, one scale per 32 inputs
// a.assign(x);                            // quantize once ..
// quern::multiply(w_q, a.view(), q);      // .. for all matrices that read x
// quern::multiply(w_k, a.view(), k);
// a.assign(x, pool, quern::tables_of<quern::bsr<16, 32>>);      // in half the time, for weights of this pattern

#include <quern/core/buffer.hpp>
#include <quern/core/executor.hpp>
#include <quern/kernel/cpu/isa/avx2.hpp>
#include <quern/kernel/cpu/isa/avx512.hpp>
#include <quern/kernel/cpu/isa/neon.hpp>
#include <quern/kernel/cpu/isa/scalar.hpp>

namespace quern::inline v0 {

/// Tried from left to right; the first that the format supports and the CPU has does the work. On a CPU with
/// AVX-512 but without its dot products, int8 activations fall to avx2.
using default_isas = isa_list<isa::avx512_vnni, isa::avx512_bf16, isa::avx512, isa::avx_vnni, isa::avx2,
                              isa::i8mm, isa::neon_dot, isa::scalar>;

/// Inputs below which they are prepared in one thread: about 2 us of work, some tens of forks and joins.
inline constexpr std::size_t grain_prepared = std::size_t{1} << 13;

inline namespace QUERN_BUILD {

/// Prepares @p x [tokens x cols] in caller-owned memory: allocates nothing. By isa::scalar where no listed instruction
/// set prepares A. The result does not depend on the instruction set (the sums beside bf16 inputs do, by their rounding)
/// or the executor. A NaN or infinity makes all outputs that read its group NaN or infinite; see multiply().
/// @param memory  workspace_bytes<A>(x.rows(), x.cols()) bytes at a 64-byte boundary, which the view then uses
/// @param tables  what the patterns of the weights read, tables_of<bsr<16, 32>>: less to do for int8 vectors than for
///                all patterns (576 inputs: .19 us instead of .41, one Zen 4 core)
template <class A, class Isas = default_isas, executor Exec = serial>
activation_view<A> prepare(span2<const float> x, std::byte* memory, Exec&& exec = Exec{},
                           unit_tables tables = all_tables) noexcept {
  activation_view<A> a;
  if constexpr (!std::is_same_v<A, float>) {
    a.shape = {x.rows(), x.cols(), 32, tables};
    if constexpr (is_int8<A>) a.shape.group = A::group;
    a.source = x;
    a.memory = memory;
    const auto prepare_with = [&]<class I>() {
      if constexpr (kernel<I>::template prepares<A>)
        if (I::available()) {
          exec.parallel_for(a.shape.parts(), grain_prepared / (x.cols() + 1) / (a.shape.tiled() ? 12 : 1) + 1,
                            [&](std::size_t begin, std::size_t end) { kernel<I>::prepare(a, begin, end); });
          return true;
        }
      return false;
    };
    // What is listed may multiply the floats alone; the codes are prepared all the same.
    [&]<class... I>(isa_list<I...>) {
      static_cast<void>((prepare_with.template operator()<I>() || ...) ||
                        prepare_with.template operator()<isa::scalar>());
    }(Isas{});
  } else {
    a.source = x;
  }
  return a;
}

/// Activations that own their memory; `assign` reuses it and allocates only to grow.
/// @tparam A  int8_groups<32>, int8_groups<64>, int8_groups<128>, int8_per_token, int24, bf16, or float (exact)
template <class A = int8_groups<32>, class Isas = default_isas>
class activations {
 public:
  activations() = default;
  explicit activations(span2<const float> x) { assign(x); }
  /// @p x [tokens x cols] must stay where it is as long as the view is used: formats without an int8 kernel
  /// read it. @param tables  see prepare()
  template <executor Exec = serial>
  void assign(span2<const float> x, Exec&& exec = Exec{}, unit_tables tables = all_tables) {
    const std::size_t need = workspace_bytes<A>(x.rows(), x.cols());
    if (need > memory_.size()) memory_ = buffer(need);
    view_ = prepare<A, Isas>(x, memory_.data(), exec, tables);
  }
  const activation_view<A>& view() const& { return view_; }
  const activation_view<A>& view() const&& = delete;  ///< it would outlive the memory that it shows

 private:
  buffer memory_;
  activation_view<A> view_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
