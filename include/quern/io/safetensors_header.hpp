// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto header = quern::parse_safetensors_header("model.safetensors", json_bytes, {.strict = true});
// for (const quern::tensor_info& t : header->tensors) std::printf("%s\n", t.name.c_str());
// The JSON of a safetensors file: an object of tensors and one object of strings, nothing else, so that a
// reader needs neither recursion nor a JSON library. Format: github.com/huggingface/safetensors, README.

#include <array>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/io/byte_reader.hpp>
#include <quern/io/utf8.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// What one element of a tensor is. The format has no 4-bit integers: packed codes are u8 tensors.
// clang-format off
enum class dtype : std::uint8_t {
  boolean, f4, f6_e2m3, f6_e3m2, u8, i8, f8_e5m2, f8_e4m3, f8_e8m0, f8_e4m3fnuz, f8_e5m2fnuz,
  i16, u16, f16, bf16, i32, u32, f32, c64, f64, i64, u64
};
// clang-format on

/// How a dtype is written in the header, and the bits of one element.
struct dtype_traits {
  const char* name;
  unsigned bits;
};

/// [dtype] in the order of the enumerators.
constexpr std::array<dtype_traits, 22> dtype_table{
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};

/// The name of a dtype as the header writes it, and the bits of one element.
constexpr const char* name_of(dtype t) { return dtype_table[static_cast<std::size_t>(t)].name; }
constexpr unsigned bits_of(dtype t) { return dtype_table[static_cast<std::size_t>(t)].bits; }

/// One tensor of a safetensors file, row-major.
struct tensor_info {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::size_t> shape;  ///< outermost first; empty for a scalar; a 0 makes the tensor empty
  std::size_t offset = 0;          ///< of the first byte, counted from the start of the file
  std::size_t bytes = 0;
};

/// How much a safetensors reader forgives.
struct safetensors_options {
  /// false also takes what the reference implementation or real files get away with: bytes after the last
  /// tensor, white space before the header's brace, a name given twice (the last one counts).
  bool strict = true;
  read_limits limits = {};
};

/// The header as it is written: offsets still count from the start of the data, and nothing is known yet
/// about overlaps or the file's length.
struct safetensors_header {
  std::vector<tensor_info> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Bytes that a tensor of this type and shape takes. False, naming nothing, when that overflows or is not
/// a whole number of bytes.
inline bool tensor_bytes(dtype type, std::span<const std::size_t> shape, std::size_t& bytes) {
  std::uint64_t count = 1, bits = 0;
  for (const std::size_t extent : shape)
    if (!checked_mul(count, extent, count)) return false;
  if (!checked_mul(count, bits_of(type), bits) || bits % 8 != 0) return false;
  if (bits / 8 > ~std::size_t{0}) return false;
  bytes = static_cast<std::size_t>(bits / 8);
  return true;
}

namespace detail {

/// Reads the tokens of the header; like byte_reader it keeps the first failure and then stands still.
class json_cursor {
 public:
  json_cursor(const std::string& file, std::span<const std::byte> json, std::size_t base)
      : errors_("quern::safetensors", file, {}),
        text_(reinterpret_cast<const char*>(json.data()), json.size()),
        base_(base) {}

  bool ok() const { return errors_.ok(); }
  const quern::error& error() const { return errors_.error(); }
  template <class... Why>
  bool fail(const char* field, const Why&... why) {
    return errors_.fail(base_ + at_, field, why...);
  }
  bool at_end() const { return at_ == text_.size(); }
  /// The next byte, or 0 at the end and after a failure.
  char peek() const { return ok() && at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }
  /// Space, then @p c if it is next.
  bool accept(char c) {
    skip_space();
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* field) {
    const char quoted[] = {'\'', c, '\'', 0};
    if (!accept(c)) fail(field, "needs ", static_cast<const char*>(quoted), " here; the header is not valid");
  }
  /// Calls element() for every element between @p open and @p close.
  template <class Element>
  void list(char open, char close, const char* field, Element&& element) {
    expect(open, field);
    if (accept(close)) return;
    while (ok()) {
      element();
      if (accept(close)) return;
      expect(',', field);
    }
  }
  std::string string(const char* field);
  std::size_t integer(const char* field);

 private:
  char32_t escape(const char* field);
  unsigned hex4(const char* field);

  byte_reader errors_;
  std::string_view text_;
  std::size_t base_, at_ = 0;
};

inline unsigned json_cursor::hex4(const char* field) {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = peek();
    const bool digit = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'f', upper = c >= 'A' && c <= 'F';
    if (!digit && !lower && !upper) return fail(field, "\\u needs four hexadecimal digits"), 0;
    value = value * 16 + static_cast<unsigned>(digit ? c - '0' : lower ? c - 'a' + 10 : c - 'A' + 10);
  }
  return value;
}

/// What stands after a backslash.
inline char32_t json_cursor::escape(const char* field) {
  const char c = peek();
  ++at_;
  switch (c) {
    case '"':
    case '\\':
    case '/':
      return static_cast<unsigned char>(c);
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'u':
      break;
    default:
      return fail(field, "has an escape that JSON does not know"), 0;
  }
  const char32_t first = hex4(field);
  if (first < 0xd800 || first > 0xdfff) return first;
  if (first < 0xdc00 && peek() == '\\') {
    ++at_;
    if (peek() == 'u') {
      ++at_;
      const char32_t second = hex4(field);
      if (second >= 0xdc00 && second <= 0xdfff) return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    }
  }
  return fail(field, "has half a surrogate pair"), 0;
}

inline std::string json_cursor::string(const char* field) {
  std::string out;
  expect('"', field);
  while (ok()) {
    if (at_end()) return fail(field, "is a string without an end"), std::string();
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') return ++at_, out;
    if (c < 0x20) return fail(field, "has a control character inside a string"), std::string();
    if (c == '\\') {
      ++at_;
      const char32_t value = escape(field);
      if (ok()) append_utf8(out, value);
      continue;
    }
    const unsigned size = decode_utf8(text_, at_).size;
    if (size == 0) return fail(field, "is not UTF-8"), std::string();
    out.append(text_, at_, size);
    at_ += size;
  }
  return {};
}

/// Digits only: no sign, no leading zero, no fraction, no exponent.
inline std::size_t json_cursor::integer(const char* field) {
  skip_space();
  std::uint64_t value = 0;
  const std::size_t begin = at_;
  for (; peek() >= '0' && peek() <= '9'; ++at_) {
    const auto digit = static_cast<std::uint64_t>(peek() - '0');
    if (!checked_mul(value, 10, value) || !checked_add(value, digit, value) || value > ~std::size_t{0})
      return fail(field, "does not fit this machine's size_t"), 0;
  }
  const char next = peek();
  if (at_ == begin || next == '.' || next == 'e' || next == 'E' || (at_ - begin > 1 && text_[begin] == '0'))
    return fail(field, "must be a plain non-negative integer"), 0;
  return static_cast<std::size_t>(value);
}

inline void parse_metadata(json_cursor& in, safetensors_header& out, const safetensors_options& options) {
  in.list('{', '}', "__metadata__", [&] {
    std::string key = in.string("__metadata__ key");
    in.expect(':', "__metadata__");
    std::string value = in.string("__metadata__ value");
    if (out.metadata.size() == options.limits.entries) in.fail("__metadata__", "has too many entries");
    out.metadata.emplace_back(std::move(key), std::move(value));
  });
}

inline void parse_tensor(json_cursor& in, tensor_info& out) {
  bool has_type = false, has_shape = false, has_offsets = false;
  in.list('{', '}', "tensor", [&] {
    const std::string key = in.string("tensor field");
    in.expect(':', "tensor field");
    const auto first = [&](bool& seen) {
      if (seen) in.fail("tensor field", "'", key, "' of '", out.name, "' is given twice");
      return seen = true;
    };
    if (key == "dtype" && first(has_type)) {
      const std::string text = in.string("dtype");
      std::size_t i = 0;
      while (i < dtype_table.size() && text != dtype_table[i].name) ++i;
      if (i == dtype_table.size())
        in.fail("dtype", "'", text, "' of '", out.name, "' is unknown; it is newer than this reader");
      else
        out.type = static_cast<dtype>(i);
    } else if (key == "shape" && first(has_shape)) {
      in.list('[', ']', "shape", [&] { out.shape.push_back(in.integer("shape")); });
    } else if (key == "data_offsets" && first(has_offsets)) {
      in.expect('[', "data_offsets");
      out.offset = in.integer("data_offsets begin");
      in.expect(',', "data_offsets");
      const std::size_t end = in.integer("data_offsets end");
      in.expect(']', "data_offsets");
      if (end < out.offset) in.fail("data_offsets", "of '", out.name, "' end before they begin");
      out.bytes = end - out.offset;
    } else {
      in.fail("tensor field", "'", key, "' of '", out.name,
              "' is unknown; dtype, shape and data_offsets are it");
    }
  });
  if (!has_type || !has_shape || !has_offsets)
    in.fail("tensor", "'", out.name, "' needs dtype, shape and data_offsets");
  std::size_t bytes = 0;
  if (in.ok() && !tensor_bytes(out.type, out.shape, bytes))
    in.fail("shape", "of '", out.name, "' has more bytes than memory, or not a whole number of them");
  if (in.ok() && bytes != out.bytes)
    in.fail("data_offsets", "of '", out.name, "' span ", out.bytes, " bytes, but dtype and shape need ",
            bytes);
}

}  // namespace detail

/// Reads the JSON of a header.
/// @param file  the name for errors;  @param json  the header, which begins at byte 8 of the file
/// @return io_error for whatever is not exactly the format (see safetensors_options)
/// Linear in the size of the header; duplicate names are left to the caller, who sorts.
inline result<safetensors_header> parse_safetensors_header(const std::string& file,
                                                           std::span<const std::byte> json,
                                                           const safetensors_options& options = {}) {
  safetensors_header out;
  detail::json_cursor in(file, json, 8);
  if (options.strict && in.peek() != '{') in.fail("header", "must begin with '{'");
  bool has_metadata = false;
  in.list('{', '}', "header", [&] {
    std::string key = in.string("name");
    in.expect(':', "header");
    if (key == "__metadata__") {
      if (has_metadata && options.strict) in.fail("__metadata__", "is given twice");
      has_metadata = true;
      return detail::parse_metadata(in, out, options);
    }
    if (out.tensors.size() == options.limits.entries) in.fail("header", "has too many tensors");
    tensor_info info;
    info.name = std::move(key);
    detail::parse_tensor(in, info);
    out.tensors.push_back(std::move(info));
  });
  in.skip_space();
  if (in.ok() && !in.at_end()) in.fail("header", "has something after its last '}'");
  if (!in.ok()) return in.error();
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
