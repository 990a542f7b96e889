// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::config c{.vocab = 256, .width = 256, .layers = 4, .ffn = 768, .heads = 4, .kv_heads = 2,
//                 .head_dim = 64, .context = 512};
// llama::check(c).value();   // raises a sentence that names the field

#include <cstddef>
#include <quern/core/error.hpp>

namespace llama {

/// The shape of a LLaMA: pre-RMSNorm blocks of grouped-query attention and SwiGLU, rotary positions in GGUF's
/// interleaved order (pairs (2i, 2i + 1) of each head).
struct config {
  std::size_t vocab = 0;  ///< token ids are 0 .. vocab - 1
  std::size_t width = 0;  ///< of the residual stream
  std::size_t layers = 0;
  std::size_t ffn = 0;       ///< hidden units of the SwiGLU block
  std::size_t heads = 0;     ///< query heads
  std::size_t kv_heads = 0;  ///< key and value heads; divides `heads`
  std::size_t head_dim = 0;  ///< even
  std::size_t context = 0;   ///< the most positions a cache or a training sequence holds
  float rope_base = 10000.0f;
  float rms_epsilon = 1e-5f;
  bool tied = true;  ///< the head is the embedding

  std::size_t query_width() const { return heads * head_dim; }
  std::size_t kv_width() const { return kv_heads * head_dim; }
  friend bool operator==(const config&, const config&) = default;
};

/// The limits keep every product of two sizes far inside 64 bits, so that a file with absurd numbers is
/// refused before anything is allocated. @returns an error that names the field
inline quern::result<void> check(const config& c) {
  struct limit {
    const char* name;
    std::size_t value, most;
  };
  const limit limits[] = {
      {"vocab", c.vocab, std::size_t{1} << 20},       {"width", c.width, std::size_t{1} << 16},
      {"layers", c.layers, std::size_t{1} << 10},     {"ffn", c.ffn, std::size_t{1} << 18},
      {"heads", c.heads, std::size_t{1} << 10},       {"kv_heads", c.kv_heads, std::size_t{1} << 10},
      {"head_dim", c.head_dim, std::size_t{1} << 10}, {"context", c.context, std::size_t{1} << 20}};
  for (const limit& l : limits)
    if (l.value == 0 || l.value > l.most)
      return quern::error("llama::config: ", l.name, " is ", l.value, "; it must be 1..", l.most);
  if (c.heads % c.kv_heads != 0)
    return quern::error("llama::config: heads (", c.heads, ") must be a multiple of kv_heads (", c.kv_heads,
                        ")");
  if (c.head_dim % 2 != 0) return quern::error("llama::config: head_dim (", c.head_dim, ") must be even");
  if (!(c.rope_base > 0) || !(c.rope_base < 1e12f))
    return quern::error("llama::config: rope_base is ", c.rope_base, "; it must be positive and finite");
  if (!(c.rms_epsilon >= 0) || !(c.rms_epsilon < 1))
    return quern::error("llama::config: rms_epsilon is ", c.rms_epsilon, "; it must be 0..1");
  return {};
}

}  // namespace llama
