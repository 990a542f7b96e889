// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto file = quern::gguf_file::open("model.gguf");
// if (!file) return file.error();
// auto layers = file->number<std::uint32_t>("llama.block_count");      // or an error that names the key
// const quern::gguf_tensor* q = file->find("blk.0.attn_q.weight");     // null when absent
// std::span<const std::byte> blocks = file->data(*q);                  // q->rows() x q->cols()

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/io/byte_reader.hpp>
#include <quern/io/gguf_types.hpp>
#include <quern/io/gguf_value.hpp>
#include <quern/io/mapped_file.hpp>
#include <quern/io/name_index.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// One tensor of a GGUF file.
struct gguf_tensor {
  std::string_view name;  ///< at most 63 bytes, valid as long as the file object
  gguf_type type = gguf_type::f32;
  unsigned dimensions = 0;                        ///< 0..4
  std::array<std::size_t, 4> extent{1, 1, 1, 1};  ///< innermost first, unlike in torch; each at least 1
  std::size_t offset = 0;                         ///< of the first byte, counted from the start of the file
  std::size_t bytes = 0;

  /// Contiguous elements: the inputs of a linear layer.
  std::size_t cols() const { return extent[0]; }
  /// The product of the other extents: the outputs of a linear layer.
  std::size_t rows() const { return extent[1] * extent[2] * extent[3]; }
};

/// A GGUF file, version 2 or 3, little-endian, read in place. All its sizes have been checked against the
/// file's length when it exists. Format: docs/gguf.md of github.com/ggml-org/ggml.
class gguf_file {
 public:
  /// Maps @p path and checks it. @return io_error with file, offset and field
  static result<gguf_file> open(const std::string& path, const read_limits& limits = {}) {
    auto mapped = mapped_file::open(path);
    if (!mapped) return mapped.error();
    auto out = parse(mapped->bytes(), path, limits);
    if (out) out->mapped_ = std::move(*mapped);
    return out;
  }

  /// The same for bytes in memory, which must outlive the object; @p name is for errors.
  static result<gguf_file> parse(std::span<const std::byte> bytes, const std::string& name,
                                 const read_limits& limits = {}) {
    byte_reader in("quern::gguf", name, bytes);
    gguf_file out;
    out.name_ = name;
    out.bytes_ = bytes;
    if (!out.read(in, limits)) return in.error();
    return {std::move(out)};  // nvcc does not move what it converts
  }

  /// What the file is called in errors.
  const std::string& name() const { return name_; }
  /// All tensors and all metadata, in file order.
  std::span<const gguf_tensor> tensors() const { return tensors_; }
  std::span<const gguf_value> values() const { return values_; }

  /// The tensor of that name, or null. O(log n).
  const gguf_tensor* find(std::string_view name) const {
    const std::size_t at = tensor_index_.find(name);
    return at == name_index::none ? nullptr : &tensors_[at];
  }
  /// The bytes of a tensor of this file.
  std::span<const std::byte> data(const gguf_tensor& t) const { return bytes_.subspan(t.offset, t.bytes); }

  /// The metadata value of that key, or null. O(log n).
  const gguf_value* find_value(std::string_view key) const {
    const std::size_t at = value_index_.find(key);
    return at == name_index::none ? nullptr : &values_[at];
  }
  /// The number (or bool) of a key; an error where it is absent, of another kind, or too large for T.
  template <class T>
  result<T> number(std::string_view key) const {
    const gguf_value* v = find_value(key);
    T out{};
    if (v == nullptr) return missing(key);
    if (v->is_array || !v->number(0, out)) return unfit(*v, "a number that fits its use");
    return out;
  }
  /// The string of a key, in place.
  result<std::string_view> text(std::string_view key) const {
    const gguf_value* v = find_value(key);
    if (v == nullptr) return missing(key);
    if (v->is_array || v->type != gguf_value_type::string) return unfit(*v, "a string");
    return std::string_view(reinterpret_cast<const char*>(v->bytes.data()), v->bytes.size());
  }
  /// The strings of an array, in place.
  result<gguf_strings> strings(std::string_view key) const {
    const gguf_value* v = find_value(key);
    if (v == nullptr) return missing(key);
    if (!v->is_array_of(gguf_value_type::string)) return unfit(*v, "an array of strings");
    return v->strings();
  }
  /// A copy of an array of numbers, each of which must fit T.
  template <class T>
  result<std::vector<T>> numbers(std::string_view key) const {
    const gguf_value* v = find_value(key);
    if (v == nullptr) return missing(key);
    std::vector<T> out(v->is_array ? v->count : 0);
    for (std::size_t i = 0; i < out.size(); ++i)
      if (!v->number(i, out[i])) return unfit(*v, "an array of numbers that fit their use");
    if (!v->is_array) return unfit(*v, "an array of numbers");
    return out;
  }

 private:
  gguf_file() = default;

  io_error missing(std::string_view key) const {
    return io_error("quern::gguf: '", name_, "' offset 24 (metadata): has no key '", std::string(key),
                    "'; convert the model again");
  }
  io_error unfit(const gguf_value& v, const char* wanted) const {
    return io_error("quern::gguf: '", name_, "' offset ", v.bytes.data() - bytes_.data(), " (metadata '",
                    std::string(v.key), "'): must be ", wanted, ", and is of type ",
                    static_cast<std::uint32_t>(v.type), v.is_array ? " in an array" : "");
  }

  bool read(byte_reader& in, const read_limits& limits);
  bool read_value(byte_reader& in, const read_limits& limits);
  bool read_array(byte_reader& in, const read_limits& limits, gguf_value& v);
  bool read_tensor(byte_reader& in, const read_limits& limits);
  bool read_alignment(byte_reader& in, const read_limits& limits, std::uint64_t& alignment);
  bool place_tensors(byte_reader& in, std::uint64_t alignment);

  mapped_file mapped_;
  std::string name_;
  std::span<const std::byte> bytes_;
  std::vector<gguf_value> values_;
  std::vector<gguf_tensor> tensors_;
  name_index value_index_, tensor_index_;
};

inline bool gguf_file::read(byte_reader& in, const read_limits& limits) {
  if (in.number<std::uint32_t>("magic") != 0x46554747)  // "GGUF"
    return in.fail(0, "magic", "is not \"GGUF\"; this is another kind of file");
  const auto version = in.number<std::uint32_t>("version");
  if (version != 0 && (version & 0xffff) == 0)
    return in.fail(4, "version", "shows a big-endian file; convert it to little-endian");
  if (in.ok() && version != 2 && version != 3)
    return in.fail(4, "version", "is ", version, "; versions 2 and 3 are read, convert the file");
  const auto n_tensors = in.number<std::uint64_t>("tensor count");
  const auto n_values = in.number<std::uint64_t>("metadata count");
  // The smallest entries there are, 24 and 13 bytes, bound the counts before anything is allocated.
  if (n_tensors > limits.entries || n_tensors > in.remaining() / 24)
    return in.fail(8, "tensor count", "is ", n_tensors, ", more than the file can hold or the limit of ",
                   limits.entries);
  if (n_values > limits.entries || n_values > in.remaining() / 13)
    return in.fail(16, "metadata count", "is ", n_values, ", more than the file can hold or the limit of ",
                   limits.entries);
  values_.reserve(static_cast<std::size_t>(n_values));
  for (std::uint64_t i = 0; i < n_values; ++i) {
    in.scope("metadata", i);
    if (!read_value(in, limits)) return false;
  }
  in.scope(nullptr);
  if (const auto twice = value_index_.sort())
    return in.fail(16, "metadata", "key '", std::string(values_[*twice].key), "' is given twice");
  std::uint64_t alignment = 32;
  if (!read_alignment(in, limits, alignment)) return false;
  tensors_.reserve(static_cast<std::size_t>(n_tensors));
  for (std::uint64_t i = 0; i < n_tensors; ++i) {
    in.scope("tensor", i);
    if (!read_tensor(in, limits)) return false;
  }
  in.scope(nullptr);
  if (const auto twice = tensor_index_.sort())
    return in.fail(in.offset(), "tensors", "name '", std::string(tensors_[*twice].name), "' is given twice");
  return in.ok() && place_tensors(in, alignment);
}

inline bool gguf_file::read_value(byte_reader& in, const read_limits& limits) {
  gguf_value v;
  const std::size_t at = in.offset();
  v.key = in.text(limits.string, "key");
  if (v.key.find('\0') != v.key.npos) return in.fail(at, "key", "has a NUL byte inside");
  v.type = static_cast<gguf_value_type>(in.number<std::uint32_t>("value type"));
  if (!in.ok()) return false;
  if (v.type == gguf_value_type::array) {
    if (!read_array(in, limits, v)) return false;
  } else if (v.type == gguf_value_type::string) {
    const std::string_view text = in.text(limits.string, "string");
    v.bytes = std::as_bytes(std::span(text.data(), text.size()));
  } else if (bytes_of(v.type) != 0) {
    v.bytes = in.bytes(bytes_of(v.type), "value");
  } else {
    return in.fail(in.offset() - 4, "value type", "of '", std::string(v.key), "' is ",
                   static_cast<std::uint32_t>(v.type), "; 0 to 12 are known");
  }
  value_index_.add(v.key, values_.size());
  values_.push_back(v);
  return in.ok();
}

inline bool gguf_file::read_array(byte_reader& in, const read_limits& limits, gguf_value& v) {
  v.is_array = true;
  v.type = static_cast<gguf_value_type>(in.number<std::uint32_t>("element type"));
  const auto count = in.number<std::uint64_t>("element count");
  if (!in.ok()) return false;
  const bool is_text = v.type == gguf_value_type::string;
  if (!is_text && bytes_of(v.type) == 0)
    return in.fail(in.offset() - 12, "element type", "of '", std::string(v.key), "' is ",
                   static_cast<std::uint32_t>(v.type), "; arrays hold numbers, bools or strings");
  if (count > limits.array)
    return in.fail(in.offset() - 8, "element count", "of '", std::string(v.key), "' is ", count, "; at most ",
                   limits.array, " are accepted");
  v.count = static_cast<std::size_t>(count);
  if (!is_text) {
    std::uint64_t bytes = 0;
    if (!checked_mul(count, bytes_of(v.type), bytes)) bytes = ~std::uint64_t{0};  // more than any file has
    v.bytes = in.bytes(bytes, "elements");
    return in.ok();
  }
  const std::size_t begin = in.offset();
  for (std::uint64_t i = 0; i < count && in.ok(); ++i) static_cast<void>(in.text(limits.string, "string"));
  v.bytes = bytes_.subspan(begin, in.offset() - begin);
  return in.ok();
}

inline bool gguf_file::read_alignment(byte_reader& in, const read_limits& limits, std::uint64_t& alignment) {
  const gguf_value* v = find_value("general.alignment");
  if (v == nullptr) return in.ok();
  const auto at = static_cast<std::size_t>(v->bytes.data() - bytes_.data());
  if (v->is_array || v->type != gguf_value_type::u32)
    return in.fail(at, "general.alignment", "must be one u32");
  alignment = byte_reader::load<std::uint32_t>(v->bytes.data());
  if (!std::has_single_bit(alignment) || alignment > limits.alignment)
    return in.fail(at, "general.alignment", "is ", alignment, "; it must be a power of two up to ",
                   limits.alignment);
  return true;
}

inline bool gguf_file::read_tensor(byte_reader& in, const read_limits& /*limits*/) {
  gguf_tensor t;
  const std::size_t name_at = in.offset();
  t.name = in.text(63, "name");  // ggml: GGML_MAX_NAME is 64 with its NUL
  if (t.name.find('\0') != t.name.npos) return in.fail(name_at, "name", "has a NUL byte inside");
  t.dimensions = in.number<std::uint32_t>("dimension count");
  if (t.dimensions > 4)
    return in.fail(in.offset() - 4, "dimension count", "of '", std::string(t.name), "' is ", t.dimensions,
                   "; at most 4 are known");
  std::uint64_t elements = 1;
  for (unsigned d = 0; d < t.dimensions; ++d) {
    const auto extent = in.number<std::uint64_t>("extent");
    if (!in.ok()) return false;
    // The file's integers are signed; the product must fit one, too.
    if (extent == 0 || extent >> 63 != 0 || !checked_mul(elements, extent, elements) || elements >> 63 != 0 ||
        extent > ~std::size_t{0})
      return in.fail(in.offset() - 8, "extent", d, " of '", std::string(t.name), "' is ",
                     static_cast<std::int64_t>(extent), "; it must be 1 or more, their product below 2^63");
    t.extent[d] = static_cast<std::size_t>(extent);
  }
  t.type = static_cast<gguf_type>(in.number<std::uint32_t>("type"));
  const std::size_t type_at = in.offset() - 4;
  const auto offset = in.number<std::uint64_t>("offset");
  if (!in.ok()) return false;
  const gguf_layout* layout = gguf_layout_of(t.type);
  if (layout == nullptr)
    return in.fail(type_at, "type", "of '", std::string(t.name), "' is ", static_cast<std::uint32_t>(t.type),
                   ", which is removed, newer than this reader, or damage");
  if (t.extent[0] % layout->block != 0)
    return in.fail(type_at, "type", layout->name, " of '", std::string(t.name), "' has blocks of ",
                   layout->block, ", which do not divide its rows of ", t.extent[0]);
  std::uint64_t bytes = 0;
  if (!checked_mul(elements / layout->block, layout->bytes, bytes) || bytes > ~std::size_t{0} ||
      offset > ~std::size_t{0})
    return in.fail(type_at, "type", "and extents of '", std::string(t.name), "' need more bytes than memory");
  t.bytes = static_cast<std::size_t>(bytes);
  t.offset = static_cast<std::size_t>(offset);
  tensor_index_.add(t.name, tensors_.size());
  tensors_.push_back(t);
  return true;
}

/// Tensors must follow one another, each padded to the alignment; ggml asks for the same.
inline bool gguf_file::place_tensors(byte_reader& in, std::uint64_t alignment) {
  const std::uint64_t gap = (alignment - in.offset() % alignment) % alignment;
  if (tensors_.empty()) return true;  // then the padding may be absent
  static_cast<void>(in.bytes(gap, "padding"));
  if (!in.ok()) return false;
  const std::size_t data = in.offset();
  std::uint64_t expected = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    gguf_tensor& t = tensors_[i];
    in.scope("tensor", i);
    if (t.offset != expected)
      return in.fail(data, "offset", "of '", std::string(t.name), "' is ", t.offset,
                     "; the tensors before it end at ", expected);
    if (t.offset > in.remaining() || t.bytes > in.remaining() - t.offset)
      return in.fail(data, "data", "of '", std::string(t.name), "' is ", t.bytes, " bytes at ", t.offset,
                     " of the data, which has ", in.remaining(), "; the file is truncated, fetch it again");
    expected = (t.offset + t.bytes + alignment - 1) / alignment * alignment;  // below 2^63: a file's length
    t.offset += data;
  }
  return true;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
