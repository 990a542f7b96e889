// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::matrix<P, Q> d = quern::cuda::upload(w, stream);       // quern::matrix<P, Q> w
// quern::matrix<P, Q> back = quern::cuda::download(d, stream);         // the same bytes

#include <cuda_runtime_api.h>

#include <quern/format/matrix.hpp>
#include <utility>

namespace quern::inline v0 {
namespace cuda {

/// A call of the CUDA runtime that failed.
class error : public quern::error {
 public:
  error(cudaError_t code, const char* call)
      : quern::error("quern::cuda: ", call, " failed with ", cudaGetErrorName(code), " (",
                     static_cast<int>(code), "): ", cudaGetErrorString(code)),
        code_(code),
        call_(call) {}
  cudaError_t code() const { return code_; }
  /// The name of the function.
  const char* call() const { return call_; }

 private:
  cudaError_t code_;
  const char* call_;
};

/// Raises cuda::error unless @p code is success.
inline void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) [[unlikely]]
    raise(error(code, call));
}

/// Device memory; movable, not copyable. Allocating and freeing may wait for the device.
class device_buffer {
 public:
  device_buffer() = default;
  explicit device_buffer(std::size_t bytes) : bytes_(bytes) {
    if (bytes > 0) check(cudaMalloc(&data_, bytes), "cudaMalloc");
  }
  device_buffer(device_buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  device_buffer& operator=(device_buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~device_buffer() {
    if (data_ != nullptr) static_cast<void>(cudaFree(data_));
  }
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t size() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A packed matrix W [rows x cols] in device memory: the streams of the host's matrix in their order and with their
/// bytes (docs/formats.md). Nothing is reordered: 16 rows side by side are what a warp loads as well.
template <sparsity_pattern P, quantizer Q>
class matrix {
 public:
  using view_type = matrix_view<P, Q>;
  using geometry = layout<P, Q>;
  matrix() = default;
  /// Uninitialised streams for W [rows x cols] with @p cells stored cells.
  matrix(std::size_t rows, std::size_t cols, std::size_t cells)
      : rows_(rows), cols_(cols), cells_(cells), data_(geometry::bytes(rows, cols, cells).total()) {}
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t cells() const { return cells_; }
  storage bytes() const { return geometry::bytes(rows_, cols_, cells_); }
  /// Pointers into device memory: for kernels, not for reading on the host.
  packed_view raw() const {
    packed_view v{rows_, cols_, cells_, {}};
    std::size_t offset = 0;
    for (int i = 0; i < stream_count; ++i) {
      v.at[i] = data_.data() + offset;
      offset += bytes().bytes[i];
    }
    return v;
  }
  const device_buffer& memory() const { return data_; }

 private:
  std::size_t rows_ = 0, cols_ = 0, cells_ = 0;
  device_buffer data_;
};

/// Copies a packed matrix to the current device. Each stream is one copy on @p stream, asynchronous where the host's
/// memory is pinned; keep @p w until it is done.
/// @throws cuda::error
template <class P, class Q>
matrix<P, Q> upload(const matrix_view<P, Q>& w, cudaStream_t stream = nullptr) {
  matrix<P, Q> d(w.rows(), w.cols(), w.cells());
  const packed_view to = d.raw();
  for (int i = 0; i < stream_count; ++i)
    if (const std::size_t n = d.bytes().bytes[i]; n > 0)
      check(
          cudaMemcpyAsync(const_cast<std::byte*>(to.at[i]), w.raw().at[i], n, cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
  return d;
}
template <class P, class Q>
matrix<P, Q> upload(const quern::matrix<P, Q>& w, cudaStream_t stream = nullptr) {
  return upload(w.view(), stream);
}

/// Copies a packed matrix back; waits for @p stream.
/// @throws cuda::error
template <class P, class Q>
quern::matrix<P, Q> download(const matrix<P, Q>& d, cudaStream_t stream = nullptr) {
  quern::matrix<P, Q> w(d.rows(), d.cols(), d.cells());
  const packed_view from = d.raw();
  for (int i = 0; i < stream_count; ++i)
    if (const std::size_t n = d.bytes().bytes[i]; n > 0)
      check(cudaMemcpyAsync(w.writable(static_cast<quern::stream>(i)), from.at[i], n, cudaMemcpyDeviceToHost,
                            stream),
            "cudaMemcpyAsync");
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  return w;
}

}  // namespace cuda
}  // namespace quern::inline v0
