// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto file = quern::gguf_file::open("smollm2.gguf");
// auto t = llama::tokenizer::from_gguf(*file);                     // or tokenizer::bytes(), or
// from_safetensors std::vector<std::int32_t> ids = t->encode("The capital of France is"); std::string text =
// t->decode(ids);

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <quern/core/error.hpp>
#include <quern/io/gguf.hpp>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace llama {

/// A tokenizer as plain bytes, so that a model file can carry it. Little-endian on every machine.
struct tokenizer_blobs {
  std::vector<std::byte> tokens;  ///< for each id: u8 kind, u32 length, the bytes it stands for
  std::vector<std::byte> merges;  ///< [merges x 2] u32 ids (left, right), first choice first
  std::vector<std::pair<std::string, std::string>> metadata;  ///< entries that begin with "tokenizer"

  /// Adds the tensors "tokenizer.tokens" (u8) and "tokenizer.merges" (u32 [merges x 2]) and the metadata. The
  /// blobs must outlive out.write().
  void add_to(quern::safetensors_writer& out) const;
};

/// Text to ids and back. Two kinds: `bytes`, where ids are the 256 byte values, and the byte-level BPE of
/// GPT-2 (Radford et al. 2019), as GGUF files of `tokenizer.ggml.model` "gpt2" describe it.
class tokenizer {
 public:
  /// What a token is; the numbers are those of `tokenizer.ggml.token_type`.
  enum class kind : std::uint8_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6
  };

  /// 256 ids, one per byte; no bos, no eos.
  static tokenizer bytes();
  /// @return io_error that names the key and the token: another model than "gpt2", a pre-tokenizer other than
  ///         "gpt-2", "smollm" and what equals them, tokens or merges that contradict each other
  static quern::result<tokenizer> from_gguf(const quern::gguf_file& file);
  /// Reads what to_blobs() gives; a file without the key "tokenizer", or where it is "bytes", has bytes().
  /// @param name  the file's name for errors
  static quern::result<tokenizer> from_safetensors(const quern::safetensors_file& file,
                                                   const std::string& name);
  static quern::result<tokenizer> from_blobs(const tokenizer_blobs& blobs, const std::string& name);
  tokenizer_blobs to_blobs() const;

  /// The ids of @p text, which may be any bytes. User-defined tokens are always found in it; control tokens
  /// such as "<|im_start|>" only if @p parse_control, which is not for text of strangers. Bytes that the
  /// vocabulary lacks are dropped, as in llama.cpp: see covers(). n log n for any text.
  std::vector<std::int32_t> encode(std::string_view text, bool parse_control = false) const;
  /// Whether decode(encode(text)) is @p text: false for a byte that the vocabulary lacks, as SmolLM2's lacks
  /// 21, most of which no UTF-8 text has.
  bool covers(std::string_view text) const;
  /// The bytes that @p ids stand for; control tokens appear as they are written.
  /// @throws shape_error for an id outside the vocabulary
  std::string decode(std::span<const std::int32_t> ids) const;

  std::size_t size() const { return tokens_.size(); }
  /// The bytes one id stands for, id < size().
  const std::string& token(std::size_t id) const { return tokens_[id].text; }
  kind token_kind(std::size_t id) const { return tokens_[id].what; }
  /// The id of a token's text among control and user-defined tokens, then among the others.
  std::optional<std::int32_t> find(std::string_view text) const;
  std::optional<std::int32_t> bos() const { return special(bos_); }
  std::optional<std::int32_t> eos() const { return special(eos_); }
  std::optional<std::int32_t> unknown() const { return special(unknown_); }

 private:
  struct entry {
    kind what;
    std::string text;
  };
  struct merge {
    std::uint32_t rank;
    std::int32_t result;
  };
  struct workspace;

  tokenizer() { byte_ids_.fill(-1); }
  static std::optional<std::int32_t> special(std::int32_t id) {
    return id < 0 ? std::nullopt : std::optional<std::int32_t>(id);
  }
  static std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
           static_cast<std::uint32_t>(right);
  }
  /// Checks tokens_ and fills every table from it and @p pairs; what is wrong goes to @p why.
  bool build(std::span<const std::pair<std::int32_t, std::int32_t>> pairs, quern::error& why);
  bool set_pre(std::string_view pre);
  void encode_plain(std::string_view text, workspace& w) const;
  void encode_piece(std::string_view piece, workspace& w) const;

  bool is_bytes_ = false, digits_alone_ = false;
  std::int32_t bos_ = -1, eos_ = -1, unknown_ = -1;
  std::vector<entry> tokens_;                                 // [size()]
  std::vector<std::int32_t> specials_;                        // control and user-defined, longest first
  std::array<std::int32_t, 256> byte_ids_;                    // -1: the vocabulary lacks the byte
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs_;  // by rank
  std::unordered_map<std::uint64_t, merge> merges_;           // from pair_of(left, right)
};

/// Cuts text as GPT-2's pattern does: contractions, runs of letters, of numbers and of other characters, each
/// with one space before it, and white space. With @p digits_alone, every number character is a piece first.
/// Pieces are views of @p text and together are all of it; bytes that are not UTF-8 count as other
/// characters.
std::vector<std::string_view> split_gpt2(std::string_view text, bool digits_alone);

}  // namespace llama
