// SPDX-License-Identifier: Apache-2.0
// How an inference engine takes the headers in: its own memory, its own threads, errors as values. A converter packs
// the two matrices of a gated feed-forward layer and writes them; the engine reads the file into its arena, takes
// views of it, and multiplies from all of its threads without allocating.
//   embed_in_engine FILE [THREADS]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <quern/core/rng.hpp>
#include <quern/quern.hpp>
#include <thread>
#include <vector>

namespace {

// The one place that knows formats: everything below is compiled for these two types.
using pattern = quern::bsr<16, 32>;
using quantizer = quern::affine<4, 32>;
using view = quern::matrix_view<pattern, quantizer>;
using int8 = quern::int8_groups<32>;
constexpr std::size_t hidden = 576, inner = 1536;

/// The converter: random weights, every second block of 16 x 32 pruned.
quern::result<void> convert(const char* path) {
  quern::safetensors_writer out;
  quern::rng random(1);
  std::vector<quern::matrix<pattern, quantizer>> owners;  // must stay until write()
  for (const char* name : {"gate", "up"}) {
    std::vector<float> w(inner * hidden);
    for (std::size_t r = 0; r < inner; ++r)
      for (std::size_t c = 0; c < hidden; ++c)
        w[r * hidden + c] = (r / 16 + c / 32) % 2 == 0 ? random.normal() : 0.0f;
    auto packed = quern::try_pack<pattern, quantizer>({w.data(), inner, hidden});
    if (!packed) return packed.error();
    owners.push_back(std::move(*packed));
    quern::add_packed(out, name, owners.back().view());
  }
  return out.write(path);
}

/// What the engine owns: one block of memory for the file, one for what a layer computes with.
struct engine {
  quern::buffer file, work;
  view gate, up;
};

quern::result<engine> load(const char* path) {
  engine e;
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return quern::io_error("embed_in_engine: '", path, "' cannot be opened; check the name");
  e.file = quern::buffer(static_cast<std::size_t>(in.tellg()));
  in.seekg(0);
  if (!in.read(reinterpret_cast<char*>(e.file.data()), static_cast<std::streamsize>(e.file.size())))
    return quern::io_error("embed_in_engine: '", path,
                           "' cannot be read to its end; is it still being written?");
  // Every size is checked here, once; kernels trust the views.
  const auto file = quern::safetensors_file::parse({e.file.data(), e.file.size()}, path);
  if (!file) return file.error();
  const auto gate = quern::find_packed<pattern, quantizer>(*file, "gate");
  if (!gate) return gate.error();
  const auto up = quern::find_packed<pattern, quantizer>(*file, "up");
  if (!up) return up.error();
  if (gate->cols() != hidden || up->cols() != hidden || gate->rows() != up->rows())
    return quern::io_error("embed_in_engine: '", path, "': gate and up must be alike, with ", hidden,
                           " columns");
  e.gate = *gate, e.up = *up;
  e.work = quern::buffer(quern::workspace_bytes<int8>(1, hidden));
  return e;
}

/// One thread's share of h = silu(gate x) * (up x): what the engine calls in each of its threads. Each keeps to the
/// rows that it makes itself, so that nothing waits in between.
void feed_forward(const engine& e, const quern::activation_view<int8>& x, quern::span2<float> gate,
                  quern::span2<float> up, std::size_t ith, std::size_t nth) {
  const quern::work_split<pattern, quantizer> work(e.gate);
  const std::size_t begin = work.tile(quern::part_begin(work.size(), nth, ith));
  const std::size_t end = work.tile(quern::part_begin(work.size(), nth, ith + 1));
  if (!quern::multiply_tiles(e.gate, begin, end, x, gate) || !quern::multiply_tiles(e.up, begin, end, x, up))
    std::abort();  // never: the default list ends with isa::scalar
  for (std::size_t r = 16 * begin; r < std::min<std::size_t>(16 * end, inner); ++r)
    gate(0, r) = gate(0, r) / (1 + std::exp(-gate(0, r))) * up(0, r);
}

/// The largest difference to weights and inputs in double precision, as a share of the largest result.
double error_of(const engine& e, std::span<const float> x, std::span<const float> h) {
  std::vector<float> gate(inner * hidden), up(inner * hidden);
  quern::unpack(e.gate, {gate.data(), inner, hidden});
  quern::unpack(e.up, {up.data(), inner, hidden});
  double worst = 0, largest = 0;
  for (std::size_t r = 0; r < inner; ++r) {
    double g = 0, u = 0;
    for (std::size_t c = 0; c < hidden; ++c) {
      g += static_cast<double>(gate[r * hidden + c]) * static_cast<double>(x[c]);
      u += static_cast<double>(up[r * hidden + c]) * static_cast<double>(x[c]);
    }
    const double exact = g / (1 + std::exp(-g)) * u;
    worst = std::max(worst, std::abs(exact - static_cast<double>(h[r])));
    largest = std::max(largest, std::abs(exact));
  }
  return worst / largest;
}

int fail(const quern::error& why) {
  std::fprintf(stderr, "%s\n", why.what());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::size_t threads = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 2;
  if (argc < 2 || argc > 3 || threads < 1 || threads > 256) {
    std::fprintf(stderr, "usage: embed_in_engine FILE [THREADS, 1 to 256]\n");
    return 2;
  }
  if (const auto ok = convert(argv[1]); !ok) return fail(ok.error());
  auto e = load(argv[1]);
  if (!e) return fail(e.error());

  std::vector<float> x(hidden), gate(inner), up(inner);
  quern::rng random(2);
  for (float& v : x) v = random.normal();
  // Quantized once for both matrices, in the engine's memory.
  const auto prepared =
      quern::prepare<int8>({x.data(), 1, hidden}, e->work.data(), quern::serial{}, quern::tables_of<pattern>);
  std::vector<std::thread> own;  // an engine has them already
  for (std::size_t ith = 0; ith < threads; ++ith)
    own.emplace_back([&, ith] {
      feed_forward(*e, prepared, {gate.data(), 1, inner}, {up.data(), 1, inner}, ith, threads);
    });
  for (std::thread& t : own) t.join();
  const double error = error_of(*e, x, gate);
  std::printf(
      "%zu x %zu twice, %.3f bits per weight, %zu bytes in the arena, %zu of workspace; %zu threads; "
      "relative error %.4f\n",
      inner, hidden, e->gate.bits_per_weight(), e->file.size(), e->work.size(), threads, error);
  // int8 costs .0055 of a product's size (docs/results/cpu_kernels.md), two products are multiplied, and the largest
  // of 1,536 errors is about four times their root mean square.
  return error < 0.05 ? 0 : 1;
}
