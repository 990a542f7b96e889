// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <llama/catalogue.hpp>
#include <llama/formats.hpp>
#include <llama/unit_mask.hpp>
#include <quern/core/rng.hpp>
#include <string>
#include <vector>

namespace {

std::string message(const char* pattern, const char* quantizer) {
  const auto f = llama::find_facts(pattern, quantizer);
  return f ? "found" : f.error().what();
}
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("predicted bytes are the bytes that packing makes, for every compiled format") {
  quern::thread_pool pool(1);
  quern::rng random(3);
  for (const llama::format_ops* o : llama::all_formats()) {
    CAPTURE(o->pattern);
    CAPTURE(o->quantizer);
    const auto f = llama::find_facts(o->pattern, o->quantizer).value();
    REQUIRE(f.why_not == nullptr);
    for (const std::size_t rows : {64u, 33u, 1u})
      for (const double density : {0.5, 1.0}) {
        const std::size_t cols = rows == 64 ? 256 : rows == 33 ? 200 : 8;
        CAPTURE(rows);
        const auto mask = quern_test::first_units(f, rows, cols, density);
        std::vector<float> w(rows * cols);
        for (float& v : w) v = random.uniform() + 1;
        const auto packed = o->pack({w.data(), rows, cols}, &mask, pool).value();
        const std::size_t cells = f.cells_at(rows, cols, density);
        CHECK(cells == packed.raw.cells);
        const quern::storage expected = o->bytes(rows, cols, packed.raw.cells);
        const quern::storage predicted = f.bytes(rows, cols, cells);
        double kept = 0;
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t c = 0; c < cols; ++c) kept += mask(r, c);
        CHECK(f.kept(rows, cols, density) == kept);
        for (int i = 0; i < quern::stream_count; ++i) {
          const auto s = static_cast<quern::stream>(i);
          CHECK(predicted[s] == expected[s]);
          const double payload = f.payload(s, rows, cols, density);
          CHECK(payload >= 0);
          CHECK(payload <= static_cast<double>(predicted[s]));
          // Where nothing needs completion, padding is rounding to 64 bytes, 64 more behind compact slots,
          // and the last entry of `begin`.
          if (rows == 64 && cols == 256) CHECK(static_cast<double>(predicted[s]) - payload < 64 + 64 + 4);
        }
      }
  }
}

TEST_CASE("known answers of bits per weight at 4096 x 4096") {
  // By hand: codes + scales + zeros + indices; begin and alignment are below 1e-3 of it here.
  struct row {
    const char *pattern, *quantizer;
    double bits;
  };
  for (const row& r : {row{"dense", "symmetric<4,32>", 4.5},         // Q4_0
                       row{"dense", "affine<4,16>", 4 + 20.0 / 16},  // fp16 scale, 4-bit zero
                       row{"group<16>", "affine<4,16>", (4 + 20.0 / 16) / 2 + 1.0 / 16},  // a bit per unit
                       row{"nm<2,4>", "real<f16>", 8 + 1},                                // 2-bit positions
                       row{"bitmap", "real<f16>", 8 + 1},
                       row{"bsr<16,32>", "affine<4,32>", (4 + 20.0 / 32) / 2 + 0.5 * 8 / 512}}) {
    CAPTURE(r.pattern);
    const auto f = llama::find_facts(r.pattern, r.quantizer).value();
    const auto s = f.bytes(4096, 4096, f.cells_at(4096, 4096, 0.5));
    CHECK(s.bits_per_weight(4096, 4096) == doctest::Approx(r.bits).epsilon(1e-3));
  }
}

TEST_CASE("wrong names are explained") {
  CHECK(message("group<16>", "affine<4,16>") == "found");
  CHECK(message("group< 16 >", "affine<4, 16>") == "found");
  CHECK(has(message("gruop<16>", "affine<4,16>"), "there is no pattern 'gruop<16>'; there are dense"));
  CHECK(has(message("", "affine<4,16>"), "there is no pattern ''"));
  CHECK(has(message("nm<4,2>", "real<f32>"), "at most N NONZERO of M"));
  CHECK(has(message("group<12>", "real<f32>"), "multiple of 8"));
  CHECK(has(message("group<24>", "real<f32>"), "group<16>"));
  CHECK(has(message("group<", "real<f32>"), "must be spelled group<G>"));
  CHECK(has(message("group<>", "real<f32>"), "must be spelled group<G>"));
  CHECK(has(message("group<16", "real<f32>"), "must be spelled group<G>"));
  CHECK(has(message("group<99999999999>", "real<f32>"), "multiple of 8"));
  CHECK(has(message("bsr<3,16>", "real<f32>"), "rows must be"));
  CHECK(has(message("dense<4>", "real<f32>"), "must be spelled dense"));
  CHECK(has(message("dense", "affine<9,16>"), "bits must be 2..8"));
  CHECK(has(message("dense", "affine<4,16,f64>"), "f16_offset"));
  CHECK(has(message("dense", "real<f64>"), "f32, f16 or bf16"));
  CHECK(has(message("dense", "codebook<nf5,32>"), "nf4 or fp4"));
  const auto f = llama::find_facts("group<16>", "affine<4,64>").value();
  REQUIRE(f.why_not != nullptr);
  CHECK(has(f.why_not, "run must divide the pattern's width"));
  CHECK(llama::find_facts("nm<3,4>", "affine<4,16>").value().why_not == nullptr);
}

TEST_CASE("the closest compiled formats share the pattern first") {
  const auto near = llama::closest_formats("group<16>", "affine<4,128>", 3);
  REQUIRE(near.size() == 3);
  CHECK(near[0] == "group<16> affine<4,16>");
  CHECK(llama::closest_formats("group<16>", "affine<4,16>", 1)[0] == "group<16> affine<4,16>");
}
