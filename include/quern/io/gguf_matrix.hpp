// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto file = quern::gguf_file::open("model.gguf");
// const quern::gguf_tensor* t = file->find("blk.0.ffn_up.weight");          // of type Q4_1
// auto w = quern::pack_gguf<quern::affine<4, 32, quern::f16_offset>>(*file, *t);
// quern::multiply(*w, x, y);                                                 // same codes, same scales

#include <quern/core/config.hpp>
#include <quern/format/pack.hpp>
#include <quern/io/gguf_blocks.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/symmetric.hpp>
#include <string>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The quantizer that holds the blocks of a GGUF type without loss.
template <gguf_type Type>
struct gguf_quantizer;
template <>
struct gguf_quantizer<gguf_type::q4_0> {
  using type = symmetric<4, 32>;
};
template <>
struct gguf_quantizer<gguf_type::q4_1> {
  using type = affine<4, 32, f16_offset>;
};
template <>
struct gguf_quantizer<gguf_type::q5_0> {
  using type = symmetric<5, 32>;
};
template <>
struct gguf_quantizer<gguf_type::q5_1> {
  using type = affine<5, 32, f16_offset>;
};
template <>
struct gguf_quantizer<gguf_type::q8_0> {
  using type = symmetric<8, 32>;
};

/// The GGUF type whose blocks Q holds without loss; `f32` where there is none.
template <quantizer Q>
constexpr gguf_type gguf_type_for() {
  using enum gguf_type;
  gguf_type out = f32;
  [&]<gguf_type... Types>() {
    ((std::is_same_v<Q, typename gguf_quantizer<Types>::type> ? static_cast<void>(out = Types)
                                                              : static_cast<void>(0)),
     ...);
  }
  .template operator()<q4_0, q4_1, q5_0, q5_1, q8_0>();
  return out;
}

/// Packs a tensor [rows x cols] of a GGUF file with the codes and scales it has: nothing is requantized.
/// @returns io_error where the tensor is of another type or holds a scale that is not finite
template <quantizer Q, executor Exec = serial>
result<matrix<dense, Q>> pack_gguf(const gguf_file& file, const gguf_tensor& t, Exec&& exec = Exec{}) {
  constexpr gguf_type wanted = gguf_type_for<Q>();
  static_assert(wanted != gguf_type::f32,
                "quern::pack_gguf: no GGUF type has these codes; dequantize and pack instead");
  const auto bad = [&](const auto&... why) {
    return io_error("quern::gguf: '", file.name(), "' offset ", t.offset, " ('", std::string(t.name),
                    "'): ", why...);
  };
  if (t.type != wanted)
    return bad("is of type ", static_cast<std::uint32_t>(t.type), "; ", Q::label(), " holds type ",
               static_cast<std::uint32_t>(wanted));
  const gguf_layout* block = gguf_layout_of(t.type);
  const std::span<const std::byte> bytes = file.data(t);
  coded_matrix<Q> coded(t.rows(), t.cols());
  const std::size_t runs = coded.runs();
  exec.parallel_for(t.rows(), 16, [&](std::size_t begin, std::size_t end) {
    gguf_codes codes;
    for (std::size_t r = begin; r < end; ++r)
      for (std::size_t run = 0; run < runs; ++run) {
        gguf_block_codes(t.type, bytes.data() + (r * runs + run) * block->bytes, codes);
        coded.params(r, run) = Q::params(codes.scale.bits, codes.min.bits, 1);
        for (std::size_t i = 0; i < 32; ++i) coded.code(r, run * 32 + i) = codes.code[i];
      }
  });
  auto out = try_pack<dense, Q>(coded, nullptr, exec);
  if (!out) return bad(out.error().what());
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
