// SPDX-License-Identifier: Apache-2.0
// A matrix of a compressed file on the GPU: upload, multiply, and the same product replayed from a CUDA graph.
//   compress model.gguf --pattern "group<16>" --quantizer "affine<4,16>" -o model.safetensors
//   gpu_multiply model.safetensors blk.0.ffn_up.weight
#include <cmath>
#include <cstdio>
#include <quern/core/rng.hpp>
#include <quern/cuda.cuh>
#include <quern/kernel/cpu/multiply.hpp>
#include <vector>

namespace {

using namespace quern;

/// The formats this program is compiled for; an engine lists those of its models.
using formats = format_list<format<group<16>, affine<4, 16>>, format<group_nm<2, 4, 16>, affine<4, 16>>,
                            format<bsr<16, 32>, affine<4, 32>>, format<dense, affine<4, 32>>>;

/// Largest |gpu - cpu| over the largest |cpu|.
double difference(const std::vector<float>& gpu, const std::vector<float>& cpu) {
  double off = 0, size = 0;
  for (std::size_t i = 0; i < cpu.size(); ++i) {
    const double d = std::abs(static_cast<double>(gpu[i]) - static_cast<double>(cpu[i]));
    off = d > off || d != d ? d : off;  // NaN stays
    size = std::max(size, std::abs(static_cast<double>(cpu[i])));
  }
  return off / size;
}

template <class P, class Q>
int run(const matrix_view<P, Q>& w) {
  // Inputs as the GPU reads them, and the same numbers for the CPU.
  rng g(1);
  std::vector<f16> x(w.cols());
  std::vector<float> exact(w.cols()), expected(w.rows()), y(w.rows());
  for (std::size_t i = 0; i < x.size(); ++i) exact[i] = to_float(x[i] = to_f16(g.normal()));
  multiply<isa_list<isa::scalar>>(w, std::span<const float>(exact), std::span<float>(expected));

  cudaStream_t stream = nullptr;
  cuda::check(cudaStreamCreate(&stream), "cudaStreamCreate");
  const cuda::matrix<P, Q> d = cuda::upload(w, stream);
  const cuda::device_buffer dx(x.size() * sizeof(f16)), dy(y.size() * sizeof(float));
  cuda::check(cudaMemcpyAsync(dx.data(), x.data(), dx.size(), cudaMemcpyHostToDevice, stream),
              "cudaMemcpyAsync");
  const span2<const f16> in(reinterpret_cast<const f16*>(dx.data()), 1, w.cols());
  const span2<float> out(reinterpret_cast<float*>(dy.data()), 1, w.rows());
  const cuda::workspace work(stream);

  multiply(d, in, out, work, stream);
  cuda::check(cudaMemcpyAsync(y.data(), dy.data(), dy.size(), cudaMemcpyDeviceToHost, stream),
              "cudaMemcpyAsync");
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  const double first = difference(y, expected);
  std::printf("%s %s, %zu x %zu, %.3f bits per weight\n", P::label().c_str(), Q::label().c_str(), w.rows(),
              w.cols(), w.bits_per_weight());
  std::printf("GPU against CPU: largest difference %.2g of the largest result\n", first);

  // multiply allocates nothing and waits for nothing, so an engine can capture a whole layer.
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replay = nullptr;
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  multiply(d, in, out, work, stream);
  cuda::check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cuda::check(cudaGraphInstantiate(&replay, graph, 0), "cudaGraphInstantiate");
  cudaEvent_t begin = nullptr, end = nullptr;
  cuda::check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda::check(cudaEventCreate(&end), "cudaEventCreate");
  constexpr int times = 100;
  cuda::check(cudaMemsetAsync(dy.data(), 0xff, dy.size(), stream), "cudaMemsetAsync");
  cuda::check(cudaEventRecord(begin, stream), "cudaEventRecord");
  for (int i = 0; i < times; ++i) cuda::check(cudaGraphLaunch(replay, stream), "cudaGraphLaunch");
  cuda::check(cudaEventRecord(end, stream), "cudaEventRecord");
  cuda::check(cudaMemcpyAsync(y.data(), dy.data(), dy.size(), cudaMemcpyDeviceToHost, stream),
              "cudaMemcpyAsync");
  cuda::check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  float milliseconds = 0;
  cuda::check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  const double again = difference(y, expected);
  std::printf("CUDA graph, %d replays: %.2f us each, largest difference %.2g\n", times,
              static_cast<double>(milliseconds) * 1e3 / times, again);
  // Two sums of K products in float are each off by at most 2 K 2^-24 of the sum of their magnitudes, and random signs
  // leave a result of about that sum over sqrt(K).
  const double k = static_cast<double>(w.cols()), bound = 4 * k * std::sqrt(k) * 0x1p-24;
  return first <= bound && again <= bound ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) try {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("SKIPPED: there is no CUDA device\n");
    return 77;
  }
  if (argc != 3) {
    std::fprintf(stderr, "usage: gpu_multiply FILE.safetensors MATRIX\n");
    return 2;
  }
  const safetensors_file file = safetensors_file::open(argv[1]).value();
  const packed_entry entry = find_packed(file, argv[2]).value();
  int status = 2;
  const bool known = visit_format<formats>(
      entry.pattern.c_str(), entry.quantizer.c_str(),
      [&]<class P, class Q>() { status = run(find_packed<P, Q>(file, argv[2]).value()); });
  if (!known)
    std::fprintf(stderr, "gpu_multiply: not compiled for %s %s\n", entry.pattern.c_str(),
                 entry.quantizer.c_str());
  return status;
} catch (const quern::error& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
