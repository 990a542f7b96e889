// SPDX-License-Identifier: Apache-2.0
// clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -Iinclude tests/fuzz/safetensors_fuzz.cpp -o
// st_fuzz
// ./st_fuzz -max_total_time=60 -max_len=4096 CORPUS tests/golden
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <quern/io/safetensors.hpp>
#include <span>

/// Whatever the bytes are: an error, or tensors that lie inside them without sharing a byte; and what is
/// accepted strictly is accepted, equal, without strictness.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  std::size_t sum = 0, accepted = 0;
  for (const bool strict : {true, false}) {
    const auto file = quern::safetensors_file::parse(bytes, "fuzz", {.strict = strict});
    if (!file) {
      if (!strict && accepted != 0) std::abort();
      continue;
    }
    std::size_t total = 0, end = 0;
    for (const quern::tensor_info& t : file->tensors()) {
      if (file->find(t.name) != &t || t.offset < end) std::abort();
      end = t.offset + t.bytes;
      total += t.bytes;
      for (const std::byte b : file->data(t)) sum += std::to_integer<std::size_t>(b);
    }
    if (total > size || end > size) std::abort();
    if (strict) accepted = 1 + total;
    if (!strict && accepted != 0 && accepted != 1 + total) std::abort();
    for (const auto& [key, value] : file->metadata())
      if (*file->metadata(key) != value) std::abort();
  }
  volatile std::size_t keep = sum;  // so that the reads stay
  static_cast<void>(keep);
  return 0;
}
