// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::hash h;
// h.add(ids.data(), ids.size_bytes());
// std::string sixteen_digits = h.text();

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace llama {

/// FNV-1a by words: of text, codes and weights, to tell files apart and to find damage.
class hash {
 public:
  void add(const void* data, std::size_t n) {
    const char* bytes = static_cast<const char*>(data);
    for (; n >= 8; n -= 8, bytes += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes, 8);
      value_ = (value_ ^ word) * 0x9e3779b97f4a7c15u;
      value_ ^= value_ >> 29;
    }
    for (; n > 0; --n, ++bytes) value_ = (value_ ^ static_cast<unsigned char>(*bytes)) * 0x100000001b3u;
  }
  template <class T>
  void add(const T& v) {
    add(&v, sizeof v);
  }
  void add(const std::string& text) {
    add(text.size());
    add(text.data(), text.size());
  }
  std::string text() const {
    char out[20];
    std::snprintf(out, sizeof out, "%016llx", static_cast<unsigned long long>(value_));
    return out;
  }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

struct model;
/// Of row 0 of every linear, the embedding and the head: tells models apart without reading them whole.
std::string hash_of_first_rows(const model& m);

}  // namespace llama
