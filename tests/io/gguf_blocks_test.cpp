// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <cstring>
#include <limits>
#include <quern/core/thread_pool.hpp>
#include <quern/io/gguf_blocks.hpp>

#include "support.hpp"

using quern::gguf_type;

namespace {
constexpr gguf_type float_types[] = {gguf_type::f32,  gguf_type::f16,  gguf_type::bf16, gguf_type::q4_0,
                                     gguf_type::q4_1, gguf_type::q5_0, gguf_type::q5_1, gguf_type::q8_0,
                                     gguf_type::q2_k, gguf_type::q3_k, gguf_type::q4_k, gguf_type::q5_k,
                                     gguf_type::q6_k};
}

TEST_CASE("gguf: every type dequantizes bit for bit as the reference") {
  auto file = quern::gguf_file::open(io_test::golden("gguf_types.gguf"));
  REQUIRE_MESSAGE(file, file.error().what());
  quern::thread_pool pool(2);
  for (const gguf_type type : float_types) {
    const std::string name = quern::name_of(type);
    CAPTURE(name);
    const auto *t = file->find(name), *expected = file->find(name + ".f32");
    REQUIRE(t != nullptr);
    REQUIRE(expected != nullptr);
    REQUIRE(t->type == type);
    auto w = quern::dequantize(*file, *t);
    REQUIRE_MESSAGE(w, w.error().what());
    REQUIRE(w->size() * 4 == expected->bytes);
    CHECK(std::memcmp(w->data(), file->data(*expected).data(), expected->bytes) == 0);
    auto threaded = quern::dequantize(*file, *t, pool);
    REQUIRE(threaded);
    CHECK(std::memcmp(w->data(), threaded->data(), expected->bytes) == 0);
  }
}

TEST_CASE("gguf: codes, scale and min give back every weight") {
  auto file = quern::gguf_file::open(io_test::golden("gguf_types.gguf"));
  REQUIRE(file);
  for (const gguf_type type : float_types) {
    const auto* t = file->find(quern::name_of(type));
    quern::gguf_codes c;
    if (!quern::gguf_has_codes(type)) {
      CHECK_FALSE(quern::gguf_block_codes(type, file->data(*t).data(), c));
      continue;
    }
    const auto w = std::move(quern::dequantize(*file, *t)).value();
    const std::size_t step = quern::gguf_layout_of(type)->bytes;
    int top = 0, bottom = 255;
    for (std::size_t b = 0; b * 32 < w.size(); ++b) {
      REQUIRE(quern::gguf_block_codes(type, file->data(*t).data() + b * step, c));
      for (std::size_t j = 0; j < 32; ++j) {
        const float product = quern::to_float(c.scale) * static_cast<float>(c.code[j] - c.zero);
        CHECK((c.has_min ? product + quern::to_float(c.min) : product) == w[b * 32 + j]);
        top = std::max<int>(top, c.code[j]);
        bottom = std::min<int>(bottom, c.code[j]);
      }
    }
    CHECK(top == (1 << c.bits) - 1 - (type == gguf_type::q8_0 && top == 254));
    CHECK(bottom <= 1);
    CHECK(c.has_min == (type == gguf_type::q4_1 || type == gguf_type::q5_1));
  }
}

TEST_CASE("gguf: one block of each code type by hand") {
  quern::gguf_codes c;
  io_test::byte_builder q5_1;  // scale 2, min -1; bytes 0x10, 0x11, ...; fifth bits of weights 0 and 31
  q5_1.number(std::uint16_t{0x4000}).number(std::uint16_t{0xbc00}).u32(0x80000001);
  for (unsigned j = 0; j < 16; ++j) q5_1.number(static_cast<std::uint8_t>(0x10 + j));
  REQUIRE(quern::gguf_block_codes(gguf_type::q5_1, q5_1.bytes().data(), c));
  CHECK(c.code[0] == 16);
  CHECK(c.code[1] == 1);
  CHECK(c.code[15] == 15);
  CHECK(c.code[16] == 1);
  CHECK(c.code[31] == 17);
  CHECK(c.scale.bits == 0x4000);
  CHECK(c.min.bits == 0xbc00);
  float y[32];
  CHECK(quern::dequantize_row(gguf_type::q5_1, q5_1.bytes().data(), 32, y));
  CHECK(y[0] == 31.0f);
  CHECK(y[31] == 33.0f);
  io_test::byte_builder q8_0;
  q8_0.number(std::uint16_t{0x3c00});
  for (int j = 0; j < 32; ++j) q8_0.number(static_cast<std::int8_t>(j * 8 - 128));
  REQUIRE(quern::gguf_block_codes(gguf_type::q8_0, q8_0.bytes().data(), c));
  CHECK(c.code[0] == 0);
  CHECK(c.code[31] == 248);
  CHECK(c.zero == 128);
  CHECK(quern::dequantize_row(gguf_type::q8_0, q8_0.bytes().data(), 32, y));
  CHECK(y[0] == -128.0f);
  CHECK_FALSE(quern::dequantize_row(gguf_type::iq4_nl, q8_0.bytes().data(), 32, y));
}

TEST_CASE("gguf: damaged scales, wrong sizes and unknown types are errors, not NaN") {
  const auto file_of = [](std::uint32_t type, std::uint16_t scale_of_third_row) {
    io_test::byte_builder b;
    b.raw("GGUF").u32(3).u64(1).u64(0).text("w").u32(2).u64(64).u64(5).u32(type).u64(0).pad(32);
    for (unsigned block = 0; block < 10; ++block)
      b.number(block >= 5 ? scale_of_third_row : std::uint16_t{0x3c00})
          .zeros(16);  // block 5: row 2, column 32
    return b.bytes();
  };
  std::vector<float> out(64 * 5);
  quern::thread_pool pool(2);
  for (const std::uint16_t bad : {std::uint16_t{0x7c00}, std::uint16_t{0xfc00}, std::uint16_t{0x7e01}}) {
    const auto bytes = file_of(2, bad);
    auto file = quern::gguf_file::parse(bytes, "f");
    REQUIRE(file);
    CHECK(io_test::fails_with(quern::dequantize(*file, file->tensors()[0]), "'w'", "row 2 column 32"));
    CHECK(io_test::fails_with(quern::dequantize(*file, file->tensors()[0], pool), "row 2 column 32"));
  }
  const auto bytes = file_of(2, 0x3c00);
  auto file = quern::gguf_file::parse(bytes, "f");
  REQUIRE(file);
  CHECK(quern::dequantize(*file, file->tensors()[0], std::span(out)));
  CHECK(out[0] == -8.0f);
  CHECK(io_test::fails_with(quern::dequantize(*file, file->tensors()[0], std::span(out).first(319)), "319"));
  const auto other = file_of(20, 0x3c00);
  auto iq4 = quern::gguf_file::parse(other, "f");
  REQUIRE(iq4);
  CHECK(io_test::fails_with(quern::dequantize(*iq4, iq4->tensors()[0]), "IQ4_NL"));
}
