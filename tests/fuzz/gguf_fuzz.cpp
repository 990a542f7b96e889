// SPDX-License-Identifier: Apache-2.0
// clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/gguf_fuzz.cpp -o
// gguf_fuzz
// ./gguf_fuzz -max_total_time=60 -max_len=4096 CORPUS tests/golden
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <quern/io/gguf_blocks.hpp>
#include <span>
#include <vector>

/// Whatever the bytes are: an error, or a file all of whose contents can be read.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto file = quern::gguf_file::parse(std::as_bytes(std::span(data, size)), "fuzz");
  if (!file) return 0;
  std::size_t sum = 0;
  for (const quern::gguf_value& v : file->values()) {
    if (file->find_value(v.key) != &v) std::abort();
    for (const std::string_view s : v.strings())
      for (const char c : s) sum += static_cast<unsigned char>(c);
    double d = 0;
    std::int64_t i = 0;
    for (std::size_t at = 0; at < v.count; ++at) sum += v.number(at, d) || v.number(at, i);
  }
  for (const quern::gguf_tensor& t : file->tensors()) {
    if (file->find(t.name) != &t || t.bytes > size) std::abort();
    for (const std::byte b : file->data(t)) sum += std::to_integer<std::size_t>(b);
    const auto w = quern::dequantize(*file, t);
    if (w) sum += w->size();
  }
  volatile std::size_t keep = sum;  // so that the reads stay
  static_cast<void>(keep);
  return 0;
}
