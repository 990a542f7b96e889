// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the tests of io share: building files byte by byte, folders, and the golden files.

#include <unistd.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace io_test {

/// The root of the sources: from the build if it says so, else from where this file was compiled.
inline std::filesystem::path source_dir() {
#if defined(QUERN_SOURCE_DIR)
  return QUERN_SOURCE_DIR;
#else
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
#endif
}

inline std::string golden(const char* name) { return (source_dir() / "tests" / "golden" / name).string(); }

/// A fresh folder, removed with its contents at the end of the scope.
class temporary_folder {
 public:
  temporary_folder() {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("quern_io_test_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() { std::filesystem::remove_all(path_); }
  std::string operator/(const char* name) const { return (path_ / name).string(); }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(path_), std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

/// Little-endian bytes, appended one field after another.
class byte_builder {
 public:
  template <class T>
  byte_builder& number(T value) {
    static_assert(std::endian::native == std::endian::little);
    std::byte raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes_.insert(bytes_.end(), raw, raw + sizeof(T));
    return *this;
  }
  byte_builder& raw(std::string_view text) {
    const auto b = std::as_bytes(std::span(text.data(), text.size()));
    bytes_.insert(bytes_.end(), b.begin(), b.end());
    return *this;
  }
  byte_builder& u32(std::uint32_t v) { return number(v); }
  byte_builder& u64(std::uint64_t v) { return number(v); }
  /// A GGUF string.
  byte_builder& text(std::string_view t) { return u64(t.size()).raw(t); }
  byte_builder& zeros(std::size_t n) {
    bytes_.resize(bytes_.size() + n);
    return *this;
  }
  byte_builder& pad(std::size_t alignment) {
    return zeros((alignment - bytes_.size() % alignment) % alignment);
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::string_view as_text(std::span<const std::byte> b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

/// Whether the error is there and mentions all of @p words.
template <class Result, class... Words>
bool fails_with(const Result& r, const Words&... words) {
  return !r && ((std::string_view(r.error().what()).find(words) != std::string_view::npos) && ...);
}

}  // namespace io_test
