// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdlib>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>

#include "support.hpp"

using io_test::fails_with;
using quern::dtype;
using quern::safetensors_file;

namespace {

std::vector<std::byte> file_of(std::string_view json, std::size_t data_bytes) {
  return io_test::byte_builder().u64(json.size()).raw(json).zeros(data_bytes).bytes();
}
quern::result<safetensors_file> parse(std::string_view json, std::size_t data_bytes, bool strict = true) {
  static std::vector<std::byte> held;  // the views in the result need it until the next call
  held = file_of(json, data_bytes);
  return safetensors_file::parse(held, "f", {.strict = strict});
}
constexpr std::string_view one_u8 = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";

std::vector<std::byte> counted(std::size_t n) {
  std::vector<std::byte> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(i % 251);
  return out;
}

}  // namespace

TEST_CASE("safetensors: reads what the reference wrote") {
  auto file = safetensors_file::open(io_test::golden("reference.safetensors"));
  REQUIRE_MESSAGE(file, file.error().what());
  CHECK(file->tensors().size() == 54);  // 18 dtypes; F4 has no scalar; one name with escapes
  REQUIRE(file->metadata("k\u00e9y") != nullptr);
  CHECK(*file->metadata("k\u00e9y") == "v\u00e4lue\t\"\\\u0001\U0001f600");
  CHECK(file->metadata("key") == nullptr);
  CHECK(file->find("\u00fcnicode \"quoted\"\\\n") != nullptr);
  const auto* t = file->find("bfloat16");
  REQUIRE(t != nullptr);
  CHECK(t->type == dtype::bf16);
  CHECK(t->shape == std::vector<std::size_t>{3, 2});
  const auto* f4 = file->find("float4_e2m1fn_x2");
  REQUIRE(f4 != nullptr);
  CHECK(f4->type == dtype::f4);
  CHECK(f4->bytes * 8 == 4 * f4->shape[0] * f4->shape[1]);
  CHECK(file->find("int64.scalar")->shape.empty());
  CHECK(file->find("uint8.empty")->bytes == 0);
  std::size_t position = 0;  // in order, without holes; the data counts its own bytes
  for (const auto& info : file->tensors())
    for (const std::byte b : file->data(info)) CHECK(std::to_integer<std::size_t>(b) == position++ % 251);
  CHECK(position > 0);
}

TEST_CASE("safetensors: the verdicts of the reference") {
  CHECK(parse("{}", 0));
  CHECK(parse("{}      ", 0));
  CHECK(parse(one_u8, 2));
  CHECK(parse(R"({"a":{"dtype":"F32","shape":[0,9],"data_offsets":[0,0]}})", 0));
  CHECK(parse(R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4));
  CHECK(
      parse(R"( {"__metadata__":{},"a" : {"shape":[1 , 2],"data_offsets":[ 0,2],"dtype":"U8"} })", 2, false));
  CHECK(fails_with(parse(one_u8, 1), "'f' offset", "truncated"));
  CHECK(fails_with(parse(one_u8, 3), "data", "1 bytes after the last tensor"));
  CHECK(fails_with(parse(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})", 3), "begins at 1"));
  const auto two = [](const char* a, const char* b) {
    return std::string(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)") + a +
           R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}";
  };
  CHECK(parse(two("[0,2]", "[2,4]"), 4));
  CHECK(parse(two("[2,4]", "[0,2]"), 4));
  CHECK_FALSE(parse(two("[0,2]", "[3,5]"), 5));  // hole
  CHECK(fails_with(parse(two("[0,2]", "[2,4]"), 3), "'b'", "truncated"));
  CHECK(fails_with(parse(two("[0,2]", "[2,4]"), 3, false), "'b'", "truncated"));
  CHECK_FALSE(parse(two("[0,2]", "[1,3]"), 3));  // overlap
  CHECK_FALSE(parse(two("[0,2]", "[0,2]"), 2));  // the same bytes twice
  CHECK(fails_with(parse(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}})", 2), "need 3"));
  CHECK(fails_with(parse(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}})", 2), "need 1"));
  CHECK_FALSE(parse(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2));
  CHECK_FALSE(parse(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0));
  CHECK_FALSE(parse(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0));
  CHECK_FALSE(parse(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1));
  CHECK_FALSE(parse(R"({"a":{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,1]}})", 1));
  CHECK(parse(R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3));
  CHECK(fails_with(parse(R"({"a":{"dtype":"I4","shape":[2],"data_offsets":[0,1]}})", 1), "I4"));
}

TEST_CASE("safetensors: header lengths") {
  for (const std::uint64_t n : {~std::uint64_t{0}, ~std::uint64_t{0} - 7, std::uint64_t{100'000'001},
                                std::uint64_t{3}, std::uint64_t{1} << 63})
    CHECK_FALSE(safetensors_file::parse(io_test::byte_builder().u64(n).raw("{}").bytes(), "f"));
  CHECK_FALSE(safetensors_file::parse(io_test::byte_builder().u64(0).bytes(), "f"));
  CHECK_FALSE(safetensors_file::parse({}, "f"));
}

TEST_CASE("safetensors: integers are digits") {
  for (const char* bad : {"-1", "1e0", "1.0", "+1", "01", "0x1", "18446744073709551616",
                          "99999999999999999999", "", "\"1\"", "null", "1 1", "[1]"}) {
    CAPTURE(bad);
    CHECK_FALSE(
        parse(R"({"a":{"dtype":"U8","shape":[)" + std::string(bad) + R"(,1],"data_offsets":[0,1]}})", 1));
    CHECK_FALSE(
        parse(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[)" + std::string(bad) + R"(,0]}})", 0));
  }
  CHECK(parse(R"({"a":{"dtype":"U8","shape":[0,18446744073709551615],"data_offsets":[0,0]}})", 0));
}

TEST_CASE("safetensors: JSON that is not this format") {
  for (const char* bad : {"",
                          "{",
                          "[]",
                          "null",
                          "{]",
                          "{\"a\"}",
                          "{\"a\":}",
                          "{\"a\":{}}",
                          "{\"a\":1}",
                          "{,}",
                          "{} {}",
                          "{}x",
                          R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},})",
                          R"({"a":{"dtype":"U8","shape":[1,],"data_offsets":[0,1]}})",
                          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}})",
                          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})",
                          R"({"a":{"dtype":"U8","shape":[1]}})",
                          R"({"a":{"shape":[1],"data_offsets":[0,1]}})",
                          R"({"a":{"dtype":"U8","data_offsets":[0,1]}})",
                          R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}})",
                          R"({"__metadata__":{"a":1}})",
                          R"({"__metadata__":{"a":null}})",
                          R"({"__metadata__":[]})",
                          R"({"__metadata__":{"a":"\x"}})",
                          R"({"__metadata__":{"a":"\u12"}})",
                          R"({"__metadata__":{"a":"\u12g4"}})",
                          R"({"__metadata__":{"a":"\ud800"}})",
                          R"({"__metadata__":{"a":"\ud800A"}})",
                          R"({"__metadata__":{"a":"\udc00\ud800"}})",
                          R"({"__metadata__":{"a":"\ud800\u0041"}})",
                          "{\"__metadata__\":{\"a\":\"\n\"}}",
                          "{\"__metadata__\":{\"a\":\"\xff\"}}",
                          "{\"__metadata__\":{\"a\":\"\xc0\xaf\"}}",
                          "{\"__metadata__\":{\"a\":\"b",
                          "{\"__metadata__\":{\"a\":\"\\",
                          "{\xef\xbb\xbf}"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse(bad, 1));
    CHECK_FALSE(parse(bad, 1, false).has_value());
  }
  CHECK_FALSE(parse("{\"a\":" + std::string(100'000, '['), 0));
  CHECK_FALSE(parse(std::string(100'000, '{'), 0));
  auto escapes = parse(R"({"__metadata__":{"\u0041\ud83d\ude00":"\"\\\/\b\f\n\r\t\u00e9"}})", 0);
  REQUIRE(escapes);
  REQUIRE(escapes->metadata("A\U0001f600") != nullptr);
  CHECK(*escapes->metadata("A\U0001f600") == "\"\\/\b\f\n\r\t\u00e9");
}

TEST_CASE("safetensors: stricter than the reference, unless asked not to be") {
  const std::string twice = R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                            R"("a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}})";
  CHECK(fails_with(parse(twice, 2), "'a' is given twice"));
  auto last = parse(twice, 2, false);
  REQUIRE(last);
  CHECK(last->tensors().size() == 1);
  CHECK(last->find("a")->type == dtype::i8);
  for (const char* metadata :
       {R"({"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}})", R"({"__metadata__":{"a":"b","a":"c"}})"}) {
    CHECK(fails_with(parse(metadata, 0), "__metadata__", "given twice"));
    auto kept = parse(metadata, 0, false);
    REQUIRE(kept);
    CHECK(*kept->metadata("a") == "c");
  }
  CHECK(fails_with(parse(" " + std::string(one_u8), 2), "must begin with '{'"));
  CHECK(parse(" " + std::string(one_u8), 2, false));
  CHECK(parse(one_u8, 6, false));  // four bytes after the last tensor occur in real files
  CHECK_FALSE(parse(one_u8, 1, false));
}

TEST_CASE("safetensors: truncated at every byte, and every byte changed") {
  const std::string whole = io_test::slurp(io_test::golden("reference.safetensors"));
  REQUIRE(whole.size() > 1000);
  const auto all = std::as_bytes(std::span(whole));
  for (std::size_t n = 0; n < all.size(); ++n) {
    const std::vector<std::byte> cut(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_FALSE(safetensors_file::parse(cut, "f"));
  }
  std::vector<std::byte> changed(all.begin(), all.end());
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (const unsigned x : {1u, 0x10u, 0x80u, 0xffu}) {
      changed[i] = all[i] ^ static_cast<std::byte>(x);
      auto file = safetensors_file::parse(changed, "f");
      if (!file) continue;
      std::size_t sum = 0;
      for (const auto& t : file->tensors()) sum += file->data(t).size();
      CHECK(sum < all.size());
    }
    changed[i] = all[i];
  }
}

TEST_CASE("safetensors: an error keeps the file's name and offset") {
  io_test::temporary_folder folder;
  std::ofstream(folder / "short.safetensors") << "1234567";
  CHECK(fails_with(safetensors_file::open(folder / "short.safetensors"), "short.safetensors", "offset 0",
                   "header length"));
  CHECK(fails_with(safetensors_file::open(folder / "none"), "none"));
}

TEST_CASE("safetensors_writer: order, 64-byte boundaries, and back") {
  io_test::temporary_folder folder;
  const std::string path = folder / "w.safetensors";
  const auto data = counted(1000);
  const auto part = [&](std::size_t n) { return std::span(data).first(n); };
  // Header lengths move with the metadata: the boundary must hold for all of them.
  for (std::size_t extra = 0; extra < 70; ++extra) {
    quern::safetensors_writer w;
    w.metadata("pad", std::string(extra, '.'));
    w.add("norm", dtype::f32, {5}, part(20));
    w.add("codes.z", dtype::u8, {3, 64}, part(192));
    w.add("bytes", dtype::u8, {7}, part(7));
    w.add("empty", dtype::f16, {0, 4}, part(0));
    w.add("codes.a", dtype::i32, {16}, part(64));
    w.add("a \"name\"\n", dtype::f16, {3}, part(6));
    w.add("scalar", dtype::i64, {}, part(8));
    int calls = 0;
    w.add("made", dtype::f32, {32, 8}, [&](quern::atomic_file& out) -> quern::result<void> {
      ++calls;
      for (std::size_t r = 0; r < 32; ++r)
        if (auto ok = out.write(part(32)); !ok) return ok;
      return {};
    });
    auto done = w.write(path);
    REQUIRE_MESSAGE(done, done.error().what());
    CHECK(calls == 1);
    auto file = safetensors_file::open(path);
    REQUIRE_MESSAGE(file, file.error().what());
    std::vector<std::string> order;
    for (const auto& t : file->tensors()) {
      if (t.bytes == 0) continue;  // equal offsets: sorted by size, where the writer had it elsewhere
      order.push_back(t.name);
      CHECK((t.bytes % 64 != 0 || t.offset % 64 == 0));
      CHECK(t.offset % (quern::bits_of(t.type) / 8) == 0);
      if (t.name != "made") CHECK(io_test::as_text(file->data(t)) == io_test::as_text(part(t.bytes)));
    }
    CHECK(order ==
          std::vector<std::string>{"codes.z", "codes.a", "made", "scalar", "norm", "a \"name\"\n", "bytes"});
    CHECK(*file->metadata("pad") == std::string(extra, '.'));
    CHECK(file->find("empty")->shape == std::vector<std::size_t>{0, 4});
  }
  quern::safetensors_writer nothing;
  CHECK(nothing.write(path));
  CHECK(io_test::slurp(path).size() == 64);
  CHECK(safetensors_file::open(path));
  CHECK(folder.files() == 1);
}

TEST_CASE("safetensors_writer: refuses, and then leaves the old file") {
  io_test::temporary_folder folder;
  const std::string path = folder / "w.safetensors";
  std::ofstream(path) << "old";
  const auto data = counted(64);
  const auto refuses = [&](auto&& fill, const char* word) {
    quern::safetensors_writer w;
    fill(w);
    CHECK(fails_with(w.write(path), word));
    CHECK(io_test::slurp(path) == "old");
    CHECK(folder.files() == 1);
  };
  using writer = quern::safetensors_writer;
  refuses([&](writer& w) { w.add("a", dtype::u8, {63}, data); }, "63");
  refuses([&](writer& w) { w.add("a", dtype::f4, {127}, data); }, "'a'");
  refuses([&](writer& w) { w.add("a", dtype::u8, {std::size_t{1} << 63, 4}, data); }, "more bytes");
  refuses([&](writer& w) { w.add("__metadata__", dtype::u8, {64}, data); }, "__metadata__");
  refuses([&](writer& w) { w.add("\xff", dtype::u8, {64}, data); }, "UTF-8");
  refuses([&](writer& w) { w.metadata("a", "\xed\xa0\x80"); }, "UTF-8");
  refuses(
      [&](writer& w) {
        w.metadata("a", "1");
        w.metadata("a", "2");
      },
      "twice");
  refuses(
      [&](writer& w) {
        w.add("a", dtype::u8, {64}, data);
        w.add("a", dtype::i8, {64}, data);
      },
      "twice");
  refuses([&](writer& w) { w.add("a", dtype::u8, {65}, [&](auto& out) { return out.write(data); }); },
          "producer wrote 64");
  refuses(
      [&](writer& w) {
        w.add("a", dtype::u8, {64},
              [](auto&) -> quern::result<void> { return quern::io_error("no data today"); });
      },
      "no data today");
}

TEST_CASE("safetensors: the Python package reads what we write") {
  if (std::system("python3 -c 'import safetensors' 2>/dev/null") != 0) {
    MESSAGE("SKIPPED: python3 with the package safetensors is not installed");
    return;
  }
  io_test::temporary_folder folder;
  const std::string path = folder / "w.safetensors";
  const auto data = counted(4096);
  quern::safetensors_writer w;
  w.metadata("k\u00e9y", "\"\\\n\u0001\U0001f600");
  for (std::size_t i = 0; i < quern::dtype_table.size(); ++i) {
    const auto type = static_cast<dtype>(i);
    w.add(std::string(quern::name_of(type)) + " small", type, {3, 4},
          std::span(data).first(12 * quern::bits_of(type) / 8));
    w.add(std::string(quern::name_of(type)) + " large", type, {8, 64},
          std::span(data).first(64 * quern::bits_of(type)));
  }
  auto done = w.write(path);
  REQUIRE_MESSAGE(done, done.error().what());
  const std::string script = (io_test::source_dir() / "tests" / "io" / "safetensors_check.py").string();
  CHECK(std::system(("python3 '" + script + "' '" + path + "'").c_str()) == 0);
}
