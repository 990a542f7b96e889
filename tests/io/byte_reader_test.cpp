// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>
#include <quern/io/byte_reader.hpp>
#include <quern/io/name_index.hpp>
#include <quern/io/utf8.hpp>

#include "support.hpp"

using io_test::byte_builder;

TEST_CASE("byte_reader: reads little-endian numbers and text") {
  byte_builder b;
  b.number(std::uint8_t{0xfe}).number(std::int16_t{-2}).u32(0x01020304).number(-1.5f).number(0.1).text("abc");
  quern::byte_reader in("quern::test", "file", b.bytes());
  CHECK(in.number<std::int8_t>("a") == -2);
  CHECK(in.number<std::int16_t>("b") == -2);
  CHECK(in.number<std::uint32_t>("c") == 0x01020304);
  CHECK(in.number<float>("d") == -1.5f);
  CHECK(in.number<double>("e") == 0.1);
  CHECK(in.text(3, "f") == "abc");
  CHECK(in.ok());
  CHECK(in.remaining() == 0);
}

TEST_CASE("byte_reader: the first failure names file, offset, scope and field, and stays") {
  byte_builder b;
  b.u32(7).number(std::uint16_t{1});
  quern::byte_reader in("quern::test", "some file", b.bytes());
  in.number<std::uint32_t>("first");
  in.scope("tensor", 12);
  CHECK(in.number<std::uint32_t>("second") == 0);
  CHECK_FALSE(in.ok());
  const std::string what = in.error().what();
  CHECK(what.find("quern::test: 'some file' offset 4 (tensor 12, second): needs 4 bytes") == 0);
  CHECK(in.number<std::uint8_t>("third") == 0);  // there is a byte, but reading has ended
  CHECK(in.offset() == 4);
  in.fail(0, "other", "later failures are not kept");
  CHECK(what == in.error().what());
}

TEST_CASE("byte_reader: lengths that no file has") {
  for (const std::uint64_t length : {std::uint64_t{2}, std::uint64_t{1} << 30, std::uint64_t{1} << 63,
                                     ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    byte_builder b;
    b.u64(length).raw("x");
    quern::byte_reader in("quern::test", "f", b.bytes());
    CHECK(in.text(~std::uint64_t{0}, "text").empty());
    CHECK_FALSE(in.ok());
  }
  byte_builder b;
  b.text("four");
  quern::byte_reader in("quern::test", "f", b.bytes());
  CHECK(in.text(3, "text").empty());
  CHECK(std::string(in.error().what()).find("at most 3") != std::string::npos);
}

TEST_CASE("checked arithmetic at its limits") {
  constexpr std::uint64_t max = ~std::uint64_t{0};
  std::uint64_t out = 5;
  CHECK_FALSE(quern::checked_add(max, 1, out));
  CHECK_FALSE(quern::checked_mul(max, 2, out));
  CHECK_FALSE(quern::checked_mul(std::uint64_t{1} << 32, std::uint64_t{1} << 32, out));
  CHECK(out == 5);
  CHECK((quern::checked_add(max - 1, 1, out) && out == max));
  CHECK((quern::checked_mul(max, 1, out) && out == max));
  CHECK((quern::checked_mul(max / 3, 3, out) && out == max));
  CHECK((quern::checked_mul(max, 0, out) && out == 0));
  CHECK((quern::checked_mul(0, max, out) && out == 0));
}

TEST_CASE("utf8: every scalar value survives, everything else is refused") {
  std::size_t wrong = 0;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string s;
    quern::append_utf8(s, c);
    const auto back = quern::decode_utf8(s, 0);
    wrong += back.value != c || back.size != s.size() || quern::utf8_prefix(s) != s.size();
    if (s.size() > 1) wrong += quern::decode_utf8(s.substr(0, s.size() - 1), 0).size != 0;
  }
  CHECK(wrong == 0);
  // Stray continuation, overlong '/' in 2, 3 and 4 bytes, a surrogate, above U+10FFFF, lead bytes that never
  // occur.
  for (const char* bad :
       {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xed\xa0\x80", "\xed\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xff", "\xfe", "\xc1\xbf", "\xe2\x28\xa1"})
    CHECK(quern::decode_utf8(bad, 0).size == 0);
  CHECK(quern::utf8_prefix("ab\xffz") == 2);
  static_assert(quern::decode_utf8("\xe2\x82\xac", 0).value == 0x20ac);
}

TEST_CASE("name_index: finds all, reports a duplicate") {
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) names.push_back("blk." + std::to_string(i));
  quern::name_index index;
  for (std::size_t i = 0; i < names.size(); ++i) index.add(names[i], i);
  CHECK_FALSE(index.sort().has_value());
  for (std::size_t i = 0; i < names.size(); ++i) CHECK(index.find(names[i]) == i);
  CHECK(index.find("") == quern::name_index::none);
  CHECK(index.find("blk.1000") == quern::name_index::none);
  CHECK(index.find("zzz") == quern::name_index::none);

  quern::name_index twice;
  twice.add("b", 0);
  twice.add("a", 1);
  twice.add("b", 2);
  CHECK(twice.sort() == std::optional<std::size_t>(2));
}
