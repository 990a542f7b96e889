// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <llama/tokenizer.hpp>
#include <quern/io/byte_reader.hpp>
#include <quern/io/utf8.hpp>

namespace llama {

using quern::io_error;

namespace {

/// GPT-2 writes bytes as printable characters: those that are printable in Latin-1 as themselves, the others
/// as U+0100, U+0101, ... in the order of the bytes.
struct byte_alphabet {
  std::array<int, 0x144> byte_of;  // -1: not a letter of the alphabet
  byte_alphabet() {
    byte_of.fill(-1);
    std::size_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      byte_of[shown ? static_cast<std::size_t>(b) : next++] = b;
    }
  }
  /// The bytes that @p text spells; false where it has characters that spell none.
  bool decode(std::string_view text, std::string& out) const {
    out.clear();
    for (std::size_t at = 0; at < text.size();) {
      const quern::code_point c = quern::decode_utf8(text, at);
      if (c.size == 0 || c.value >= byte_of.size() || byte_of[c.value] < 0) return false;
      out.push_back(static_cast<char>(static_cast<unsigned char>(byte_of[c.value])));
      at += c.size;
    }
    return true;
  }
};

template <class T>
void append_number(std::vector<std::byte>& out, T v) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<std::byte>(v >> 8 * i & 0xff));
}

const std::string* find_entry(const tokenizer_blobs& blobs, std::string_view key) {
  for (const auto& [k, v] : blobs.metadata)
    if (k == key) return &v;
  return nullptr;
}

constexpr const char* kind_key = "tokenizer";
constexpr const char* pre_key = "tokenizer.pre";
constexpr const char* tokens_key = "tokenizer.tokens";
constexpr const char* merges_key = "tokenizer.merges";

}  // namespace

quern::result<tokenizer> tokenizer::from_gguf(const quern::gguf_file& file) {
  const auto bad = [&](const char* key, const auto&... why) {
    return io_error("llama::tokenizer: '", file.name(), "' (metadata '", key, "'): ", why...);
  };
  const auto model = file.text("tokenizer.ggml.model");
  if (!model) return model.error();
  if (*model != "gpt2")
    return bad("tokenizer.ggml.model", "is '", std::string(*model), "'; only gpt2 is read");
  const auto pre = file.text("tokenizer.ggml.pre");
  if (!pre) return pre.error();
  tokenizer t;
  if (!t.set_pre(*pre))
    return bad("tokenizer.ggml.pre", "'", std::string(*pre), "' is not known; smollm and gpt-2 are");
  const auto texts = file.strings("tokenizer.ggml.tokens");
  if (!texts) return texts.error();
  std::vector<std::int32_t> kinds(texts->size(), static_cast<int>(kind::normal));
  if (file.find_value("tokenizer.ggml.token_type") != nullptr) {
    auto given = file.numbers<std::int32_t>("tokenizer.ggml.token_type");
    if (!given) return given.error();
    if (given->size() != kinds.size())
      return bad("tokenizer.ggml.token_type", "has ", given->size(), " entries for ", kinds.size(),
                 " tokens");
    kinds = std::move(*given);
  }
  const byte_alphabet alphabet;
  t.tokens_.reserve(kinds.size());
  std::unordered_map<std::string_view, std::int32_t> written;  // as the file writes them, for the merges
  for (const std::string_view text : *texts) {
    const std::size_t i = t.tokens_.size();
    if (kinds[i] < 1 || kinds[i] > 6)
      return bad("tokenizer.ggml.token_type", "of token ", i, " is ", kinds[i]);
    entry e{static_cast<kind>(kinds[i]), std::string(text)};
    if (e.what == kind::normal) {
      if (!alphabet.decode(text, e.text))
        return bad("tokenizer.ggml.tokens", "token ", i, " has characters that spell no byte");
      written.emplace(text, static_cast<std::int32_t>(i));
    }
    t.tokens_.push_back(std::move(e));
  }
  const auto merges = file.strings("tokenizer.ggml.merges");
  if (!merges) return merges.error();
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  for (const std::string_view text : *merges) {
    const std::size_t space = text.find(' ');
    const auto left = written.find(text.substr(0, space));
    const auto right = space == text.npos ? written.end() : written.find(text.substr(space + 1));
    if (left == written.end() || right == written.end())
      return bad("tokenizer.ggml.merges", "merge ", pairs.size(), " is not two tokens with a space between");
    pairs.emplace_back(left->second, right->second);
  }
  const auto id_of = [&](const char* key, std::int32_t& id) {
    if (file.find_value(key) == nullptr) return quern::result<void>();
    const auto given = file.number<std::int32_t>(key);
    if (!given) return quern::result<void>(given.error());
    if (*given < 0) return quern::result<void>(bad(key, "is negative"));
    id = *given;
    return quern::result<void>();
  };
  if (auto r = id_of("tokenizer.ggml.bos_token_id", t.bos_); !r) return r.error();
  if (auto r = id_of("tokenizer.ggml.eos_token_id", t.eos_); !r) return r.error();
  if (auto r = id_of("tokenizer.ggml.unknown_token_id", t.unknown_); !r) return r.error();
  quern::error why;
  if (!t.build(pairs, why)) return bad("tokenizer.ggml.*", why.what());
  return t;
}

tokenizer_blobs tokenizer::to_blobs() const {
  tokenizer_blobs out;
  out.metadata.emplace_back(kind_key, is_bytes_ ? "bytes" : "gpt2");
  if (is_bytes_) return out;
  out.metadata.emplace_back(pre_key, digits_alone_ ? "smollm" : "gpt-2");
  const std::pair<const char*, std::int32_t> ids[] = {
      {"tokenizer.bos", bos_}, {"tokenizer.eos", eos_}, {"tokenizer.unknown", unknown_}};
  for (const auto& [key, id] : ids)
    if (id >= 0) out.metadata.emplace_back(key, std::to_string(id));
  for (const entry& e : tokens_) {
    out.tokens.push_back(static_cast<std::byte>(e.what));
    append_number(out.tokens, static_cast<std::uint32_t>(e.text.size()));
    const auto text = std::as_bytes(std::span(e.text));
    out.tokens.insert(out.tokens.end(), text.begin(), text.end());
  }
  for (const auto& [left, right] : pairs_) {
    append_number(out.merges, static_cast<std::uint32_t>(left));
    append_number(out.merges, static_cast<std::uint32_t>(right));
  }
  return out;
}

void tokenizer_blobs::add_to(quern::safetensors_writer& out) const {
  for (const auto& [key, value] : metadata) out.metadata(key, value);
  if (tokens.empty()) return;
  out.add(tokens_key, quern::dtype::u8, {tokens.size()}, tokens);
  out.add(merges_key, quern::dtype::u32, {merges.size() / 8, 2}, merges);
}

quern::result<tokenizer> tokenizer::from_blobs(const tokenizer_blobs& blobs, const std::string& name) {
  const std::string* what = find_entry(blobs, kind_key);
  if (what == nullptr || *what == "bytes") return bytes();
  const auto bad = [&](const char* key, const auto&... why) {
    return io_error("llama::tokenizer: '", name, "' (", key, "): ", why...);
  };
  if (*what != "gpt2") return bad(kind_key, "is '", *what, "'; bytes and gpt2 are read");
  tokenizer t;
  const std::string* pre = find_entry(blobs, pre_key);
  if (pre == nullptr || !t.set_pre(*pre))
    return bad(pre_key, "is absent or unknown; smollm and gpt-2 are known");
  const std::pair<const char*, std::int32_t*> ids[] = {
      {"tokenizer.bos", &t.bos_}, {"tokenizer.eos", &t.eos_}, {"tokenizer.unknown", &t.unknown_}};
  for (const auto& [key, id] : ids) {
    const std::string* text = find_entry(blobs, key);
    if (text == nullptr) continue;
    const char* end = text->data() + text->size();
    const auto [stop, error] = std::from_chars(text->data(), end, *id);
    if (error != std::errc() || stop != end || *id < 0) return bad(key, "'", *text, "' is not an id");
  }
  quern::byte_reader in("llama::tokenizer", name, blobs.tokens);
  while (in.ok() && in.remaining() != 0) {
    in.scope("token", t.tokens_.size());
    const auto k = in.number<std::uint8_t>("kind");
    if (k < 1 || k > 6) in.fail(in.offset() - 1, "kind", "is ", static_cast<int>(k), "; 1 to 6 are known");
    const auto text = in.bytes(in.number<std::uint32_t>("length"), "text");
    t.tokens_.push_back(
        {static_cast<kind>(k), std::string(reinterpret_cast<const char*>(text.data()), text.size())});
  }
  quern::byte_reader pairs_in("llama::tokenizer", name, blobs.merges);
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  while (in.ok() && pairs_in.ok() && pairs_in.remaining() != 0) {
    pairs_in.scope("merge", pairs.size());
    const auto left = pairs_in.number<std::uint32_t>("left"), right = pairs_in.number<std::uint32_t>("right");
    if (left >= t.size() || right >= t.size())
      pairs_in.fail(pairs_in.offset() - 8, "ids", "are outside the ", t.size(), " tokens");
    pairs.emplace_back(static_cast<std::int32_t>(left), static_cast<std::int32_t>(right));
  }
  if (!in.ok()) return in.error();
  if (!pairs_in.ok()) return pairs_in.error();
  quern::error why;
  if (!t.build(pairs, why)) return bad(kind_key, why.what());
  return t;
}

quern::result<tokenizer> tokenizer::from_safetensors(const quern::safetensors_file& file,
                                                     const std::string& name) {
  tokenizer_blobs blobs;
  for (const auto& m : file.metadata())
    if (m.first.rfind(kind_key, 0) == 0) blobs.metadata.push_back(m);
  const auto copy = [&](const char* key, quern::dtype type, std::vector<std::byte>& out) {
    const quern::tensor_info* t = file.find(key);
    if (t == nullptr || t->type != type) return t == nullptr;
    const auto bytes = file.data(*t);
    out.assign(bytes.begin(), bytes.end());
    return true;
  };
  if (!copy(tokens_key, quern::dtype::u8, blobs.tokens) || !copy(merges_key, quern::dtype::u32, blobs.merges))
    return io_error("llama::tokenizer: '", name, "': ", tokens_key, " must be U8 and ", merges_key, " U32");
  return from_blobs(blobs, name);
}

}  // namespace llama
