// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::safetensors_writer out;
// quern::add_packed(out, "blk.0.ffn_up.weight", w.view());     // streams must outlive write()
// out.write("model.safetensors");
// auto file = quern::safetensors_file::open("model.safetensors");
// auto v = quern::find_packed<quern::group<16>, quern::affine<4, 16>>(*file, "blk.0.ffn_up.weight");
// quern::multiply(*v, x, y);                                   // from the mapped file, nothing is copied

#include <charconv>
#include <quern/core/config.hpp>
#include <quern/format/validate.hpp>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <string>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// A packed matrix is stored as one tensor per stream, named `<matrix>.<stream>`, and one entry of
/// `__metadata__`:
///   "quern.packed:<matrix>": "2 group<16> affine<4,16> <rows> <cols> <cells>"
/// where 2 is the version of the packed layout. Other tools can open the file; streams keep their padding, so
/// that file and memory hold the same bytes.
inline constexpr const char* packed_key = "quern.packed:";
inline constexpr int packed_version = 2;

/// What a file says of one packed matrix, before `checked` has looked at the streams.
struct packed_entry {
  std::string pattern, quantizer;
  packed_view raw;
  storage sizes;  ///< bytes of each stream in the file
};

/// The element type a stream has in a file: what other tools can make sense of.
template <sparsity_pattern P, quantizer Q>
constexpr dtype stream_dtype(stream s, std::size_t cols) {
  switch (s) {
    case stream::begin:
      return dtype::u32;
    case stream::row_scale:
      return dtype::f16;
    case stream::index:
      if (P::kind == survivors::masked) return dtype::u16;
      if (P::kind == survivors::listed && layout<P, Q>::index_bytes(cols) == 2) return dtype::u16;
      return P::kind == survivors::listed && layout<P, Q>::index_bytes(cols) == 4 ? dtype::u32 : dtype::u8;
    case stream::scale:
      // bf16 and fp16 scales of value 1 differ in bits: that tells the policies apart without naming them.
      if (Q::scale_bits < 16) return dtype::u8;
      return Q::scale_code({1, 0}, 1) == to_f16(1).bits ? dtype::f16 : dtype::bf16;
    case stream::zero:
      return Q::zero_bits == 16 ? dtype::f16 : dtype::u8;
    default:
      if (Q::bits == 32) return dtype::f32;
      if (Q::bits == 16) return Q::encode(1, {1, 0}) == to_f16(1).bits ? dtype::f16 : dtype::bf16;
      return dtype::u8;
  }
}

/// Adds the streams of @p w and their description. The memory behind @p w must stay until write() returns.
template <sparsity_pattern P, quantizer Q>
void add_packed(safetensors_writer& out, const std::string& matrix, const matrix_view<P, Q>& w) {
  out.metadata(packed_key + matrix, std::to_string(packed_version) + ' ' + P::label().c_str() + ' ' +
                                        Q::label().c_str() + ' ' + std::to_string(w.rows()) + ' ' +
                                        std::to_string(w.cols()) + ' ' + std::to_string(w.cells()));
  const storage sizes = w.bytes();
  for (int i = 0; i < stream_count; ++i) {
    const stream s = static_cast<stream>(i);
    if (sizes[s] == 0) continue;
    const dtype type = stream_dtype<P, Q>(s, w.cols());
    out.add(matrix + '.' + stream_name(s), type, {sizes[s] / (bits_of(type) / 8)}, {w[s], sizes[s]});
  }
}

/// Whether @p file holds a packed matrix of that name.
inline bool is_packed(const safetensors_file& file, const std::string& matrix) {
  return file.metadata(packed_key + matrix) != nullptr;
}

/// The description and the streams of a packed matrix.
/// @returns io_error if there is none, or if its description cannot be read
inline result<packed_entry> find_packed(const safetensors_file& file, const std::string& matrix) {
  const std::string* text = file.metadata(packed_key + matrix);
  const auto bad = [&](const char* field, const auto&... why) {
    return io_error("quern::checkpoint: '", file.name(), "': '", matrix, "' (", field, "): ", why...);
  };
  if (text == nullptr) return bad("__metadata__", "is not a packed matrix of this file");
  packed_entry out;
  std::string version;
  std::string* const words[] = {&version, &out.pattern, &out.quantizer};
  std::size_t at = 0;
  for (std::string* w : words) {
    const std::size_t end = std::min(text->find(' ', at), text->size());
    *w = text->substr(at, end - at);
    at = std::min(end + 1, text->size());
  }
  if (version != std::to_string(packed_version))
    return bad("version", "is '", version, "', this library reads ", packed_version);
  std::size_t* const numbers[] = {&out.raw.rows, &out.raw.cols, &out.raw.cells};
  for (std::size_t* n : numbers) {
    const char* end = text->data() + text->size();
    const auto [p, problem] = std::from_chars(text->data() + at, end, *n);
    const bool last = n == numbers[2];
    if (problem != std::errc() || (last ? p != end : p == end || *p != ' '))
      return bad("shape", "'", *text, "' must end in rows, columns and cells");
    at = static_cast<std::size_t>(p - text->data()) + 1;
  }
  for (int i = 0; i < stream_count; ++i) {
    const tensor_info* t = file.find(matrix + '.' + stream_name(static_cast<stream>(i)));
    if (t == nullptr) continue;
    out.raw.at[i] = file.data(*t).data();
    out.sizes.bytes[i] = t->bytes;
  }
  return out;
}

/// A packed matrix of known type, checked, in the mapped file; valid as long as the file is open:
/// moving @p file keeps the mapping, and views of it, where they are.
template <sparsity_pattern P, quantizer Q>
result<matrix_view<P, Q>> find_packed(const safetensors_file& file, const std::string& matrix) {
  auto entry = find_packed(file, matrix);
  if (!entry) return entry.error();
  if (entry->pattern != P::label().c_str() || entry->quantizer != Q::label().c_str())
    return io_error("quern::checkpoint: '", file.name(), "': '", matrix, "' (format): is ", entry->pattern,
                    " ", entry->quantizer, ", asked for ", P::label(), " ", Q::label());
  auto view = checked<P, Q>(entry->raw, entry->sizes);
  if (!view) return io_error("quern::checkpoint: '", file.name(), "': '", matrix, "': ", view.error().what());
  return view;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
