// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <llama/tokenizer.hpp>

namespace llama {

using quern::io_error;

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
