// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <llama/tokenizer.hpp>
#include <quern/io/byte_reader.hpp>
#include <quern/io/utf8.hpp>

namespace llama {

namespace {

using quern::io_error;

struct code_point_range {
  char32_t first, last;
};
#include "unicode_ranges.inl"

enum class character : unsigned char { letter, number, space, other };

bool is_in(std::span<const code_point_range> table, char32_t c) {
  const auto at =
      std::lower_bound(table.begin(), table.end(), c, [](const auto& r, char32_t v) { return r.last < v; });
  return at != table.end() && at->first <= c;
}

character classify_slowly(char32_t c) {
  // The property White_Space, which is what \s means in the pattern.
  if ((c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
      (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000)
    return character::space;
  return is_in(letters, c) ? character::letter : is_in(numbers, c) ? character::number : character::other;
}

character classify(char32_t c) {
  static constexpr auto letter = [](char32_t x) { return (x | 32u) >= 'a' && (x | 32u) <= 'z'; };
  if (c >= 0x80) return classify_slowly(c);
  if (letter(c)) return character::letter;
  if (c >= '0' && c <= '9') return character::number;
  return c == ' ' || (c >= 9 && c <= 13) ? character::space : character::other;
}

/// One character of the text: its kind and its bytes.
struct step {
  character what;
  unsigned size;
};
step step_at(std::string_view text, std::size_t at) {
  const quern::code_point c = quern::decode_utf8(text, at);
  if (c.size == 0) return {character::other, 1};
  return {classify(c.value), c.size};
}

/// Bytes of the contraction ('s 't 're 've 'm 'll 'd) at the start of @p text, or 0.
std::size_t contraction(std::string_view text) {
  for (const std::string_view c : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.substr(0, c.size()) == c) return c.size();
  return 0;
}

/// Bytes of the first piece of @p text, which is not empty.
std::size_t first_piece(std::string_view text) {
  if (const std::size_t n = contraction(text)) return n;
  const step first = step_at(text, 0);
  std::size_t end = 0;
  character run = first.what;
  if (text[0] == ' ' && text.size() > 1) {
    run = step_at(text, 1).what;  // a space belongs to what follows it, unless that is space
    end = 1;
  }
  std::size_t last = 0;  // start of the run's last character
  while (end < text.size()) {
    const step s = step_at(text, end);
    if (s.what != run) break;
    last = end;
    end += s.size;
  }
  // White space before something leaves its last character to that piece, unless it is all there is.
  if (run == character::space && end < text.size() && last != 0) return last;
  return end;
}

void split_run(std::string_view text, std::vector<std::string_view>& out) {
  while (!text.empty()) {
    const std::size_t n = first_piece(text);
    out.push_back(text.substr(0, n));
    text.remove_prefix(n);
  }
}

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

std::vector<std::string_view> split_gpt2(std::string_view text, bool digits_alone) {
  std::vector<std::string_view> out;
  if (!digits_alone) return split_run(text, out), out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const step s = step_at(text, at);
    if (s.what == character::number) {
      split_run(text.substr(begin, at - begin), out);
      out.push_back(text.substr(at, s.size));
      begin = at + s.size;
    }
    at += s.size;
  }
  split_run(text.substr(begin), out);
  return out;
}

/// What encode() reuses from piece to piece.
struct tokenizer::workspace {
  struct symbol {
    std::int32_t id;  // -1: merged into its left neighbour
    std::size_t previous, next;
  };
  struct candidate {
    std::uint32_t rank;
    std::size_t left;
    std::int32_t left_id, right_id, result;
    /// A heap keeps its largest element on top; the best merge has the lowest rank, then the leftmost place.
    bool operator<(const candidate& o) const { return rank != o.rank ? rank > o.rank : left > o.left; }
  };
  std::vector<symbol> symbols;
  std::vector<candidate> heap;
  std::vector<std::int32_t> out;
};

tokenizer tokenizer::bytes() {
  tokenizer t;
  t.is_bytes_ = true;
  for (int b = 0; b < 256; ++b) {
    t.tokens_.push_back({kind::normal, std::string(1, static_cast<char>(static_cast<unsigned char>(b)))});
    t.byte_ids_[static_cast<std::size_t>(b)] = b;
  }
  return t;
}

bool tokenizer::set_pre(std::string_view pre) {
  // Names that llama.cpp gives to the same two patterns (src/llama-vocab.cpp).
  digits_alone_ = pre == "smollm" || pre == "starcoder" || pre == "refact" || pre == "command-r" ||
                  pre == "codeshell" || pre == "exaone" || pre == "minerva-7b";
  return digits_alone_ || pre == "gpt-2" || pre == "gpt2" || pre == "olmo" || pre == "phi-2" ||
         pre == "jais" || pre == "trillion" || pre == "granite-docling";
}

bool tokenizer::build(std::span<const std::pair<std::int32_t, std::int32_t>> pairs, quern::error& why) {
  std::unordered_map<std::string_view, std::int32_t> ids;
  ids.reserve(tokens_.size());
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const entry& e = tokens_[i];
    const auto id = static_cast<std::int32_t>(i);
    if (e.what == kind::control || e.what == kind::user_defined) {
      if (!e.text.empty()) specials_.push_back(id);
    } else if (!e.text.empty() && !ids.emplace(e.text, id).second) {
      return why = io_error("token ", i, " equals token ", ids.at(e.text)), false;
    } else if (e.text.size() == 1) {
      byte_ids_[static_cast<unsigned char>(e.text[0])] = id;
    }
  }
  std::stable_sort(specials_.begin(), specials_.end(), [&](std::int32_t a, std::int32_t b) {
    return token(static_cast<std::size_t>(a)).size() > token(static_cast<std::size_t>(b)).size();
  });
  pairs_.assign(pairs.begin(), pairs.end());
  merges_.reserve(pairs.size());
  std::string joined;
  for (std::size_t rank = 0; rank < pairs.size(); ++rank) {
    const auto [left, right] = pairs[rank];
    joined = token(static_cast<std::size_t>(left));
    joined += token(static_cast<std::size_t>(right));
    const auto result = ids.find(joined);
    if (result == ids.end()) return why = io_error("merge ", rank, " makes text that is no token"), false;
    const merge m{static_cast<std::uint32_t>(rank), result->second};
    if (!merges_.emplace(pair_of(left, right), m).second)
      return why = io_error("merge ", rank, " is given twice"), false;
  }
  for (const std::int32_t id : {bos_, eos_, unknown_})
    if (id < -1 || (id >= 0 && static_cast<std::size_t>(id) >= size()))
      return why = io_error("bos, eos or unknown id ", id, " is outside the ", size(), " tokens"), false;
  return true;
}

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

std::vector<std::int32_t> tokenizer::encode(std::string_view text, bool parse_control) const {
  workspace w;
  if (is_bytes_) {
    for (const char c : text) w.out.push_back(static_cast<unsigned char>(c));
    return std::move(w.out);
  }
  std::array<bool, 256> begins_special{};
  for (const std::int32_t id : specials_)
    begins_special[static_cast<unsigned char>(token(static_cast<std::size_t>(id))[0])] = true;
  std::size_t begin = 0, at = 0;
  while (at < text.size()) {
    const std::string* found = nullptr;
    if (begins_special[static_cast<unsigned char>(text[at])]) {
      for (const std::int32_t id : specials_) {
        const entry& e = tokens_[static_cast<std::size_t>(id)];
        if (e.what == kind::control && !parse_control) continue;
        if (text.compare(at, e.text.size(), e.text) != 0) continue;
        encode_plain(text.substr(begin, at - begin), w);
        w.out.push_back(id);
        found = &e.text;
        break;
      }
    }
    at += found == nullptr ? 1 : found->size();
    if (found != nullptr) begin = at;
  }
  encode_plain(text.substr(begin), w);
  return std::move(w.out);
}

void tokenizer::encode_plain(std::string_view text, workspace& w) const {
  for (const std::string_view piece : split_gpt2(text, digits_alone_)) encode_piece(piece, w);
}

/// Merges neighbours, lowest rank first and leftmost among equals, until no pair of them can be merged.
void tokenizer::encode_piece(std::string_view piece, workspace& w) const {
  constexpr std::size_t none = ~std::size_t{0};
  w.symbols.clear();
  w.heap.clear();
  for (const char c : piece) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) continue;
    const std::size_t i = w.symbols.size();
    if (i != 0) w.symbols[i - 1].next = i;
    w.symbols.push_back({id, i == 0 ? none : i - 1, none});
  }
  const auto consider = [&](std::size_t left) {
    if (left == none || w.symbols[left].next == none) return;
    const std::int32_t a = w.symbols[left].id, b = w.symbols[w.symbols[left].next].id;
    const auto m = merges_.find(pair_of(a, b));
    if (m == merges_.end()) return;
    w.heap.push_back({m->second.rank, left, a, b, m->second.result});
    std::push_heap(w.heap.begin(), w.heap.end());
  };
  for (std::size_t i = 0; i < w.symbols.size(); ++i) consider(i);
  while (!w.heap.empty()) {
    std::pop_heap(w.heap.begin(), w.heap.end());
    const workspace::candidate c = w.heap.back();
    w.heap.pop_back();
    workspace::symbol& left = w.symbols[c.left];
    // An earlier merge may have changed either side since this one was noted.
    if (left.id != c.left_id || left.next == none || w.symbols[left.next].id != c.right_id) continue;
    workspace::symbol& right = w.symbols[left.next];
    left.id = c.result;
    right.id = -1;
    left.next = right.next;
    if (left.next != none) w.symbols[left.next].previous = c.left;
    consider(left.previous);
    consider(c.left);
  }
  for (std::size_t i = w.symbols.empty() ? none : 0; i != none; i = w.symbols[i].next)
    w.out.push_back(w.symbols[i].id);
}

bool tokenizer::covers(std::string_view text) const {
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
}

std::string tokenizer::decode(std::span<const std::int32_t> ids) const {
  std::string out;
  for (const std::int32_t id : ids) {
    quern::require(id >= 0 && static_cast<std::size_t>(id) < size(), "llama::tokenizer::decode: id ", id,
                   " must be below ", size());
    out += token(static_cast<std::size_t>(id));
  }
  return out;
}

std::optional<std::int32_t> tokenizer::find(std::string_view text) const {
  std::optional<std::int32_t> out;
  for (std::size_t i = 0; i < size(); ++i) {
    if (tokens_[i].text != text) continue;
    if (tokens_[i].what == kind::control || tokens_[i].what == kind::user_defined)
      return static_cast<std::int32_t>(i);
    if (!out) out = static_cast<std::int32_t>(i);
  }
  return out;
}

}  // namespace llama
