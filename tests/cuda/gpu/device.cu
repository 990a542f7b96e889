// SPDX-License-Identifier: Apache-2.0
// On a real device: uploaded bytes come back, products equal a double loop within the bound of float sums, twice the
// same bits, alone and replayed from a graph. Prints SKIPPED where there is no device.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <quern/cuda.cuh>
#include <quern/kernel/cuda/pack.cuh>
#include <string>
#include <vector>

#include "../../support.hpp"
#include "../table.hpp"

// Not an unnamed namespace: its using directives would reach the global one, where CUB's own namespace cuda lies.
namespace device_test {

using namespace quern;
using namespace quern_test;
namespace gpu = quern::cuda;
int failures = 0;

void expect(bool ok, const std::string& what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}
template <class T>
gpu::device_buffer on_device(const std::vector<T>& v) {
  gpu::device_buffer d(v.size() * sizeof(T));
  gpu::check(cudaMemcpy(d.data(), v.data(), d.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  return d;
}
template <class T>
std::vector<T> on_host(const gpu::device_buffer& d) {
  std::vector<T> v(d.size() / sizeof(T));
  gpu::check(cudaMemcpy(v.data(), d.data(), d.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  return v;
}

/// Sums of n products in float: 2 n 2^-24 of the sum of magnitudes, and of scale * (code, zero) apart where a kernel
/// multiplies them apart.
void compare(const std::string& name, const dense_matrix& w, const std::vector<f16>& x, std::size_t stride,
             const std::vector<float>& y, double spread) {
  for (std::size_t t = 0; t < y.size() / w.rows; ++t)
    for (std::size_t r = 0; r < w.rows; ++r) {
      double sum = 0, size = 0;
      for (std::size_t c = 0; c < w.cols; ++c) {
        const double v = static_cast<double>(to_float(x[t * stride + c]));
        sum += static_cast<double>(w.view()(r, c)) * v;
        size += (std::abs(static_cast<double>(w.view()(r, c))) + spread) * std::abs(v);
      }
      if (std::abs(static_cast<double>(y[t * w.rows + r]) - sum) <=
          2 * (static_cast<double>(w.cols) + 64) * 0x1p-24 * size)
        continue;
      return expect(false, name + ": row " + std::to_string(r) + ", token " + std::to_string(t));
    }
}

template <class F>
void run(std::size_t rows, std::size_t cols, std::size_t tokens) {
  using P = typename F::pattern;
  using Q = typename F::quantizer;
  const std::string name = std::string(P::label().c_str()) + " " + Q::label().c_str() + ", " +
                           std::to_string(rows) + " x " + std::to_string(cols) + ", " +
                           std::to_string(tokens) + " tokens";
  rng g(rows + tokens);
  const dense_matrix dense_weights = random_matrix(rows, cols, g);
  const quern::matrix<P, Q> w = pack<P, Q>(dense_weights.view(), random_mask<P>(rows, cols, 0.5f, g));
  dense_matrix values(rows, cols);
  unpack(w.view(), values.view());
  const gpu::matrix<P, Q> d = gpu::upload(w);
  const quern::matrix<P, Q> back = gpu::download(d);
  for (int s = 0; s < stream_count; ++s)
    expect(std::memcmp(back.view().raw().at[s], w.view().raw().at[s], w.bytes().bytes[s]) == 0,
           name + ": download");
  const std::size_t stride = (cols + 7) / 8 * 8;
  std::vector<f16> x(tokens * stride);
  for (f16& v : x) v = to_f16(g.normal());
  const gpu::device_buffer dx = on_device(x), dy(tokens * rows * sizeof(float));
  const span2<const f16> in(reinterpret_cast<const f16*>(dx.data()), tokens, cols, stride);
  const span2<float> out(reinterpret_cast<float*>(dy.data()), tokens, rows);
  cudaStream_t stream = nullptr;
  gpu::check(cudaStreamCreate(&stream), "cudaStreamCreate");
  const gpu::workspace work(stream);
  float largest = 0;
  for (const float v : values.data) largest = std::max(largest, std::abs(v));
  const auto product = [&](const char* how, auto call) {
    gpu::check(cudaMemsetAsync(dy.data(), 0xff, dy.size(), stream), "cudaMemsetAsync");
    call();
    gpu::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    const std::vector<float> y = on_host<float>(dy);
    compare(name + ", " + how, values, x, stride, y,
            gpu::gemv_format<matrix_view<P, Q>>::has_offset ? 4 * largest : 0);
    return y;
  };
  const std::vector<float> first = product("tasks", [&] { multiply(d, in, out, work, stream); });
  expect(first == product("again", [&] { multiply(d, in, out, work, stream); }),
         name + ": differs from run to run");
  product("rows", [&] { multiply(d, in, out, stream); });
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  gpu::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "cudaStreamBeginCapture");
  multiply(d, in, out, work, stream);
  gpu::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  gpu::check(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  expect(first == product("graph",
                          [&] {
                            gpu::check(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
                            gpu::check(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
                          }),
         name + ": a replayed graph differs");
}

void pack_on_device() {
  using P = group<16>;
  using Q = affine<4, 16>;
  rng g(3);
  const dense_matrix w = random_matrix(100, 520, g);
  const std::size_t units = units_per_row<P>(520);
  const gpu::device_buffer dw = on_device(w.data), alive(100 * units);
  const span2<const float> on_gpu(reinterpret_cast<const float*>(dw.data()), 100, 520);
  for (const scope s : {scope::row, scope::layer}) {
    gpu::select<P>(on_gpu, nullptr, 0.4, s, reinterpret_cast<std::uint8_t*>(alive.data()));
    const quern::matrix<P, Q> got =
        gpu::download(gpu::pack<P, Q>(on_gpu, reinterpret_cast<const std::uint8_t*>(alive.data())));
    std::vector<float> scores(100 * units);
    unit_magnitudes(w.view(), shape_of<P>(), {}, {scores.data(), 100, units});
    const quern::matrix<P, Q> wanted =
        pack<P, Q>(w.view(), quern::select<P>({scores.data(), 100, units}, 100, 520, 0.4, s).value());
    expect(got.bytes().total() == wanted.bytes().total() &&
               std::memcmp(got.view().raw().at[0], wanted.view().raw().at[0], wanted.bytes().total()) == 0,
           "pack on the device differs from the CPU's");
  }
}

void run_all() {
  for (const std::size_t tokens : {1, 3, 16, 70}) {
    run<table::group16_w4>(1000, 1040, tokens);
    run<table::group_nm_w4>(333, 4096, tokens);
    run<table::bsr16_w4>(1000, 1040, tokens);
    run<table::dense_w4>(4096, 4096, tokens);
    run<table::dense_w5>(64, 520, tokens);
    run<table::nm_w4>(1000, 1040, tokens);
  }
  pack_on_device();
}

}  // namespace device_test

int main() try {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("SKIPPED: there is no CUDA device\n");
    return 77;
  }
  device_test::run_all();
  std::printf("%d failure(s)\n", device_test::failures);
  return device_test::failures == 0 ? 0 : 1;
} catch (const quern::error& e) {
  std::printf("FAILED: %s\n", e.what());
  return 1;
}
