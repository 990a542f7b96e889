// SPDX-License-Identifier: Apache-2.0
#pragma once
// for (std::size_t at = 0; at < text.size();) {
//   const quern::code_point c = quern::decode_utf8(text, at);   // c.size == 0: not UTF-8
//   at += c.size;
// }

#include <cstddef>
#include <quern/core/config.hpp>
#include <string>
#include <string_view>

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// One Unicode scalar value and how many bytes spell it; size 0 means that the bytes are not UTF-8.
struct code_point {
  char32_t value = 0;
  unsigned size = 0;
};

/// The code point that begins at @p at < text.size(). Refuses what RFC 3629 refuses: overlong forms,
/// surrogates, values above U+10FFFF, stray and missing continuation bytes.
constexpr code_point decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const unsigned size = lead >= 0xf8 ? 0 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
  if (size == 0 || text.size() - at < size) return {};
  char32_t value = lead & (0x7fu >> size);
  for (unsigned i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) return {};
    value = value << 6 | (byte(i) & 0x3fu);
  }
  constexpr char32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
  if (value < smallest[size] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return {};
  return {value, size};
}

/// The offset of the first byte that is not UTF-8, or text.size().
constexpr std::size_t utf8_prefix(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const unsigned size = decode_utf8(text, at).size;
    if (size == 0) break;
    at += size;
  }
  return at;
}

/// Appends the UTF-8 spelling of @p c, a scalar value.
inline void append_utf8(std::string& out, char32_t c) {
  const auto push = [&](char32_t byte) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(byte)));
  };
  if (c < 0x80) return push(c);
  if (c < 0x800) {
    push(0xc0 | c >> 6);
  } else {
    if (c < 0x10000) {
      push(0xe0 | c >> 12);
    } else {
      push(0xf0 | c >> 18);
      push(0x80 | (c >> 12 & 0x3f));
    }
    push(0x80 | (c >> 6 & 0x3f));
  }
  push(0x80 | (c & 0x3f));
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
