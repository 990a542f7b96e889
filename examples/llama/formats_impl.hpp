// SPDX-License-Identifier: Apache-2.0
#pragma once
// Included by the formats_*.cpp only: each instantiates one family of formats, so that they compile side by
// side. const std::vector<llama::format_ops> ops = llama::make_ops<my_list>();

#include <llama/formats.hpp>
#include <quern/eigen.hpp>

#include <quern/compress/layer.hpp>
#include <quern/train/trained_weight.hpp>

namespace llama {

/// The programs are built for the machine that runs them (-march=native): one instruction set and the oracle, for
/// each of the many formats, instead of all that this kind of machine may have.
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && defined(__AVX512CD__)
using isas = quern::isa_list<quern::isa::avx512, quern::isa::scalar>;
#elif defined(__AVX2__) && defined(__FMA__)
using isas = quern::isa_list<quern::isa::avx2, quern::isa::scalar>;
#else
using isas = quern::default_isas;
#endif

/// From how many vectors on a matrix is decoded to panels and multiplied by Eigen.
inline constexpr std::size_t panel_batch = 8;

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
  o.multiply = [](const packed_view& raw, span2<const float> x, span2<float> y, thread_pool& pool) {
    const matrix_view<P, Q> w(raw);
    if (x.rows() >= panel_batch)
      multiply_panels(w, x, y, pool);
    else
      quern::multiply<isas>(w, x, y, pool);
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

const std::vector<format_ops>& dense_ops();
const std::vector<format_ops>& group_ops();
const std::vector<format_ops>& block_ops();
const std::vector<format_ops>& nm_ops();
const std::vector<format_ops>& level_ops();

}  // namespace llama
