// SPDX-License-Identifier: Apache-2.0
#pragma once
// constexpr quern::name n("group<", 16, ">");   n.text == "group<16>"

#include <cstddef>
#include <quern/core/config.hpp>

namespace quern::inline v0 {

/// The name of a type as it is written in code, on the command line and in files: a short constexpr string
/// (<string> costs a header of 20,000 lines). A matrix refuses types whose names were cut: two might agree.
struct name {
  char text[64] = {};
  std::size_t size = 0;
  bool cut = false;  ///< more than 63 characters: the rest is missing

  constexpr name() = default;
  template <class... Parts>
  [[gnu::always_inline]] explicit constexpr name(Parts... parts) {
    (append(parts), ...);
  }
  [[gnu::always_inline]] constexpr void append(const char* s) {
    while (*s != 0 && size + 1 < sizeof text) text[size++] = *s++;
    cut = cut || *s != 0;
  }
  [[gnu::always_inline]] constexpr void append(int v) {
    int first = 1;
    while (v / first >= 10) first *= 10;
    for (; first > 0; first /= 10) {
      const char digit[2] = {static_cast<char>('0' + v / first % 10), 0};
      append(static_cast<const char*>(digit));
    }
  }
  [[gnu::always_inline]] constexpr void append(const name& n) {
    append(static_cast<const char*>(n.text));
    cut = cut || n.cut;
  }
  constexpr const char* c_str() const { return text; }
  [[gnu::always_inline]] friend constexpr bool operator==(const name& a, const char* b) {
    std::size_t i = 0;
    while (i < a.size && b[i] == a.text[i]) ++i;
    return i == a.size && b[i] == 0;
  }
};

}  // namespace quern::inline v0
