// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/tokenizer.hpp>
#include <quern/io/utf8.hpp>

namespace llama {
namespace {

struct code_point_range {
  char32_t first, last;
};
#include "unicode_ranges.inl"

enum class character : unsigned char { letter, number, space, other };

bool is_in(std::span<const code_point_range> table, char32_t c) {
  const auto at =
      std::lower_bound(table.begin(), table.end(), c, [](const auto& r, char32_t v) { return r.last < v; });
  return at != table.end() && at->first <= c;
}

character classify_slowly(char32_t c) {
  // The property White_Space, which is what \s means in the pattern.
  if ((c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
      (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000)
    return character::space;
  return is_in(letters, c) ? character::letter : is_in(numbers, c) ? character::number : character::other;
}

character classify(char32_t c) {
  static constexpr auto letter = [](char32_t x) { return (x | 32u) >= 'a' && (x | 32u) <= 'z'; };
  if (c >= 0x80) return classify_slowly(c);
  if (letter(c)) return character::letter;
  if (c >= '0' && c <= '9') return character::number;
  return c == ' ' || (c >= 9 && c <= 13) ? character::space : character::other;
}

/// One character of the text: its kind and its bytes.
struct step {
  character what;
  unsigned size;
};
step step_at(std::string_view text, std::size_t at) {
  const quern::code_point c = quern::decode_utf8(text, at);
  if (c.size == 0) return {character::other, 1};
  return {classify(c.value), c.size};
}

/// Bytes of the contraction ('s 't 're 've 'm 'll 'd) at the start of @p text, or 0.
std::size_t contraction(std::string_view text) {
  for (const std::string_view c : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.substr(0, c.size()) == c) return c.size();
  return 0;
}

/// Bytes of the first piece of @p text, which is not empty.
std::size_t first_piece(std::string_view text) {
  if (const std::size_t n = contraction(text)) return n;
  const step first = step_at(text, 0);
  std::size_t end = 0;
  character run = first.what;
  if (text[0] == ' ' && text.size() > 1) {
    run = step_at(text, 1).what;  // a space belongs to what follows it, unless that is space
    end = 1;
  }
  std::size_t last = 0;  // start of the run's last character
  while (end < text.size()) {
    const step s = step_at(text, end);
    if (s.what != run) break;
    last = end;
    end += s.size;
  }
  // White space before something leaves its last character to that piece, unless it is all there is.
  if (run == character::space && end < text.size() && last != 0) return last;
  return end;
}

void split_run(std::string_view text, std::vector<std::string_view>& out) {
  while (!text.empty()) {
    const std::size_t n = first_piece(text);
    out.push_back(text.substr(0, n));
    text.remove_prefix(n);
  }
}

}  // namespace

std::vector<std::string_view> split_gpt2(std::string_view text, bool digits_alone) {
  std::vector<std::string_view> out;
  if (!digits_alone) return split_run(text, out), out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const step s = step_at(text, at);
    if (s.what == character::number) {
      split_run(text.substr(begin, at - begin), out);
      out.push_back(text.substr(at, s.size));
      begin = at + s.size;
    }
    at += s.size;
  }
  split_run(text.substr(begin), out);
  return out;
}

}  // namespace llama
