// SPDX-License-Identifier: Apache-2.0
// Packed matrices on the GPU beside cuBLAS fp16 (and cuSPARSELt, where it is installed), timed with CUDA events.
//
// Registers <pattern>/<quantizer>/N<rows>/K<cols>/M<tokens>; copies of the weights are rotated through more memory than
// the L2 cache holds. Counters: bits_per_weight; GB/s of packed bytes; of_memory = that over the board's own figure;
// GOP/s counted dense, pruned weights included. Results are compared with the CPU before anything is timed.
#include <benchmark/benchmark.h>
#include <cublas_v2.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <quern/core/rng.hpp>
#include <quern/cuda.cuh>
#include <string>
#include <vector>
#if __has_include(<cusparseLt.h>)
#include <cusparseLt.h>
#define QUERN_BENCH_CUSPARSELT
#endif

namespace {

using namespace quern;

struct shape {
  std::size_t rows, cols, tokens;
};
const shape shapes[] = {{4096, 4096, 1},  {4096, 4096, 4},  {11008, 4096, 1}, {4096, 11008, 1},
                        {4096, 4096, 16}, {4096, 4096, 64}, {4096, 4096, 256}};

/// Weights of @p rotated bytes at least, so that none is in the cache when it is read again.
constexpr std::size_t rotated = std::size_t{512} << 20;

double memory_rate() {
  int clock = 0, width = 0;
  cuda::check(cudaDeviceGetAttribute(&clock, cudaDevAttrMemoryClockRate, 0), "cudaDeviceGetAttribute");
  cuda::check(cudaDeviceGetAttribute(&width, cudaDevAttrGlobalMemoryBusWidth, 0), "cudaDeviceGetAttribute");
  return 2.0 * clock * 1e3 * width / 8 / 1e9;  // kHz, two transfers per clock, bits
}

/// Times body(i) with events; the first calls warm up.
template <class Body>
void time(benchmark::State& state, const shape& s, std::size_t bytes, cudaStream_t stream, Body body) {
  cudaEvent_t begin = nullptr, end = nullptr;
  cuda::check(cudaEventCreate(&begin), "cudaEventCreate");
  cuda::check(cudaEventCreate(&end), "cudaEventCreate");
  constexpr int batch = 32;
  for (int i = 0; i < batch; ++i) body(i);
  std::size_t next = 0;
  double seconds = 0;
  for (auto _ : state) {
    cuda::check(cudaEventRecord(begin, stream), "cudaEventRecord");
    for (int i = 0; i < batch; ++i) body(next++);
    cuda::check(cudaEventRecord(end, stream), "cudaEventRecord");
    cuda::check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float milliseconds = 0;
    cuda::check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    state.SetIterationTime(static_cast<double>(milliseconds) * 1e-3 / batch);
    seconds += static_cast<double>(milliseconds) * 1e-3 / batch;
  }
  const double n = static_cast<double>(state.iterations());
  state.counters["GB/s"] = n * static_cast<double>(bytes) / seconds / 1e9;
  state.counters["of_memory"] = n * static_cast<double>(bytes) / seconds / 1e9 / memory_rate();
  state.counters["GOP/s"] = n * 2 * static_cast<double>(s.rows * s.cols * s.tokens) / seconds / 1e9;
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
}

/// Random fp16 inputs, on the host as float as well.
struct inputs {
  std::vector<float> exact;
  cuda::device_buffer device;
  explicit inputs(const shape& s) : exact(s.tokens * s.cols), device(exact.size() * sizeof(f16)) {
    rng g(2);
    std::vector<f16> h(exact.size());
    for (std::size_t i = 0; i < h.size(); ++i) exact[i] = to_float(h[i] = to_f16(g.normal()));
    cuda::check(cudaMemcpy(device.data(), h.data(), device.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  }
};

/// Weights of one format, about half of the units kept.
template <class P, class Q>
quern::matrix<P, Q> example(const shape& s) {
  rng g(1);
  std::vector<float> w(s.rows * s.cols);
  for (float& v : w) v = g.normal() / std::sqrt(static_cast<float>(s.cols));
  for (std::size_t top = 0; P::kind != survivors::all && top < s.rows; top += P::unit_rows)
    for (std::size_t left = 0, unit = 0; left < s.cols; left += P::unit_cols, ++unit) {
      const bool keep = P::of > 0 ? unit % P::of < P::keep : g.uniform() < 0.5f;
      for (std::size_t r = top; !keep && r < std::min(s.rows, top + P::unit_rows); ++r)
        for (std::size_t c = left; c < std::min(s.cols, left + P::unit_cols); ++c) w[r * s.cols + c] = 0;
    }
  return pack<P, Q>({w.data(), s.rows, s.cols});
}

template <class P, class Q>
void product(benchmark::State& state, shape s) {
  const quern::matrix<P, Q> w = example<P, Q>(s);
  const inputs x(s);
  const cuda::device_buffer y(s.tokens * s.rows * sizeof(float));
  const cuda::workspace work;
  std::vector<cuda::matrix<P, Q>> copies;
  do copies.push_back(cuda::upload(w));
  while (copies.size() * w.bytes().total() < rotated);
  const span2<const f16> in(reinterpret_cast<const f16*>(x.device.data()), s.tokens, s.cols);
  const span2<float> out(reinterpret_cast<float*>(y.data()), s.tokens, s.rows);
  multiply(copies[0], in, out, work);
  std::vector<float> got(s.tokens * s.rows), expected(s.rows);
  cuda::check(cudaMemcpy(got.data(), y.data(), y.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  multiply<isa_list<isa::scalar>>(w, std::span<const float>(x.exact.data(), s.cols),
                                  std::span<float>(expected));
  // Two sums of K products, off by at most 2 K 2^-24 of their magnitudes each: those add up to less than sqrt(K).
  const float k = static_cast<float>(s.cols), bound = 4 * k * std::sqrt(k) * 0x1p-24f;
  for (std::size_t i = 0; i < s.rows; ++i)
    if (!(std::abs(got[i] - expected[i]) <= bound)) return state.SkipWithError("differs from the CPU");
  state.counters["bits_per_weight"] = w.bits_per_weight();
  time(state, s, w.bytes().total(), nullptr,
       [&](std::size_t i) { multiply(copies[i % copies.size()], in, out, work); });
}

/// Dense fp16, sums in float: what an engine does without any of this.
void cublas(benchmark::State& state, shape s) {
  const std::size_t bytes = s.rows * s.cols * 2;
  const inputs x(s);
  std::vector<cuda::device_buffer> copies;
  do {
    copies.emplace_back(bytes);
    cuda::check(cudaMemset(copies.back().data(), 0, bytes), "cudaMemset");
  } while (copies.size() * bytes < rotated);
  const cuda::device_buffer y(s.tokens * s.rows * sizeof(float));
  cublasHandle_t handle = nullptr;
  if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) return state.SkipWithError("cublasCreate failed");
  const float one = 1, zero = 0;
  time(state, s, bytes, nullptr, [&](std::size_t i) {
    // Column-major: y^T [rows x tokens] = W^T^T [rows x cols] x^T [cols x tokens].
    if (cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(s.rows), static_cast<int>(s.tokens),
                     static_cast<int>(s.cols), &one, copies[i % copies.size()].data(), CUDA_R_16F,
                     static_cast<int>(s.cols), x.device.data(), CUDA_R_16F, static_cast<int>(s.cols), &zero,
                     y.data(), CUDA_R_32F, static_cast<int>(s.rows), CUBLAS_COMPUTE_32F,
                     CUBLAS_GEMM_DEFAULT) != CUBLAS_STATUS_SUCCESS)
      state.SkipWithError("cublasGemmEx failed");
  });
  cublasDestroy(handle);
}

#if defined(QUERN_BENCH_CUSPARSELT)
/// 2:4 sparse fp16 of NVIDIA's library; batches of a multiple of 8 only.
void cusparselt(benchmark::State& state, shape s) {
  const inputs x(s);
  const cuda::device_buffer dense(s.rows * s.cols * 2), y(s.tokens * s.rows * 2);
  std::vector<f16> w(s.rows * s.cols);
  rng g(3);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = to_f16(i % 4 < 2 ? g.normal() : 0);
  cuda::check(cudaMemcpy(dense.data(), w.data(), dense.size(), cudaMemcpyHostToDevice), "cudaMemcpy");
  const auto ok = [&](cusparseStatus_t code) {
    if (code != CUSPARSE_STATUS_SUCCESS) state.SkipWithError("cuSPARSELt failed");
    return code == CUSPARSE_STATUS_SUCCESS;
  };
  cusparseLtHandle_t handle;
  cusparseLtMatDescriptor_t a, b, c;
  cusparseLtMatmulDescriptor_t multiplication;
  cusparseLtMatmulAlgSelection_t selection;
  cusparseLtMatmulPlan_t plan;
  const auto n = [](std::size_t v) { return static_cast<std::int64_t>(v); };
  std::size_t packed = 0, scratch = 0, work = 0;
  if (!ok(cusparseLtInit(&handle)) ||
      !ok(cusparseLtStructuredDescriptorInit(&handle, &a, n(s.rows), n(s.cols), n(s.cols), 16, CUDA_R_16F,
                                             CUSPARSE_ORDER_ROW, CUSPARSELT_SPARSITY_50_PERCENT)) ||
      !ok(cusparseLtDenseDescriptorInit(&handle, &b, n(s.cols), n(s.tokens), n(s.cols), 16, CUDA_R_16F,
                                        CUSPARSE_ORDER_COL)) ||
      !ok(cusparseLtDenseDescriptorInit(&handle, &c, n(s.rows), n(s.tokens), n(s.rows), 16, CUDA_R_16F,
                                        CUSPARSE_ORDER_COL)) ||
      !ok(cusparseLtMatmulDescriptorInit(&handle, &multiplication, CUSPARSE_OPERATION_NON_TRANSPOSE,
                                         CUSPARSE_OPERATION_NON_TRANSPOSE, &a, &b, &c, &c,
                                         CUSPARSE_COMPUTE_32F)) ||
      !ok(cusparseLtMatmulAlgSelectionInit(&handle, &selection, &multiplication,
                                           CUSPARSELT_MATMUL_ALG_DEFAULT)) ||
      !ok(cusparseLtMatmulPlanInit(&handle, &plan, &multiplication, &selection)) ||
      !ok(cusparseLtSpMMACompressedSize(&handle, &plan, &packed, &scratch)))
    return;
  const cuda::device_buffer compressed(packed), temporary(scratch);
  const float one = 1, zero = 0;
  if (!ok(cusparseLtSpMMACompress(&handle, &plan, dense.data(), compressed.data(), temporary.data(),
                                  nullptr)) ||
      !ok(cusparseLtMatmulGetWorkspace(&handle, &plan, &work)))
    return;
  const cuda::device_buffer workspace(work);
  time(state, s, packed, nullptr, [&](std::size_t) {
    ok(cusparseLtMatmul(&handle, &plan, &one, compressed.data(), x.device.data(), &zero, y.data(), y.data(),
                        workspace.data(), nullptr, 0));
  });
  cusparseLtMatmulPlanDestroy(&plan);
  cusparseLtDestroy(&handle);
}
#endif

std::string ending(const shape& s) {
  return "/N" + std::to_string(s.rows) + "/K" + std::to_string(s.cols) + "/M" + std::to_string(s.tokens);
}
void add(const std::string& name, const shape& s, void (*run)(benchmark::State&, shape)) {
  benchmark::RegisterBenchmark((name + ending(s)).c_str(), run, s)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}
template <class P, class Q>
void add_format() {
  for (const shape& s : shapes)
    add(std::string(P::label().c_str()) + "/" + Q::label().c_str(), s, product<P, Q>);
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("SKIPPED: there is no CUDA device\n");
    return 77;
  }
  add_format<group<16>, affine<4, 16>>();
  add_format<group_nm<2, 4, 16>, affine<4, 16>>();
  add_format<bsr<16, 32>, affine<4, 32>>();
  add_format<dense, affine<4, 32>>();
  for (const shape& s : shapes) add("cublas/f16", s, cublas);
#if defined(QUERN_BENCH_CUSPARSELT)
  for (const shape& s : shapes)
    if (s.tokens % 8 == 0) add("cusparselt/f16", s, cusparselt);
#endif
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
