// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto file = quern::mapped_file::open("model.gguf");
// if (!file) return file.error();
// std::span<const std::byte> bytes = file->bytes();

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <span>
#include <string>
#include <utility>

#if defined(__unix__) || defined(__APPLE__)
#define QUERN_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#include <cstdio>
#include <quern/core/buffer.hpp>
#endif

namespace quern::inline v0 {
inline namespace QUERN_BUILD {

/// The bytes of a file, read only, at an address that is a multiple of 64. Mapped where the system can map:
/// opening costs microseconds whatever the size, and processes share the pages. Elsewhere the file is read.
/// Whoever shortens a mapped file kills its readers (SIGBUS): replace files by rename, as atomic_file does.
class mapped_file {
 public:
  mapped_file() = default;
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

#if defined(QUERN_HAS_MMAP)
  mapped_file(mapped_file&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  mapped_file& operator=(mapped_file&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~mapped_file() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  /// @return io_error when @p path is missing, unreadable, or not a regular file
  static result<mapped_file> open(const std::string& path) {
    // O_NONBLOCK: opening a named pipe must fail below, not wait for its writer.
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
      return io_error("quern::mapped_file: '", path, "' cannot be opened: ", std::strerror(errno));
    mapped_file out;
    const io_error bad = out.map(file, path);
    ::close(file);
    if (bad.what()[0] != 0) return bad;
    return {std::move(out)};  // nvcc does not move what it converts
  }

 private:
  io_error map(int file, const std::string& path) {
    struct stat info {};
    if (::fstat(file, &info) != 0)
      return io_error("quern::mapped_file: '", path, "' has no size: ", std::strerror(errno));
    if (!S_ISREG(info.st_mode))
      return io_error("quern::mapped_file: '", path, "' is not a regular file; copy it into one");
    if (info.st_size == 0) return {};  // a mapping of no bytes is an error to mmap
    void* data = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_SHARED, file, 0);
    if (data == MAP_FAILED)
      return io_error("quern::mapped_file: '", path, "' cannot be mapped: ", std::strerror(errno));
    data_ = static_cast<const std::byte*>(data);
    size_ = static_cast<std::size_t>(info.st_size);
    return {};
  }
#else
  mapped_file(mapped_file&&) noexcept = default;
  mapped_file& operator=(mapped_file&&) noexcept = default;

  static result<mapped_file> open(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    if (file == nullptr)
      return io_error("quern::mapped_file: '", path, "' cannot be opened: ", std::strerror(errno));
    // `long` is 32 bits on Windows, so the length is found by reading.
    mapped_file out;
    std::size_t capacity = 0;
    for (std::size_t got = 1; got != 0; out.size_ += got) {
      if (out.size_ == capacity) {
        buffer larger(capacity = capacity == 0 ? 1u << 20 : 2 * capacity);
        if (out.size_ != 0) std::memcpy(larger.data(), out.owned_.data(), out.size_);
        out.owned_ = std::move(larger);
      }
      got = std::fread(out.owned_.data() + out.size_, 1, capacity - out.size_, file);
    }
    const bool bad = std::ferror(file) != 0;
    std::fclose(file);
    if (bad) return io_error("quern::mapped_file: '", path, "' cannot be read: ", std::strerror(errno));
    out.data_ = out.owned_.data();
    return out;
  }

 private:
  buffer owned_;
#endif
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0

#undef QUERN_HAS_MMAP
