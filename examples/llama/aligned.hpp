// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::aligned<float> gradient(layout.size());   // a std::vector whose first element is at a 64-byte
// boundary

#include <cstddef>
#include <new>
#include <vector>

namespace llama {

/// Eigen computes the elements before the first boundary of a vector register one by one, where exp and fused
/// additions round differently than in whole registers. With every buffer at a boundary the same code gives
/// the same bits in every thread and every run; std::allocator promises 16 bytes only.
template <class T>
struct aligned_allocator {
  using value_type = T;
  static constexpr std::align_val_t boundary{64};
  aligned_allocator() = default;
  template <class U>
  aligned_allocator(const aligned_allocator<U>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), boundary)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, boundary); }
  friend bool operator==(aligned_allocator, aligned_allocator) { return true; }
};

template <class T>
using aligned = std::vector<T, aligned_allocator<T>>;

}  // namespace llama
