// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::vector<float> w(rows * cols), x(n * cols), y(n * rows);
// auto Y = quern::eigen_map(quern::span2<float>(y.data(), n, rows));
// Y.noalias() = quern::eigen_map(x_view) * quern::eigen_map(w_view).transpose();   // views are span2

#include <Eigen/Core>
#include <cstddef>
#include <quern/core/config.hpp>
#include <quern/core/span2.hpp>
#include <span>
#include <type_traits>

namespace quern::inline v0 {

/// An owning row-major Eigen matrix: the order of every dense array in this library.
template <class T>
using eigen_matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The Eigen view of a span2<T>; T may be const.
template <class T>
using eigen_matrix_map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>, const eigen_matrix<std::remove_const_t<T>>, eigen_matrix<T>>,
    Eigen::Unaligned, Eigen::OuterStride<>>;

/// The Eigen view of a std::span<T> as a column array (element by element arithmetic); T may be const.
template <class T>
using eigen_array_map = Eigen::Map<
    std::conditional_t<std::is_const_v<T>, const Eigen::Array<std::remove_const_t<T>, Eigen::Dynamic, 1>,
                       Eigen::Array<T, Eigen::Dynamic, 1>>>;

/// Views the same [rows x cols] elements, stride included; copies nothing.
template <class T>
eigen_matrix_map<T> eigen_map(span2<T> view) {
  const auto index = [](std::size_t n) { return static_cast<Eigen::Index>(n); };
  return {view.data(), index(view.rows()), index(view.cols()), Eigen::OuterStride<>(index(view.stride()))};
}

/// Views the same elements as an array; copies nothing.
template <class T>
eigen_array_map<T> eigen_array(std::span<T> values) {
  return {values.data(), static_cast<Eigen::Index>(values.size())};
}
/// The array of `count` elements that starts at `data`.
template <class T>
eigen_array_map<T> eigen_array(T* data, std::size_t count) {
  return {data, static_cast<Eigen::Index>(count)};
}

}  // namespace quern::inline v0
