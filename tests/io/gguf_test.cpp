// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <quern/io/gguf.hpp>

#include "support.hpp"

using io_test::byte_builder;
using io_test::fails_with;
using quern::gguf_file;

namespace {

constexpr std::uint32_t u32_type = 4, string_type = 8, array_type = 9;

byte_builder header(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
  byte_builder b;
  b.raw("GGUF").u32(version).u64(tensors).u64(values);
  return b;
}
void add_tensor(byte_builder& b, std::string_view name, const std::vector<std::uint64_t>& extents,
                std::uint32_t type, std::uint64_t offset) {
  b.text(name).u32(static_cast<std::uint32_t>(extents.size()));
  for (const auto e : extents) b.u64(e);
  b.u32(type).u64(offset);
}
/// A file of one tensor with @p data bytes behind it.
std::vector<std::byte> one(const std::vector<std::uint64_t>& extents, std::uint32_t type, std::size_t data,
                           std::uint64_t offset = 0) {
  byte_builder b = header(1, 0);
  add_tensor(b, "w", extents, type, offset);
  return b.pad(32).zeros(data).bytes();
}
/// A file of one metadata entry, whose bytes after the key are @p value.
std::vector<std::byte> one_value(const byte_builder& value, std::string_view key = "k") {
  byte_builder b = header(0, 1);
  b.text(key);
  b.raw(io_test::as_text(value.bytes()));
  return b.bytes();
}
/// The parsed file; its bytes live until the next call, in a block of exactly their size.
quern::result<gguf_file> parse(const std::vector<std::byte>& bytes, const quern::read_limits& limits = {}) {
  static std::vector<std::byte> held;
  held = std::vector<std::byte>(bytes);
  held.shrink_to_fit();
  return gguf_file::parse(held, "f", limits);
}

}  // namespace

TEST_CASE("gguf: reads what the reference wrote") {
  auto file = gguf_file::open(io_test::golden("gguf_types.gguf"));
  REQUIRE_MESSAGE(file, file.error().what());
  CHECK(file->tensors().size() == 26);
  CHECK(file->number<std::uint8_t>("u8").value() == 255);
  CHECK(file->number<int>("i8").value() == -128);
  CHECK(file->number<std::uint32_t>("u16").value() == 65535);
  CHECK(file->number<std::int16_t>("i16").value() == -32768);
  CHECK(file->number<std::uint32_t>("u32").value() == 4294967295u);
  CHECK(file->number<std::int32_t>("i32").value() == std::numeric_limits<std::int32_t>::min());
  CHECK(file->number<std::uint64_t>("u64").value() == ~std::uint64_t{0});
  CHECK(file->number<std::int64_t>("i64").value() == std::numeric_limits<std::int64_t>::min());
  CHECK(file->number<float>("f32").value() == 0.1f);
  CHECK(file->number<double>("f64").value() == 0.1);
  CHECK(file->number<bool>("bool").value());
  CHECK(file->text("string").value() == "h\u00e9llo");
  std::vector<std::string> strings;
  const quern::gguf_strings in_place = file->strings("strings").value();
  for (const std::string_view s : in_place) strings.emplace_back(s);
  CHECK(strings == std::vector<std::string>{"", "a", "\u0120the", std::string(300, 'x')});
  CHECK(file->strings("strings").value().size() == 4);
  CHECK(file->numbers<float>("floats").value() == std::vector<float>{0.5f, -1.5f, 3.0f});
  CHECK(file->numbers<int>("ints").value() == std::vector<int>{1, -2, 3});
  const auto* t = file->find("Q4_K");
  REQUIRE(t != nullptr);
  CHECK(t->type == quern::gguf_type::q4_k);
  CHECK(t->rows() == 6);
  CHECK(t->cols() == 512);
  CHECK(t->bytes == 6 * 2 * 144);
  CHECK(t->offset % 32 == 0);
  CHECK(file->data(*t).size() == t->bytes);
  CHECK(file->find("Q4_K ") == nullptr);
}

TEST_CASE("gguf: values of another kind or size are errors that name the key") {
  auto file = gguf_file::open(io_test::golden("gguf_types.gguf"));
  REQUIRE(file);
  CHECK(fails_with(file->number<int>("absent"), "gguf_types.gguf", "'absent'"));
  CHECK(fails_with(file->number<std::uint32_t>("i8"), "'i8'"));  // negative
  CHECK_FALSE(file->number<std::int8_t>("u8"));                  // 255
  CHECK_FALSE(file->number<std::int64_t>("u64"));
  CHECK_FALSE(file->number<std::int16_t>("i32"));
  CHECK_FALSE(file->number<float>("u8"));
  CHECK_FALSE(file->number<int>("f32"));
  CHECK_FALSE(file->number<int>("bool"));
  CHECK_FALSE(file->number<bool>("u8"));
  CHECK_FALSE(file->number<int>("string"));
  CHECK_FALSE(file->number<int>("ints"));
  CHECK_FALSE(file->text("strings"));
  CHECK_FALSE(file->text("u8"));
  CHECK_FALSE(file->strings("ints"));
  CHECK_FALSE(file->strings("string"));
  CHECK_FALSE(file->numbers<int>("strings"));
  CHECK_FALSE(file->numbers<int>("u8"));
  CHECK_FALSE(file->numbers<unsigned>("ints"));
  CHECK_FALSE(file->numbers<int>("floats"));
  CHECK(file->find_value("u8")->count == 1);
  auto odd = parse(one_value(byte_builder().u32(7).number(std::uint8_t{2})));
  REQUIRE(odd);
  CHECK_FALSE(odd->number<bool>("k"));
}

TEST_CASE("gguf: the smallest files") {
  CHECK(parse(header(0, 0).bytes()));
  CHECK(parse(header(0, 0, 2).bytes()));
  auto scalar = parse(one({}, 0, 4));
  REQUIRE(scalar);
  CHECK(scalar->tensors()[0].rows() == 1);
  CHECK(scalar->tensors()[0].cols() == 1);
  auto four = parse(one({32, 2, 3, 4}, 8, 24 * 34));
  REQUIRE(four);
  CHECK(four->tensors()[0].rows() == 24);
  CHECK(four->tensors()[0].cols() == 32);
}

TEST_CASE("gguf: magic, version, byte order, counts") {
  CHECK(fails_with(parse(byte_builder().raw("GGML").zeros(40).bytes()), "offset 0 (magic)"));
  CHECK(fails_with(parse(header(0, 0, 1).bytes()), "version", "is 1"));
  CHECK(fails_with(parse(header(0, 0, 4).bytes()), "version"));
  CHECK(fails_with(parse(header(0, 0, 0).bytes()), "version"));
  CHECK(fails_with(parse(header(0, 0, 0x03000000).bytes()), "big-endian"));
  for (const std::uint64_t n : {std::uint64_t{1}, std::uint64_t{1} << 20, std::uint64_t{1} << 32,
                                std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    CHECK(fails_with(parse(header(n, 0).bytes()), "tensor count"));
    CHECK(fails_with(parse(header(0, n).bytes()), "metadata count"));
    if (n > 1) CHECK_FALSE(parse(header(n, 0).zeros(100'000).bytes()));  // zeros are one valid tensor
  }
  CHECK(fails_with(parse(header(2, 0).zeros(2 * 24).bytes(), {.entries = 1}), "limit"));
}

TEST_CASE("gguf: extents, types and sizes that do not hold") {
  const std::uint64_t two31 = std::uint64_t{1} << 31, two32 = std::uint64_t{1} << 32, two33 = two32 * 2;
  // The first two wrap to a size of 0, which a checker without overflow tests accepts.
  for (const auto& shape : {std::vector<std::uint64_t>{two32, two32},
                            {two31, two33},
                            {two32, two31},
                            {two32 + 1, two32},
                            {two31, two31, two31},
                            {two32, 1, 1, two32}}) {
    CHECK(fails_with(parse(one(shape, 0, 64)), "tensor 0"));
    CHECK_FALSE(parse(one(shape, 24, 64)));  // one byte each
  }
  CHECK(fails_with(parse(one({0}, 0, 64)), "extent"));
  CHECK(fails_with(parse(one({4, 0}, 0, 64)), "extent"));
  CHECK(fails_with(parse(one({~std::uint64_t{0}}, 0, 64)), "-1"));
  CHECK_FALSE(parse(one({std::uint64_t{1} << 63}, 24, 64)));
  CHECK_FALSE(parse(one({(std::uint64_t{1} << 63) - 1}, 0, 64)));   // elements fit, bytes do not
  CHECK_FALSE(parse(one({(std::uint64_t{1} << 62)}, 0, 64)));       // 2^64 bytes: wraps to 0
  CHECK_FALSE(parse(one({(std::uint64_t{1} << 62) + 16}, 0, 64)));  // wraps to 64
  for (const std::uint32_t n : {5u, 255u, 0x7fffffffu, 0xffffffffu}) {
    byte_builder b = header(1, 0);
    b.text("w").u32(n).zeros(400);
    CHECK(fails_with(parse(b.bytes()), "dimension count"));
  }
  for (const std::uint32_t type :
       {4u, 5u, 9u, 15u, 31u, 32u, 33u, 36u, 37u, 38u, 42u, 43u, 1000u, 0xffffffffu})
    CHECK(fails_with(parse(one({256}, type, 512)), "type"));
  CHECK(fails_with(parse(one({31}, 2, 18)), "Q4_0", "32"));
  CHECK(fails_with(parse(one({16, 2}, 2, 18)), "Q4_0"));  // 32 elements, but no row is a block
  CHECK_FALSE(parse(one({128}, 12, 144)));
  CHECK(parse(one({32}, 2, 18)));
  CHECK(fails_with(parse(one({32}, 2, 17)), "truncated"));
  CHECK(fails_with(parse(one({32}, 2, 18, 32)), "offset"));
  for (const std::uint64_t offset : {~std::uint64_t{0}, ~std::uint64_t{0} - 17, std::uint64_t{1} << 63})
    CHECK_FALSE(parse(one({32}, 2, 64, offset)));
}

TEST_CASE("gguf: tensors follow each other, padded, under names of their own") {
  const auto two = [](std::string_view a, std::string_view b, std::uint64_t second, std::size_t data) {
    byte_builder f = header(2, 0);
    add_tensor(f, a, {3}, 0, 0);
    add_tensor(f, b, {3}, 0, second);
    return f.pad(32).zeros(data).bytes();
  };
  CHECK(parse(two("a", "b", 32, 44)));
  CHECK(parse(two("a", "b", 32, 64)));
  CHECK(fails_with(parse(two("a", "b", 32, 43)), "truncated"));
  CHECK(fails_with(parse(two("a", "b", 64, 128)), "tensors before it end at 32"));
  CHECK_FALSE(parse(two("a", "b", 12, 64)));
  CHECK_FALSE(parse(two("a", "b", 0, 64)));
  CHECK(fails_with(parse(two("a", "a", 32, 64)), "name 'a' is given twice"));
  CHECK(parse(two("a", std::string(63, 'n'), 32, 44)));
  CHECK(fails_with(parse(two("a", std::string(64, 'n'), 32, 44)), "tensor 1, name"));
  CHECK(fails_with(parse(two("a", std::string_view("b\0c", 3), 32, 44)), "NUL"));
}

TEST_CASE("gguf: alignment") {
  const auto aligned = [](std::uint32_t type, std::uint32_t value, std::size_t pad) {
    byte_builder f = header(1, 1);
    f.text("general.alignment").u32(type);
    f.u32(value);
    add_tensor(f, "w", {32}, 2, 0);
    return f.pad(pad).zeros(18).bytes();
  };
  for (const std::uint32_t a : {1u, 8u, 32u, 64u, 4096u}) CHECK(parse(aligned(u32_type, a, a)));
  for (const std::uint32_t a : {0u, 3u, 48u, 1u << 21, 1u << 31, 0xffffffffu})
    CHECK(fails_with(parse(aligned(u32_type, a, 64)), "general.alignment"));
  CHECK(fails_with(parse(aligned(5, 32, 32)), "general.alignment", "u32"));
  CHECK_FALSE(parse(aligned(u32_type, 64, 32)));  // the padding is not all there
}

TEST_CASE("gguf: strings and arrays that do not hold") {
  for (const std::uint64_t n :
       {std::uint64_t{2}, std::uint64_t{1} << 30, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    CHECK_FALSE(parse(one_value(byte_builder().u32(string_type).u64(n).raw("x"))));
    for (const std::uint32_t element : {0u, 4u, 7u, 10u, string_type})
      CHECK_FALSE(parse(one_value(byte_builder().u32(array_type).u32(element).u64(n))));
    CHECK_FALSE(
        parse(one_value(byte_builder().u32(array_type).u32(10).u64(n)), {.array = ~std::uint64_t{0}}));
    byte_builder key = header(0, 1);
    CHECK_FALSE(parse(key.u64(n).raw("k").u32(0).bytes()));
  }
  // 2^61 + 1 elements of 8 bytes wrap to 8.
  CHECK_FALSE(
      parse(one_value(byte_builder().u32(array_type).u32(10).u64((std::uint64_t{1} << 61) + 1).u64(0)),
            {.array = ~std::uint64_t{0}}));
  CHECK(
      fails_with(parse(one_value(byte_builder().u32(string_type).text("abcd")), {.string = 3}), "at most 3"));
  CHECK(fails_with(parse(one_value(byte_builder().u32(array_type).u32(0).u64(4).u32(0)), {.array = 3}),
                   "at most 3"));
  CHECK(fails_with(
      parse(one_value(byte_builder().u32(array_type).u32(array_type).u64(1).u32(0).u64(1).zeros(9))),
      "element type"));
  for (const std::uint32_t type : {13u, 255u, 0xffffffffu}) {
    CHECK(fails_with(parse(one_value(byte_builder().u32(type).zeros(16))), "value type"));
    CHECK(fails_with(parse(one_value(byte_builder().u32(array_type).u32(type).u64(1).zeros(16))),
                     "element type"));
  }
  CHECK(parse(one_value(byte_builder().u32(array_type).u32(string_type).u64(0))));
  CHECK(fails_with(parse(one_value(byte_builder().u32(0).zeros(1), std::string_view("a\0b", 3))), "NUL"));
  byte_builder twice = header(0, 2);
  for (int i = 0; i < 2; ++i) twice.text("key").u32(0).zeros(1);
  CHECK(fails_with(parse(twice.bytes()), "'key' is given twice"));
}

TEST_CASE("gguf: a hundred thousand names are no burden") {
  // A pairwise search for duplicates would take 10^10 / 2 comparisons, longer than any test may.
  byte_builder f = header(0, 100'000);
  for (int i = 0; i < 100'000; ++i) f.text("some.common.prefix." + std::to_string(i)).u32(0).zeros(1);
  auto file = parse(f.bytes());
  REQUIRE(file);
  CHECK(file->number<int>("some.common.prefix.99999").value() == 0);
}

TEST_CASE("gguf: truncated at every byte, and every byte changed") {
  byte_builder f = header(2, 4);
  f.text("general.alignment").u32(u32_type).u32(16);
  f.text("s").u32(string_type).text("hello");
  f.text("a").u32(array_type).u32(string_type).u64(2).text("x").text("yz");
  f.text("n").u32(array_type).u32(5).u64(3).u32(1).u32(2).u32(3);
  add_tensor(f, "q", {32, 2}, 3, 0);
  add_tensor(f, "n", {5}, 0, 48);
  f.pad(16).zeros(48 + 20);
  const auto whole = f.bytes();
  REQUIRE(parse(whole));
  for (std::size_t n = 0; n < whole.size(); ++n)
    CHECK_FALSE(parse({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n)}));
  auto changed = whole;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (unsigned x = 1; x < 256; ++x) {
      changed[i] = whole[i] ^ static_cast<std::byte>(x);
      auto file = parse(changed);
      if (!file) continue;
      std::size_t sum = 0;  // reads everything that the file now claims to hold
      for (const auto& t : file->tensors())
        for (const std::byte b : file->data(t)) sum += std::to_integer<std::size_t>(b);
      for (const auto& v : file->values())
        for (const std::string_view s : v.strings()) sum += s.size();
      CHECK(sum < 100'000);
    }
    changed[i] = whole[i];
  }
}
