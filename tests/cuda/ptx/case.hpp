// SPDX-License-Identifier: Apache-2.0
#pragma once
// A launch as a file, for tests/cuda/ptx.py: what is in device memory, the kernel's argument with the addresses to
// fill in, and the result that is expected.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace quern_test {

/// Writes one launch per `add` into FOLDER/NAME.bin and a line about it into FOLDER/cases.txt.
class ptx_cases {
 public:
  explicit ptx_cases(std::string folder) : folder_(std::move(folder)) {
    list_ = std::fopen((folder_ + "/cases.txt").c_str(), "w");
  }
  ~ptx_cases() {
    if (list_ != nullptr) std::fclose(list_);
  }
  ptx_cases(const ptx_cases&) = delete;
  ptx_cases& operator=(const ptx_cases&) = delete;
  bool ok() const { return list_ != nullptr; }

  struct memory {
    const void* data;   ///< where the argument's pointer points
    std::size_t bytes;  ///< as much of it belongs to the kernel
  };
  /// Memory that must hold exactly `expected` afterwards, as much as there is of it.
  struct exact {
    std::size_t memory;
    const void* expected;
  };
  /// @param argument  the kernel's only parameter; every pointer in it to the start of a `memory` is replaced
  /// @param result    which memory holds the result, floats
  /// @param weights   stored weights times vectors, for counts per weight
  template <class Argument>
  void add(const char* kernel, unsigned blocks, unsigned blocks_y, unsigned threads, std::size_t shared_bytes,
           const Argument& argument, const std::vector<memory>& all, std::size_t result,
           const std::vector<double>& expected, const std::vector<double>& bound, std::size_t weights,
           const std::vector<exact>& exactly = {}) {
    std::FILE* f = std::fopen((folder_ + "/" + kernel + ".bin").c_str(), "wb");
    if (f == nullptr) return;
    std::string places;
    unsigned char raw[sizeof(Argument)];
    std::memcpy(raw, &argument, sizeof raw);
    for (std::size_t at = 0; at + 8 <= sizeof raw; at += 8)
      for (std::size_t m = 0; m < all.size(); ++m)
        if (std::memcmp(raw + at, &all[m].data, 8) == 0 && all[m].data != nullptr) {
          places += " " + std::to_string(at) + ":" + std::to_string(m);
          break;
        }
    std::fwrite(raw, 1, sizeof raw, f);
    std::string sizes;
    for (const memory& m : all) {
      std::fwrite(m.data, 1, m.bytes, f);
      sizes += " " + std::to_string(m.bytes);
    }
    std::fwrite(expected.data(), 8, expected.size(), f);
    std::fwrite(bound.data(), 8, bound.size(), f);
    std::string numbers;
    for (const exact& e : exactly) {
      std::fwrite(e.expected, 1, all[e.memory].bytes, f);
      numbers += " " + std::to_string(e.memory);
    }
    std::fclose(f);
    std::fprintf(
        list_,
        "%s grid %u %u threads %u shared %zu argument %zu places%s memory%s result %zu %zu weights %zu "
        "exact%s\n",
        kernel, blocks, blocks_y, threads, shared_bytes, sizeof raw, places.c_str(), sizes.c_str(), result,
        expected.size(), weights, numbers.c_str());
  }

 private:
  std::string folder_;
  std::FILE* list_;
};

}  // namespace quern_test
