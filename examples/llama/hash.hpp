// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::hash h;
// h.add(std::span(ids));
// std::string sixteen_digits = h.text();

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

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
    static_assert(std::is_arithmetic_v<T>, "llama::hash: takes numbers; give lists as a span");
    add(&v, sizeof v);
  }
  /// Numbers and how many there are.
  template <class T>
  void add(std::span<T> values) {
    add(values.size());
    add(values.data(), values.size_bytes());
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
struct packed_matrix;
/// All that is stored of a packed matrix.
void add_streams(hash& h, const packed_matrix& w);
/// Of all that a model computes with: shape, norms, and every weight as it is stored. Reads 3 GB/s in one thread.
std::string hash_of(const model& m);
/// Of a list of numbers.
template <class T>
std::string hash_of(std::span<T> values) {
  hash h;
  h.add(values);
  return h.text();
}

}  // namespace llama
