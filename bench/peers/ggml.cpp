// SPDX-License-Identifier: Apache-2.0
// The CPU kernels of llama.cpp, named and timed as bench_gemv and bench_gemm name and time ours:
// <type>[+]/N<rows>/K<cols>/M<tokens>/T<threads>[/cached], where + is the layout that llama.cpp repacks weights into when
// it loads a model. GB/s of packed bytes, stream and of_stream are those of bench_gemv, too: of a plain read of the same
// memory by as many threads right after. get.sh builds it. One call of the backend multiplies many matrices with the same
// input, so that what a call costs is shared, and the time is that of one of them.
#include <benchmark/benchmark.h>
#include <ggml-backend.h>
#include <ggml-cpp.h>
#include <ggml-cpu.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <quern/core/thread_pool.hpp>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "../roof.hpp"

namespace {

/// Bytes of copies that are gone through, as in bench/examples.hpp.
constexpr std::size_t cold = std::size_t{256} << 20;

struct shape {
  std::int64_t rows, cols, tokens;
  int threads;
  bool cached;
};

struct kind {
  ggml_type type;
  bool repacked;
};

std::vector<float> normal(std::size_t n, float size, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> draw(0, size);
  std::vector<float> v(n);
  for (float& f : v) f = draw(bits);
  return v;
}

/// The layout of ggml's CPU backend that weights are repacked into; null where it has none.
ggml_backend_buffer_type_t repacked_layout(ggml_backend_t backend) {
  const ggml_backend_dev_t device = ggml_backend_get_device(backend);
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts"));
  for (auto* b = extra == nullptr ? nullptr : extra(device); b != nullptr && *b != nullptr; ++b)
    if (std::strstr(ggml_backend_buft_name(*b), "REPACK") != nullptr) return *b;
  return nullptr;
}

ggml_context_ptr context_of(std::size_t tensors, bool graph) {
  return ggml_context_ptr(ggml_init({.mem_size = ggml_tensor_overhead() * tensors +
                                                 (graph ? ggml_graph_overhead_custom(tensors, false) : 0),
                                     .mem_buffer = nullptr,
                                     .no_alloc = true}));
}

/// Copies of one quantized matrix.
struct weights {
  ggml_context_ptr context;
  ggml_backend_buffer_ptr buffer;
  std::vector<ggml_tensor*> copies;
  std::vector<float> exact;
};

weights make_weights(const kind& k, const shape& s, ggml_backend_t backend) {
  const auto values = static_cast<std::size_t>(s.rows * s.cols);
  weights w;
  w.exact = normal(values, 1 / std::sqrt(static_cast<float>(s.cols)), 1);
  const std::size_t bytes = ggml_row_size(k.type, s.cols) * static_cast<std::size_t>(s.rows);
  const std::size_t copies = s.cached ? 1 : cold / bytes + 1;
  w.context = context_of(copies, false);
  for (std::size_t i = 0; i < copies; ++i)
    w.copies.push_back(ggml_new_tensor_2d(w.context.get(), k.type, s.cols, s.rows));
  const ggml_backend_buffer_type_t layout =
      k.repacked ? repacked_layout(backend) : ggml_backend_cpu_buffer_type();
  if (layout == nullptr) return w;
  w.buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(w.context.get(), layout));
  if (w.buffer == nullptr || (k.repacked && w.copies[0]->extra == nullptr)) {
    w.buffer.reset();
    return w;
  }
  ggml_backend_buffer_set_usage(w.buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  std::vector<char> codes(bytes);
  ggml_quantize_chunk(k.type, w.exact.data(), codes.data(), 0, s.rows, s.cols, nullptr);
  for (ggml_tensor* t : w.copies) ggml_backend_tensor_set(t, codes.data(), 0, bytes);
  return w;
}

/// Made once: a benchmark is called several times until it knows how often to repeat.
const weights& weights_of(const kind& k, const shape& s, ggml_backend_t backend) {
  static std::map<std::tuple<int, bool, std::int64_t, std::int64_t, bool>, weights> made;
  const auto key = std::tuple(static_cast<int>(k.type), k.repacked, s.rows, s.cols, s.cached);
  const auto found = made.find(key);
  return found != made.end() ? found->second : made.emplace(key, make_weights(k, s, backend)).first->second;
}

/// Products of the copies [from, from + n), modulo their number, with one input; all outputs share their memory.
class products {
 public:
  products(const weights& w, const shape& s, const std::vector<float>& x, std::size_t from, std::size_t n)
      : context_(context_of(n * 2 + 8, true)) {
    ggml_tensor* in = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, s.cols, s.tokens);
    graph_ = ggml_new_graph_custom(context_.get(), n + 8, false);
    const auto round = [](std::int64_t floats) {
      return (static_cast<std::size_t>(floats) * 4 + 127) / 64 * 64;
    };
    const std::size_t in_bytes = round(s.cols * s.tokens), out_bytes = round(s.rows * s.tokens);
    buffer_.reset(ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), in_bytes + out_bytes + 128));
    char* const base = static_cast<char*>(ggml_backend_buffer_get_base(buffer_.get()));
    ggml_backend_tensor_alloc(buffer_.get(), in, base);
    ggml_backend_tensor_set(in, x.data(), 0, x.size() * 4);
    for (std::size_t i = 0; i < n; ++i) {
      out_ = ggml_mul_mat(context_.get(), w.copies[(from + i) % w.copies.size()], in);
      ggml_backend_tensor_alloc(buffer_.get(), out_, base + in_bytes);
      ggml_build_forward_expand(graph_, out_);
    }
  }
  /// Seconds of all of them.
  double run(ggml_backend_t backend) {
    const auto start = std::chrono::steady_clock::now();
    ggml_backend_graph_compute(backend, graph_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::vector<float> first_outputs(std::size_t n) const {
    std::vector<float> y(n);
    ggml_backend_tensor_get(out_, y.data(), 0, n * 4);
    return y;
  }

 private:
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* out_ = nullptr;
};

/// Relative error of the first outputs of the first token: 4-bit codes of Gaussian weights are off by about .09.
double error_of(const std::vector<float>& y, const weights& w, const std::vector<float>& x) {
  const std::size_t cols = w.exact.size() / static_cast<std::size_t>(w.copies[0]->ne[1]);
  double off = 0, size = 0;
  for (std::size_t r = 0; r < y.size(); ++r) {
    double sum = 0;
    for (std::size_t c = 0; c < cols; ++c) sum += static_cast<double>(w.exact[r * cols + c]) * x[c];
    off += std::pow(y[r] - sum, 2), size += sum * sum;
  }
  return std::sqrt(off / size);
}

void multiply(benchmark::State& state, kind k, shape s) {
  const ggml_backend_ptr backend(ggml_backend_cpu_init());
  ggml_backend_cpu_set_n_threads(backend.get(), s.threads);
  const weights& w = weights_of(k, s, backend.get());
  if (w.buffer == nullptr) return state.SkipWithError("ggml has no such layout of this type and shape");
  const std::vector<float> x = normal(static_cast<std::size_t>(s.cols * s.tokens), 1, 2);
  products one(w, s, x, 0, 1);
  one.run(backend.get());
  const double error = error_of(one.first_outputs(64), w, x), once = one.run(backend.get());
  if (!(error < 0.2)) return state.SkipWithError("the result is wrong");
  // Up to 32 products a call, a tenth of a second of them, one after the other through the copies.
  const std::size_t n = std::clamp<std::size_t>(static_cast<std::size_t>(0.1 / once), 1, 32);
  std::size_t from = 0;
  double spent = 0;
  for (auto _ : state) {
    products some(w, s, x, from, n);
    const double each = some.run(backend.get()) / static_cast<double>(n);
    state.SetIterationTime(each);
    spent += each;
    from += n;
  }
  quern::thread_pool pool(static_cast<std::size_t>(s.threads));
  const std::span memory(static_cast<const std::byte*>(ggml_backend_buffer_get_base(w.buffer.get())),
                         ggml_backend_buffer_get_size(w.buffer.get()));
  const double bytes = static_cast<double>(state.iterations()) *
                       static_cast<double>(memory.size() / w.copies.size()),
               rate = bytes / (1e9 * spent), stream = bench::read_rate({memory}, 0.03, pool);
  state.counters["bits_per_weight"] =
      8 * static_cast<double>(memory.size() / w.copies.size()) / static_cast<double>(s.rows * s.cols);
  state.counters["GB/s"] = rate;
  state.counters["stream"] = stream;
  state.counters["of_stream"] = rate / stream;
  state.counters["error"] = error;
}

}  // namespace

int main(int argc, char** argv) {
  ggml_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  for (const auto& [name, k] :
       {std::pair{"q4_0+", kind{GGML_TYPE_Q4_0, true}}, {"q4_0", {GGML_TYPE_Q4_0, false}}})
    for (const int threads : {1, 2})
      for (const auto& [rows, cols, tokens, cached] : {std::tuple{4096, 4096, 1, false},
                                                       {11008, 4096, 1, false},
                                                       {576, 576, 1, false},
                                                       {1536, 576, 1, false},
                                                       {576, 576, 1, true},
                                                       {1536, 576, 1, true},
                                                       {4096, 4096, 4, false},
                                                       {4096, 4096, 16, false},
                                                       {4096, 4096, 64, false},
                                                       {4096, 4096, 96, false},
                                                       {4096, 4096, 512, false}})
        benchmark::RegisterBenchmark(
            (std::string(name) + "/N" + std::to_string(rows) + "/K" + std::to_string(cols) + "/M" +
             std::to_string(tokens) + "/T" + std::to_string(threads) + (cached ? "/cached" : ""))
                .c_str(),
            multiply, k, shape{rows, cols, tokens, threads, cached})
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
