// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<float> w(rows * cols);
// quern::span2<const float> view(w.data(), rows, cols);
// view(r, c); view.row(r)[c];

#include <cstddef>
#include <quern/core/config.hpp>
#include <type_traits>

namespace quern::inline v0 {

/// A row-major view of [rows x cols] elements; consecutive rows are `stride` elements apart. Owns nothing.
/// (std::mdspan is C++23.)
template <class T>
class span2 {
 public:
  constexpr span2() = default;
  [[gnu::always_inline]] QUERN_HD constexpr span2(T* data, std::size_t rows, std::size_t cols)
      : span2(data, rows, cols, cols) {}
  [[gnu::always_inline]] QUERN_HD constexpr span2(T* data, std::size_t rows, std::size_t cols,
                                                  std::size_t stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  /// span2<float> is usable where span2<const float> is asked for.
  template <class U>
  requires(std::is_convertible_v<U (*)[], T (*)[]>) [[gnu::always_inline]] QUERN_HD
      constexpr span2(const span2<U>& o)  // NOLINT(google-explicit-constructor)
      : data_(o.data()), rows_(o.rows()), cols_(o.cols()), stride_(o.stride()) {}

  QUERN_HD constexpr T* data() const { return data_; }
  QUERN_HD constexpr std::size_t rows() const { return rows_; }
  QUERN_HD constexpr std::size_t cols() const { return cols_; }
  QUERN_HD constexpr std::size_t stride() const { return stride_; }
  QUERN_HD constexpr T* row(std::size_t r) const { return data_ + r * stride_; }
  QUERN_HD constexpr T& operator()(std::size_t r, std::size_t c) const { return data_[r * stride_ + c]; }
  /// Rows [first, first + count).
  [[gnu::always_inline]] QUERN_HD constexpr span2 rows_of(std::size_t first, std::size_t count) const {
    return {data_ + first * stride_, count, cols_, stride_};
  }

 private:
  T* data_ = nullptr;
  std::size_t rows_ = 0, cols_ = 0, stride_ = 0;
};

}  // namespace quern::inline v0
