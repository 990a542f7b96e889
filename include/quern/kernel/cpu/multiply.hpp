// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply(w, x, y);                // y[rows] = W[rows x cols] x[cols], exact float activations
// quern::multiply(w, xs, ys, pool);        // ys[n x rows] = xs[n x cols] W^T: a batch, one token per row
// quern::multiply(w, a.view(), ys, pool);  // prepared activations: int8, faster, see prepare.hpp
// quern::multiply<quern::isa_list<quern::isa::scalar>>(w, x, y);

#include <quern/core/config.hpp>
#include <quern/core/executor.hpp>
#include <quern/kernel/cpu/prepare.hpp>
#include <quern/kernel/cpu/split.hpp>
#include <span>

namespace quern::inline v0 {

/// Weights times vectors that a thread must have for itself: a product of less than about twice as many stays in one
/// thread. Set so that 576 x 576 does and 1536 x 576 is shared, the sizes between which a prototype's second thread began
/// to pay; not tuned for these kernels.
inline constexpr std::size_t grain_weights = std::size_t{1} << 18;

/// Bytes beside the codes up to which read_ahead() reads them: they must still be in the first cache afterwards.
inline constexpr std::size_t read_ahead_bytes = 16 << 10;

inline namespace QUERN_BUILD {

/// Reads the streams beside the codes, line by line in the order in which they lie before the codes, if they are small. A
/// kernel begins three to six streams at once, and memory takes about a microsecond until it delivers them at its full
/// rate; read in order, a small matrix is one run of memory that goes on where the one before it ended. multiply() does so
/// where one call takes the whole matrix; before the inputs are prepared, it also hides what that takes. Loads, because
/// prefetches are dropped where many are under way. (576 x 576 from memory, quantization included, one Zen 4 core:
/// bsr<16,64> 3.92 us without, 3.55 with it, 3.38 before the inputs; in the cache 1.71, 1.73 and 1.80.)
template <class P, class Q>
void read_ahead(const matrix_view<P, Q>& w) noexcept {
  const storage sizes = w.bytes();
  constexpr int codes = static_cast<int>(stream::codes);
  std::size_t all = 0;
  for (int s = 0; s < codes; ++s) all += sizes.bytes[s];
  if (all > read_ahead_bytes) return;
  for (int s = 0; s < codes; ++s)
    for (std::size_t i = 0; i < sizes.bytes[s]; i += 64)
      static_cast<void>(*static_cast<const volatile std::byte*>(w[static_cast<stream>(s)] + i));
}

/// Tiles [begin, end) of y = x W^T, 16 rows each, for an engine that owns its threads: call it for disjoint
/// ranges of layout<P, Q>::tiles(rows) from any thread, in any order. What multiply() refuses must hold here: x.cols() =
/// W.cols(), y [x.tokens() x W.rows()], begin <= end <= tiles, x holds tables_of<P>; x and y must not overlap. Debug builds
/// assert the shapes, nothing else is checked.
/// @returns false if no listed instruction set can run this format on this CPU; y is then what it was
template <class Isas = default_isas, class P, class Q, class A>
[[nodiscard]] bool multiply_tiles(const matrix_view<P, Q>& w, std::size_t begin, std::size_t end,
                                  const activation_view<A>& x, span2<float> y) noexcept {
  QUERN_ASSERT(x.cols() == w.cols());
  QUERN_ASSERT(y.cols() == w.rows() && y.rows() == x.tokens());
  QUERN_ASSERT(begin <= end && end <= (layout<P, Q>::tiles(w.rows())));
  return [&]<class... I>(isa_list<I...>) {
    return ([&] {
      if constexpr (kernel<I>::template supports<P, Q, A>)
        if (I::available()) {
          if (begin == 0 && end == layout<P, Q>::tiles(w.rows())) read_ahead(w);
          kernel<I>::multiply_tiles(w, begin, end, x, y);
          return true;
        }
      return false;
    }() || ...);
  }(Isas{});
}

/// Whether some listed instruction set can multiply this format on this CPU: ask before compressing.
template <class Isas, sparsity_pattern P, quantizer Q, class A = float>
bool is_runnable() {
  return []<class... I>(isa_list<I...>) {
    return ((kernel<I>::template supports<P, Q, A> && I::available()) || ...);
  }(Isas{});
}
/// The same for default_isas.
template <sparsity_pattern P, quantizer Q, class A = float>
bool is_runnable() {
  return is_runnable<default_isas, P, Q, A>();
}

/// y [n x rows] = x [n x cols] W^T; n = 1 is one vector. The one place where the run-time choice of an
/// instruction set meets compile-time formats. Results do not depend on the executor.
///
/// An input that is NaN or infinite makes the outputs of its vector NaN or infinite whose rows store a weight for it, or,
/// where inputs share a scale, for one of those that share it (with int8_per_token: all outputs), and no others. In
/// batches of more than gemv_tokens int8 vectors it may reach any output of its vector where rows have units of their own
/// (survivors::masked).
/// Exact floats: of codes of 2 and 4 bits sums of code times input are scaled once per run, so inputs must be below
/// 2^127 / (2^bits run) for them to be finite; other formats need finite products and sums only.
/// Stack: less than 160 KB, and 20 bytes more for each input that a run of more than 64 of `dense`, or a unit of a listed
/// pattern, spans; isa::scalar takes 12 bytes for each code of a cell.
/// @throws shape_error on a length mismatch, if no listed instruction set can run, or if x was prepared without the
/// tables that P reads
template <class Isas = default_isas, class P, class Q, class A, executor Exec = serial>
void multiply(const matrix_view<P, Q>& w, const activation_view<A>& x, span2<float> y, Exec&& exec = Exec{}) {
  require(x.cols() == w.cols(), "quern::multiply: x must have W.cols = ", w.cols(), " columns, got ",
          x.cols());
  require(y.cols() == w.rows(), "quern::multiply: y must have W.rows = ", w.rows(), " columns, got ",
          y.cols());
  require(x.tokens() == y.rows(), "quern::multiply: x and y must hold equally many vectors, got ", x.tokens(),
          " and ", y.rows());
  require(is_runnable<Isas, P, Q, A>(),
          "quern::multiply: none of the listed ISAs can run this format on this CPU");
  if constexpr (has_int8_kernel<P, Q, A>())
    require(x.shape.tiled() || (tables_of<P> & ~x.shape.filled) == 0,
            "quern::multiply: x was prepared without the tables of ", P::label().c_str(),
            "; pass its tables_of, or all_tables, to prepare()");
  const work_split<P, Q> work(w);
  if (work.size() == 0 || x.tokens() == 0) return;
  const std::size_t weights = w.rows() * w.cols() * x.tokens();
  const std::size_t grain = work.size() * grain_weights / (weights + 1) + 1;
  exec.parallel_for(work.size(), grain, [&](std::size_t begin, std::size_t end) {
    static_cast<void>(multiply_tiles<Isas>(w, work.tile(begin), work.tile(end), x, y));
  });
}
template <class Isas = default_isas, class P, class Q, executor Exec = serial>
void multiply(const matrix_view<P, Q>& w, span2<const float> x, span2<float> y, Exec&& exec = Exec{}) {
  multiply<Isas>(w, activation_view<float>{x}, y, exec);
}
template <class Isas = default_isas, class P, class Q, executor Exec = serial>
void multiply(const matrix_view<P, Q>& w, std::span<const float> x, std::span<float> y,
              Exec&& exec = Exec{}) {
  multiply<Isas>(w, span2<const float>(x.data(), 1, x.size()), span2<float>(y.data(), 1, y.size()), exec);
}
template <class Isas = default_isas, class P, class Q, class A, executor Exec = serial>
void multiply(const matrix<P, Q>& w, const activation_view<A>& x, span2<float> y, Exec&& exec = Exec{}) {
  multiply<Isas>(w.view(), x, y, exec);
}
template <class Isas = default_isas, class P, class Q, executor Exec = serial>
void multiply(const matrix<P, Q>& w, span2<const float> x, span2<float> y, Exec&& exec = Exec{}) {
  multiply<Isas>(w.view(), x, y, exec);
}
template <class Isas = default_isas, class P, class Q, executor Exec = serial>
void multiply(const matrix<P, Q>& w, std::span<const float> x, std::span<float> y, Exec&& exec = Exec{}) {
  multiply<Isas>(w.view(), x, y, exec);
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
