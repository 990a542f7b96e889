// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <llama/text_ids.hpp>
#include <llama/tokenizer.hpp>
#include <quern/core/rng.hpp>
#include <quern/io/utf8.hpp>
#include <string>
#include <vector>

using ids = std::vector<std::int32_t>;

namespace {

std::filesystem::path source_dir() {
#if defined(QUERN_SOURCE_DIR)
  return QUERN_SOURCE_DIR;
#else
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path();
#endif
}

std::string slurp(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The last @p count elements of an .npy file, which are all if there are as many.
template <class T>
ids npy(const std::filesystem::path& path, std::size_t count) {
  const std::string raw = slurp(path);
  REQUIRE(raw.size() > count * sizeof(T));
  ids out;
  for (std::size_t i = 0; i < count; ++i) {
    T v;
    std::memcpy(&v, raw.data() + raw.size() - (count - i) * sizeof(T), sizeof(T));
    out.push_back(static_cast<std::int32_t>(v));
  }
  return out;
}

/// GGUF metadata, entry by entry.
class gguf_builder {
 public:
  void text(const char* key, std::string_view value) { begin(key, 8).string(value); }
  void u32(const char* key, std::uint32_t value) { begin(key, 4).number(value); }
  void texts(const char* key, const std::vector<std::string>& values) {
    begin(key, 9).number(std::uint32_t{8}).number(std::uint64_t{values.size()});
    for (const auto& v : values) string(v);
  }
  void numbers(const char* key, const std::vector<std::int32_t>& values) {
    begin(key, 9).number(std::uint32_t{5}).number(std::uint64_t{values.size()});
    for (const auto v : values) number(v);
  }
  /// The tokenizer of the whole file; the bytes live in the builder.
  quern::result<llama::tokenizer> build() {
    const std::string entries = std::move(body_);
    body_ = "GGUF";
    number(std::uint32_t{3}).number(std::uint64_t{0}).number(count_);
    body_ += entries;
    auto file = quern::gguf_file::parse(std::as_bytes(std::span(body_)), "toy.gguf");
    if (!file) return file.error();
    return llama::tokenizer::from_gguf(*file);
  }

 private:
  gguf_builder& begin(const char* key, std::uint32_t type) {
    ++count_;
    return string(key).number(type);
  }
  template <class T>
  gguf_builder& number(T v) {
    body_.append(reinterpret_cast<const char*>(&v), sizeof v);
    return *this;
  }
  gguf_builder& string(std::string_view s) {
    number(std::uint64_t{s.size()});
    body_ += s;
    return *this;
  }
  std::string body_;
  std::uint64_t count_ = 0;
};

/// What a toy vocabulary consists of: single letters, then these.
struct toy {
  std::string model = "gpt2", pre = "gpt-2";
  std::vector<std::string> tokens{"a",  "b",  "c",   "\u0120",  "'",   "s",    "1",
                                  "ab", "bc", "abc", "\u0120a", "<x>", "<x>y", "u|"};
  std::vector<std::int32_t> kinds{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 4};
  std::vector<std::string> merges{"b c", "a b", "a bc", "\u0120 a"};
  std::int64_t bos = 11;
  quern::result<llama::tokenizer> build() const {
    gguf_builder b;
    b.text("tokenizer.ggml.model", model);
    b.text("tokenizer.ggml.pre", pre);
    b.texts("tokenizer.ggml.tokens", tokens);
    b.numbers("tokenizer.ggml.token_type", kinds);
    b.texts("tokenizer.ggml.merges", merges);
    b.u32("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(bos));
    return b.build();
  }
};

bool fails_with(const quern::result<llama::tokenizer>& r, const char* word) {
  return !r && std::string_view(r.error().what()).find(word) != std::string_view::npos;
}

std::vector<std::string> pieces(std::string_view text, bool digits_alone = true) {
  std::vector<std::string> out;
  for (const auto p : llama::split_gpt2(text, digits_alone)) out.emplace_back(p);
  return out;
}
using strings = std::vector<std::string>;

/// SmolLM2 and the golden ids, or nothing where this machine lacks them.
struct smollm2 {
  std::filesystem::path model = source_dir() / "build" / "data" / "smollm2.gguf";
  std::filesystem::path shared = source_dir() / ".." / "shared" / "data";
  bool here() const {
    if (std::filesystem::exists(model) && std::filesystem::exists(shared / "smollm2" / "prompt_ids.npy"))
      return true;
    MESSAGE("SKIPPED: needs ", model.string(), " and ", shared.string());
    return false;
  }
};

}  // namespace

TEST_CASE("split_gpt2: each alternative of the pattern") {
  CHECK(pieces("") == strings{});
  CHECK(pieces("Hello world") == strings{"Hello", " world"});
  CHECK(pieces("it's we'll I'd they've you're I'm don't") == strings{"it", "'s", " we", "'ll", " I", "'d",
                                                                     " they", "'ve", " you", "'re", " I",
                                                                     "'m", " don", "'t"});
  CHECK(pieces("'S 's 'x") == strings{"'", "S", " '", "s", " '", "x"});
  CHECK(pieces("a.b, c!!") == strings{"a", ".", "b", ",", " c", "!!"});
  CHECK(pieces("a  b") == strings{"a", " ", " b"});
  CHECK(pieces("a   b") == strings{"a", "  ", " b"});
  CHECK(pieces("a \n\n b") == strings{"a", " \n\n", " b"});
  CHECK(pieces("a\nb") == strings{"a", "\n", "b"});
  CHECK(pieces("a\n\nb") == strings{"a", "\n", "\n", "b"});
  CHECK(pieces("a  ") == strings{"a", "  "});
  CHECK(pieces(" ") == strings{" "});
  CHECK(pieces(" \t") == strings{" \t"});
  CHECK(pieces("\u00a0x") == strings{"\u00a0", "x"});
  CHECK(pieces("\u3000\u3000x") == strings{"\u3000", "\u3000", "x"});
  CHECK(pieces("\u00e9t\u00e9 \u4f60\u597d \u0434\u0430") ==
        strings{"\u00e9t\u00e9", " \u4f60\u597d", " \u0434\u0430"});
  CHECK(pieces("x\u0301") == strings{"x", "\u0301"});  // a combining mark is no letter
}

TEST_CASE("split_gpt2: white space is the property White_Space of Unicode") {
  std::vector<char32_t> found;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string text;
    quern::append_utf8(text, c);
    text += text + '!';
    if (pieces(text, false).size() == 3 || c == ' ')
      found.push_back(c);  // other than a space, it stands alone
  }
  // PropList.txt; letters and numbers make two pieces, all else joins the '!'.
  CHECK(found == std::vector<char32_t>{9,      10,     11,     12,     13,     32,     0x85,   0xa0,   0x1680,
                                       0x2000, 0x2001, 0x2002, 0x2003, 0x2004, 0x2005, 0x2006, 0x2007, 0x2008,
                                       0x2009, 0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000});
}

TEST_CASE("split_gpt2: numbers alone or in runs") {
  CHECK(pieces("a 123b 4.5") == strings{"a", " ", "1", "2", "3", "b", " ", "4", ".", "5"});
  CHECK(pieces("a 123b 4.5", false) == strings{"a", " 123", "b", " 4", ".", "5"});
  CHECK(pieces("a   1") == strings{"a", "   ", "1"});
  CHECK(pieces("a   1", false) == strings{"a", "  ", " 1"});
  CHECK(pieces("\u00b2\u0663\u2167") == strings{"\u00b2", "\u0663", "\u2167"});
  CHECK(pieces("\u00b2\u0663\u2167", false) == strings{"\u00b2\u0663\u2167"});
  CHECK(pieces("1's") == strings{"1", "'s"});
}

TEST_CASE("split_gpt2: pieces are the text, whatever the bytes") {
  quern::rng random(20260101);
  constexpr std::string_view hard[] = {" ", "  ",   "\n",       "'s",     "'", "a",         "\u00e9",
                                       "7", "\xff", "\xe2\x82", "\u3000", ".", "\U0001f600"};
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (std::uint64_t n = random.below(12); n != 0; --n) text += hard[random.below(std::size(hard))];
    for (const bool alone : {false, true}) {
      std::string joined;
      bool empty = false;
      for (const auto p : llama::split_gpt2(text, alone)) {
        joined += p;
        empty = empty || p.empty();
      }
      REQUIRE(joined == text);
      REQUIRE_FALSE(empty);
    }
  }
}

TEST_CASE("tokenizer: bytes") {
  const auto t = llama::tokenizer::bytes();
  CHECK(t.size() == 256);
  CHECK(t.encode("a\xff") == ids{97, 255});
  CHECK(t.encode(std::string_view("\0", 1)) == ids{0});
  CHECK(t.decode(ids{104, 105, 0}) == std::string_view("hi\0", 3));
  CHECK_FALSE(t.eos());
  CHECK_THROWS_AS(t.decode(ids{256}), quern::shape_error);
  CHECK_THROWS_AS(t.decode(ids{-1}), quern::shape_error);
  auto back = llama::tokenizer::from_blobs(t.to_blobs(), "f");
  REQUIRE(back);
  CHECK(back->size() == 256);
}

TEST_CASE("tokenizer: merges by rank, not by place") {
  auto t = toy().build();
  REQUIRE_MESSAGE(t, t.error().what());
  CHECK(t->encode("ab") == ids{7});
  CHECK(t->encode("abc") == ids{9});  // b c first, then a bc
  CHECK(t->encode("abab") == ids{7, 7});
  CHECK(t->encode(" a ab") == ids{10, 3, 7});  // in " ab", a b goes before the space and a
  CHECK(t->encode("a's") == ids{0, 4, 5});
  CHECK(t->encode("z") == ids{});  // the vocabulary lacks it
  CHECK_FALSE(t->covers("z"));
  CHECK(t->covers("abc 's1"));
  CHECK(llama::encode_whole(*t, "abc", "x").value() == t->encode("abc"));
  const auto lacking = llama::encode_whole(*t, "abza", "some.txt");
  REQUIRE_FALSE(lacking);
  CHECK(std::string(lacking.error().what())
            .find("'some.txt' offset 2: the model's vocabulary lacks byte 122") != std::string::npos);
  CHECK(t->token(10) == " a");
  CHECK(t->bos() == std::optional<std::int32_t>(11));
  CHECK_FALSE(t->eos());
}

TEST_CASE("tokenizer: control tokens only when asked for, user-defined ones always, the longest first") {
  auto t = toy().build();
  REQUIRE(t);
  CHECK(t->encode("a<x>yb<x>", true) == ids{0, 12, 1, 11});
  CHECK(t->encode("a<x>b", false) == ids{0, 1});  // '<', 'x' and '>' are not in this vocabulary
  CHECK(t->encode("au|b") == ids{0, 13, 1});
  CHECK(t->decode(ids{0, 12, 13}) == "a<x>yu|");
  CHECK(t->find("<x>") == std::optional<std::int32_t>(11));
  CHECK(t->find(" a") == std::optional<std::int32_t>(10));
  CHECK_FALSE(t->find("nope"));
}

TEST_CASE("tokenizer: vocabularies that contradict themselves") {
  const auto refuses = [](auto&& spoil, const char* word) {
    toy v;
    spoil(v);
    const auto r = v.build();
    CHECK(fails_with(r, word));
    CHECK(fails_with(r, "toy.gguf"));
  };
  refuses([](toy& v) { v.model = "llama"; }, "only gpt2");
  refuses([](toy& v) { v.pre = "qwen2"; }, "qwen2");
  refuses([](toy& v) { v.kinds.pop_back(); }, "token_type");
  refuses([](toy& v) { v.kinds[0] = 7; }, "token 0 is 7");
  refuses([](toy& v) { v.kinds[0] = 0; }, "token_type");
  refuses([](toy& v) { v.tokens[5] = "a"; }, "equals token");
  refuses([](toy& v) { v.tokens[1] = "a b"; }, "token 1 has characters");
  refuses([](toy& v) { v.tokens[1] = "\xff"; }, "token 1 has characters");
  refuses([](toy& v) { v.tokens[1] = "\u4f60"; }, "token 1 has characters");
  refuses([](toy& v) { v.merges[0] = "bc"; }, "merge 0");
  refuses([](toy& v) { v.merges[0] = "b z"; }, "merge 0");
  refuses([](toy& v) { v.merges[0] = "b "; }, "merge 0");
  refuses([](toy& v) { v.merges[0] = " c"; }, "merge 0");
  refuses([](toy& v) { v.merges[0] = ""; }, "merge 0");
  refuses([](toy& v) { v.merges[0] = "c c"; }, "no token");
  refuses([](toy& v) { v.merges.push_back("b c"); }, "twice");
  refuses([](toy& v) { v.bos = 14; }, "outside");
  refuses([](toy& v) { v.bos = 0xffffffff; }, "bos_token_id");
}

TEST_CASE("tokenizer: blobs give the same tokenizer, damaged blobs an error") {
  toy v;
  v.bos = 13;  // the last token, so that every cut takes something that is referred to
  auto t = v.build();
  REQUIRE(t);
  const auto blobs = t->to_blobs();
  auto back = llama::tokenizer::from_blobs(blobs, "f");
  REQUIRE_MESSAGE(back, back.error().what());
  for (const char* text : {"abc ab's 111", " a a", "<x>u|"})
    CHECK(back->encode(text, true) == t->encode(text, true));
  CHECK(back->bos() == t->bos());
  CHECK_FALSE(back->eos());
  CHECK(back->to_blobs().tokens == blobs.tokens);
  CHECK(back->to_blobs().merges == blobs.merges);
  for (std::size_t n = 0; n < blobs.tokens.size(); ++n) {
    auto cut = blobs;
    cut.tokens.resize(n);
    CHECK_FALSE(llama::tokenizer::from_blobs(cut, "f"));
  }
  for (std::size_t n = 1; n < 8; ++n) {
    auto cut = blobs;
    cut.merges.resize(n);
    CHECK(fails_with(llama::tokenizer::from_blobs(cut, "f"), "merge 0"));
  }
  auto id = blobs;
  id.merges[3] = std::byte{0x80};
  CHECK(fails_with(llama::tokenizer::from_blobs(id, "f"), "outside"));
  for (std::size_t i = 0; i < blobs.tokens.size(); ++i) {
    for (unsigned x = 1; x < 256; ++x) {
      auto changed = blobs;
      changed.tokens[i] ^= static_cast<std::byte>(x);
      auto r = llama::tokenizer::from_blobs(changed, "f");
      if (r) CHECK(r->encode("abc ab's<x>y", true).size() < 20);
    }
  }
  for (const auto& [key, value] :
       {std::pair("tokenizer", "spm"), std::pair("tokenizer.pre", "none"), std::pair("tokenizer.bos", "-1"),
        std::pair("tokenizer.bos", "1x"), std::pair("tokenizer.bos", ""),
        std::pair("tokenizer.bos", "99999999999")}) {
    auto changed = blobs;
    for (auto& m : changed.metadata)
      if (m.first == key) m.second = value;
    CHECK(fails_with(llama::tokenizer::from_blobs(changed, "f"), key));
  }
}

TEST_CASE("tokenizer: a safetensors file carries it") {
  auto t = toy().build();
  REQUIRE(t);
  const auto path = (std::filesystem::temp_directory_path() / "quern_tokenizer_test.safetensors").string();
  const auto blobs = t->to_blobs();
  quern::safetensors_writer out;
  blobs.add_to(out);
  REQUIRE(out.write(path));
  auto file = quern::safetensors_file::open(path);
  REQUIRE(file);
  auto back = llama::tokenizer::from_safetensors(*file, path);
  std::filesystem::remove(path);
  REQUIRE_MESSAGE(back, back.error().what());
  CHECK(back->encode(" abc") == t->encode(" abc"));
  CHECK(back->size() == t->size());
}

TEST_CASE("tokenizer: a piece of a million letters takes n log n") {
  // With n^2 work this would take hours.
  auto t = toy().build();
  REQUIRE(t);
  std::string text;
  for (int i = 0; i < 350'000; ++i) text += "abc";
  const ids out = t->encode(text);
  CHECK(out.size() == 350'000);
  CHECK(std::all_of(out.begin(), out.end(), [](std::int32_t id) { return id == 9; }));
}

TEST_CASE("tokenizer: SmolLM2 gives the golden ids") {
  const smollm2 data;
  if (!data.here()) return;
  auto file = quern::gguf_file::open(data.model.string());
  REQUIRE_MESSAGE(file, file.error().what());
  auto t = llama::tokenizer::from_gguf(*file);
  REQUIRE_MESSAGE(t, t.error().what());
  CHECK(t->size() == 49152);
  CHECK(t->bos() == std::optional<std::int32_t>(1));
  CHECK(t->eos() == std::optional<std::int32_t>(2));
  const std::string prompt = slurp(data.shared / "smollm2" / "prompt.txt");
  CHECK(t->encode(prompt) == npy<std::int32_t>(data.shared / "smollm2" / "prompt_ids.npy", 22));
  CHECK(t->decode(ids{7042}) == " Paris");
  CHECK(t->encode("<|im_start|>user", true).at(0) == 1);
  CHECK(t->encode("<|im_start|>user").size() > 2);

  const std::string text = slurp(data.shared / "wikitext2" / "wiki.test.raw");
  REQUIRE(text.size() == 1'290'590);
  const ids all = t->encode(text);
  CHECK(all.size() == 303'415);
  const ids expected =
      npy<std::uint16_t>(data.shared / "smollm2" / "wiki_test_raw_ids_first_32768_u16.npy", 32768);
  const auto differs = std::mismatch(expected.begin(), expected.end(), all.begin()).first - expected.begin();
  CHECK(differs == 32768);
  CHECK(t->covers(text));
  CHECK(t->decode(all) == text);
  auto back = llama::tokenizer::from_blobs(t->to_blobs(), "f");
  REQUIRE_MESSAGE(back, back.error().what());
  CHECK(back->encode(text) == all);
}
