// SPDX-License-Identifier: Apache-2.0
// What a format costs before anything is compressed:
//   explain --pattern "group<16>" --quantizer "affine<4,16>" --shape 4096x4096 --density 0.5
#include <algorithm>
#include <charconv>
#include <llama/catalogue.hpp>
#include <llama/check_files.hpp>
#include <llama/cli.hpp>
#include <llama/formats.hpp>
#include <numeric>

#if defined(__unix__)
#include <unistd.h>
#endif

namespace {

struct settings {
  std::string pattern = "group<16>", quantizer = "affine<4,16>", shape = "4096x4096", json;
  double density = 0.5, bandwidth = 0;
  bool list = false;
};

struct extent {
  std::size_t rows, cols;
};

extent parse_shape(const std::string& text) {
  extent e{};
  const char* const end = text.data() + text.size();
  const auto [x, first] = std::from_chars(text.data(), end, e.rows);
  const bool cut = first == std::errc() && x != end && *x == 'x';
  const auto [p, second] = std::from_chars(cut ? x + 1 : end, end, e.cols);
  constexpr std::size_t most = std::size_t{1} << 24;  // products stay far inside 64 bits
  quern::require(cut && second == std::errc() && p == end && e.rows >= 1 && e.cols >= 1 && e.rows <= most &&
                     e.cols <= most,
                 "explain: --shape '", text, "' must be ROWSxCOLS, each 1..", most);
  return e;
}

/// Bytes per second that one thread reads from memory: the best of several passes over a buffer four times as
/// large as the last cache, within limits.
double measured_bandwidth() {
  std::size_t bytes = std::size_t{256} << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  if (const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE); cache > 0)
    bytes = std::clamp(4 * static_cast<std::size_t>(cache), std::size_t{128} << 20, std::size_t{512} << 20);
#endif
  const std::vector<std::uint64_t> buffer(bytes / 8, 1);  // written, so that every page is memory of its own
  double best = 0;
  std::uint64_t sum = 0;
  const llama::stopwatch whole;
  for (int pass = 0; pass < 3 || (pass < 20 && whole.seconds() < 0.5); ++pass) {
    const llama::stopwatch watch;
    sum += std::accumulate(buffer.begin(), buffer.end(), std::uint64_t{0});
    best = std::max(best, static_cast<double>(bytes) / watch.seconds());
  }
  quern::require(sum != 0, "explain: memory does not hold what was written");  // keeps the sums alive
  return best;
}

int list_formats(const settings& s) {
  const extent e{4096, 4096};
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  std::printf("%-20s %-22s bits per weight (4096x4096, density 0.5 where it is free)\n", "pattern",
              "quantizer");
  for (const llama::format_ops* o : llama::all_formats()) {
    const auto f = llama::find_facts(o->pattern, o->quantizer).value();
    const double bits =
        f.bytes(e.rows, e.cols, f.cells_at(e.rows, e.cols, 0.5)).bits_per_weight(e.rows, e.cols);
    std::printf("%-20s %-22s %.4f\n", f.pattern.c_str(), f.quantizer.c_str(), bits);
    out.push_back({{"pattern", f.pattern}, {"quantizer", f.quantizer}, {"bits_per_weight", bits}});
  }
  llama::write_json(s.json, out);
  return 0;
}

/// What a stream holds.
const char* meaning(quern::stream s) {
  switch (s) {
    case quern::stream::begin:
      return "where the survivors of each row of blocks begin";
    case quern::stream::index:
      return "which weights or units survive";
    case quern::stream::row_scale:
      return "fp16 scale of each row";
    case quern::stream::scale:
      return "scales of runs";
    case quern::stream::zero:
      return "zeros of runs";
    default:
      return "codes";
  }
}

int explain(const settings& s) {
  using nlohmann::ordered_json;
  const llama::format_facts f = llama::find_facts(s.pattern, s.quantizer).value();
  const extent e = parse_shape(s.shape);
  if (f.why_not != nullptr)
    quern::raise(quern::shape_error("explain: ", f.pattern, " with ", f.quantizer, " is impossible. ",
                                    f.why_not, ", for instance ",
                                    llama::closest_formats(f.pattern, f.quantizer, 1).front()));
  const double weights = static_cast<double>(e.rows) * static_cast<double>(e.cols);
  const quern::storage stored = f.bytes(e.rows, e.cols, f.cells_at(e.rows, e.cols, s.density));
  const double kept = f.kept(e.rows, e.cols, s.density), total = static_cast<double>(stored.total());

  std::printf("%s with %s, %zu x %zu, %.4g of the weights stored%s\n\n", f.pattern.c_str(),
              f.quantizer.c_str(), e.rows, e.cols, kept / weights,
              f.free_density() ? "" : " (fixed by the pattern)");
  std::printf("%-10s %14s %10s %10s\n", "stream", "bytes", "bits/w", "padding");
  ordered_json streams = ordered_json::array();
  double padding = 0;
  for (int i = 0; i < quern::stream_count; ++i) {
    const auto k = static_cast<quern::stream>(i);
    if (stored[k] == 0) continue;
    const double bytes = static_cast<double>(stored[k]);
    const double extra = bytes - f.payload(k, e.rows, e.cols, s.density);
    padding += extra;
    std::printf("%-10s %14zu %10.4f %10.4f  %s\n", quern::stream_name(k), stored[k], 8 * bytes / weights,
                8 * extra / weights, meaning(k));
    streams.push_back({{"name", quern::stream_name(k)},
                       {"bytes", stored[k]},
                       {"bits_per_weight", 8 * bytes / weights},
                       {"padding_bits_per_weight", 8 * extra / weights}});
  }
  const double bits = stored.bits_per_weight(e.rows, e.cols);
  std::printf("%-10s %14zu %10.4f %10.4f  completed rows, columns and windows; 64-byte alignment\n\n",
              "total", stored.total(), bits, 8 * padding / weights);
  if (total > 0)
    std::printf("%.1f times smaller than fp32 (32 bits), %.1f than bf16 (16), %.2f than Q4_0 (4.5)\n",
                32 / bits, 16 / bits, 4.5 / bits);

  // y = W x for one vector: every stored weight is multiplied and added once; W and x are read, y is written.
  const double traffic = total + 4 * static_cast<double>(e.rows + e.cols);
  const double bandwidth = s.bandwidth > 0 ? 1e9 * s.bandwidth : measured_bandwidth();
  const auto micros = [&](double bits_each) {
    return 1e6 * (weights * bits_each / 8 + 4 * static_cast<double>(e.rows + e.cols)) / bandwidth;
  };
  std::printf(
      "GEMV: %.3g FLOP per byte. At %.1f GB/s%s memory allows %.1f us; dense fp32 %.1f, bf16 %.1f, "
      "Q4_0 %.1f us\n\n",
      2 * kept / traffic, bandwidth / 1e9, s.bandwidth > 0 ? "" : " (measured, one thread)", micros(bits),
      micros(32), micros(16), micros(4.5));

  ordered_json isas = ordered_json::array();
  bool chosen = false;
  for (const llama::isa_facts& i : f.isas) {
    const bool runs = i.supported && i.available;
    const char* note = runs           ? chosen ? "yes, when asked for" : "yes, the one that is used"
                       : !i.supported ? "no: its kernel is not written for this format"
                                      : "no: this CPU does not have its instructions";
    chosen = chosen || runs;
    std::printf("%-8s %s\n", i.name.c_str(), note);
    isas.push_back({{"name", i.name}, {"supported", i.supported}, {"available", i.available}});
  }
  const bool compiled = llama::find_format(f.pattern, f.quantizer) != nullptr;
  ordered_json closest = ordered_json::array();
  if (compiled) {
    std::printf("compress, perplexity and generate are compiled for it\n");
  } else {
    std::printf(
        "compress, perplexity and generate are not compiled for it (examples/llama/formats_*.cpp); "
        "closest:\n");
    for (const std::string& name : llama::closest_formats(f.pattern, f.quantizer, 3)) {
      std::printf("  %s\n", name.c_str());
      closest.push_back(name);
    }
  }
  llama::write_json(s.json, {{"pattern", f.pattern},
                             {"quantizer", f.quantizer},
                             {"rows", e.rows},
                             {"cols", e.cols},
                             {"stored_weights", kept},
                             {"streams", streams},
                             {"bytes", stored.total()},
                             {"bits_per_weight", bits},
                             {"flop_per_byte", 2 * kept / traffic},
                             {"bytes_per_second", bandwidth},
                             {"measured", !(s.bandwidth > 0)},
                             {"microseconds", micros(bits)},
                             {"isas", isas},
                             {"compiled", compiled},
                             {"closest", closest}});
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Bits per weight, bytes, memory-bound time and kernels of a format.");
  app.option_defaults()->always_capture_default();
  app.add_option("--pattern", s.pattern,
                 "for example dense, group<16>, group_nm<2,4,16>, bsr<16,32>, nm<2,4>");
  app.add_option("--quantizer", s.quantizer, "for example affine<4,16>, affine<4,16,two_level>, real<f32>");
  app.add_option("--shape", s.shape, "ROWSxCOLS of the weights");
  app.add_option("--density", s.density, "share that survives, where the pattern leaves it free")
      ->check(llama::finite(0, 1));
  app.add_option("--bandwidth", s.bandwidth, "GB/s of memory; 0: measure one thread")
      ->check(llama::finite(0, 1e6));
  app.add_flag("--list", s.list, "list the formats that the programs are compiled for");
  app.add_option("--json", s.json, "file for the figures");
  return llama::run(app, argc, argv, [&] {
    llama::check_files({}, {{"--json", s.json}});
    return s.list ? list_formats(s) : explain(s);
  });
}
