// SPDX-License-Identifier: Apache-2.0
#pragma once
// Included by the formats_*.cpp only: each instantiates one family of formats, so that they compile side by
// side. const std::vector<llama::format_ops> ops = llama::make_ops<my_list>();

#include <llama/formats_families.hpp>
#include <quern/eigen.hpp>

#include <quern/compress/layer.hpp>
#include <quern/train/trained_weight.hpp>

namespace llama {

/// The programs are built for the machine that runs them (-march=native): the instruction sets that it has, best
/// first. Programs without that flag are for any machine, and AVX2 and the oracle do.
#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
using isas = quern::isa_list<quern::isa::avx512_vnni, quern::isa::avx512_bf16, quern::isa::avx512>;
#elif defined(__AVX512VNNI__)
using isas = quern::isa_list<quern::isa::avx512_vnni, quern::isa::avx512>;
#elif defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512CD__)
using isas = quern::isa_list<quern::isa::avx512, quern::isa::avx2>;
#elif defined(__x86_64__)
using isas = quern::isa_list<quern::isa::avx2>;
#else
using isas = quern::isa_list<quern::isa::i8mm, quern::isa::neon_dot>;
#endif
#if defined(__AVX2__) && defined(__FMA__)
inline constexpr bool built_for_this_machine = true;
#else
inline constexpr bool built_for_this_machine = false;
#endif

/// The instruction sets that a product is compiled for. Seventy formats times four kinds of input times all of `isas`
/// would be most of the time to compile: where the machine is known, it is the first that has a kernel.
template <class P, class Q, class A, class... I>
constexpr auto choose_isas(quern::isa_list<I...>) {
  return quern::isa_list<I..., quern::isa::scalar>();
}
template <class P, class Q, class A, class First, class... Rest>
requires(built_for_this_machine) constexpr auto choose_isas(quern::isa_list<First, Rest...>) {
  if constexpr (quern::kernel<First>::template supports<P, Q, A>)
    return quern::isa_list<First>();
  else
    return choose_isas<P, Q, A>(quern::isa_list<Rest...>());
}
template <class P, class Q, class A>
using isas_of = decltype(choose_isas<P, Q, A>(isas()));

/// Whether activations A are what the kernels of a format read. Other formats, and the oracle, take the floats.
template <class P, class Q, class A>
constexpr bool is_read() {
  return []<class... I>(quern::isa_list<I...>) {
    return (quern::has_integer_kernel<P, Q, A>() || quern::has_bf16_kernel<P, Q, A>()) &&
           (quern::kernel<I>::template supports<P, Q, A> || ...);
  }(isas());
}

/// Calls f.operator()<A>() for the activations that a format reads for @p kind.
template <class P, class Q, class F>
auto with_activations(activation kind, std::size_t tokens, F&& f) {
  using namespace quern;
  if constexpr (is_read<P, Q, int8_groups<32>>())
    if (kind == activation::int8) return f.template operator()<int8_groups<32>>();
  if constexpr (is_read<P, Q, int8_per_token>())
    if (kind == activation::int8_token) return f.template operator()<int8_per_token>();
  // There are no kernels of int24 and bf16 for batches.
  if constexpr (is_read<P, Q, int24>())
    if (kind == activation::int24 && tokens < panel_batch) return f.template operator()<int24>();
  if constexpr (is_read<P, Q, bf16>())
    if (kind == activation::bf16 && tokens < panel_batch) return f.template operator()<bf16>();
  return f.template operator()<float>();
}

/// An executor that does items [begin, end) of a loop and leaves the others to whoever calls for them.
struct only_range {
  std::size_t begin, end;
  static constexpr std::size_t concurrency() { return 1; }
  template <class F>
  void parallel_for(std::size_t, std::size_t, F&& f) const {
    if (begin < end) f(begin, end);
  }
};

/// Packs codes as they are and keeps the matrix alive.
template <class P, class Q>
quern::result<packed_matrix> packed_codes(const quern::coded_matrix<Q>& codes, const quern::bit_mask& mask,
                                          quern::thread_pool& pool) {
  auto m = quern::try_pack<P, Q>(codes, &mask, pool);
  if (!m) return m.error();
  auto owner = std::make_shared<quern::matrix<P, Q>>(std::move(*m));
  return packed_matrix{find_format(P::label().c_str(), Q::label().c_str()), owner->view().raw(), owner};
}

template <class P, class Q>
format_ops ops_of() {
  using namespace quern;
  format_ops o;
  o.pattern = P::label().c_str();
  o.quantizer = Q::label().c_str();
  o.bytes = [](std::size_t rows, std::size_t cols, std::size_t cells) {
    return layout<P, Q>::bytes(rows, cols, cells);
  };
  o.check = [](const packed_view& raw, const storage& sizes) -> result<void> {
    const auto v = checked<P, Q>(raw, sizes);
    if (!v) return v.error();
    return {};
  };
  o.reads = [](activation kind, std::size_t tokens) {
    return with_activations<P, Q>(kind, tokens, []<class A>() {
      return std::is_same_v<A, float> ? reading{} : reading{true, is_int8<A> ? tables_of<P> : 0};
    });
  };
  o.pieces = [](const packed_view& raw, const input& x) {
    return with_activations<P, Q>(x.kind(), x.tokens(), [&]<class A>() {
      if (std::is_same_v<A, float> && x.tokens() >= panel_batch)
        return (raw.rows + panel_rows - 1) / panel_rows;
      return work_split<P, Q>(matrix_view<P, Q>(raw)).size();
    });
  };
  o.multiply = [](const packed_view& raw, const input& x, span2<float> y, std::size_t begin,
                  std::size_t end) {
    with_activations<P, Q>(x.kind(), x.tokens(), [&]<class A>() {
      const matrix_view<P, Q> w(raw);
      const only_range part{begin, end};
      if (std::is_same_v<A, float> && x.tokens() >= panel_batch)
        multiply_panels(w, x.floats(), y, part);
      else
        quern::multiply<isas_of<P, Q, A>>(w, x.view<A>(), y, part);
    });
  };
  o.unpack_rows = [](const packed_view& raw, std::size_t first, span2<float> out) {
    quern::unpack_rows(matrix_view<P, Q>(raw), first, out);
  };
  o.pack = [](span2<const float> w, const bit_mask* mask, thread_pool& pool) -> result<packed_matrix> {
    auto m = try_pack<P, Q>(w, mask, pool);
    if (!m) return m.error();
    auto owner = std::make_shared<matrix<P, Q>>(std::move(*m));
    return packed_matrix{find_format(P::label().c_str(), Q::label().c_str()), owner->view().raw(), owner};
  };
  o.compress = [](span2<const float> w, const inverse_hessian& h, const compress_options& options,
                  thread_pool& pool) -> result<packed_matrix> {
    const auto layer = compress_layer<P, Q>(w, h, options, pool);
    if (!layer) return layer.error();
    return packed_codes<P>(layer->codes, layer->mask, pool);
  };
  o.train = [](const packed_view& raw) {
    bit_mask keep;
    coded_matrix<Q> codes = unpack_codes(matrix_view<P, Q>(raw), &keep);
    return trained_weight::start<Q>(codes.rows(), codes.cols(), std::move(keep),
                                    [&](std::size_t r) { return codes.row(r); });
  };
  o.pack_trained = [](const trained_weight& w, thread_pool& pool) -> result<packed_matrix> {
    coded_matrix<Q> codes(w.rows(), w.cols());
    for (std::size_t r = 0; r < w.rows(); ++r) codes.row_scale(r) = w.store<Q>(r, codes.row(r));
    if (const auto ok = check_codes(codes); !ok) return ok.error();
    return packed_codes<P>(codes, w.keep(), pool);
  };
  o.save = [](safetensors_writer& out, const std::string& name, const packed_view& raw) {
    add_packed(out, name, matrix_view<P, Q>(raw));
  };
  return o;
}

template <class List>
std::vector<format_ops> make_ops() {
  std::vector<format_ops> out;
  quern::for_each_format<List>([&]<class P, class Q>() { out.push_back(ops_of<P, Q>()); });
  return out;
}

}  // namespace llama
