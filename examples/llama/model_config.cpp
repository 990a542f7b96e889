// SPDX-License-Identifier: Apache-2.0
#include <charconv>
#include <cstdint>
#include <llama/load.hpp>
#include <llama/model_file.hpp>
#include <quern/io/checkpoint.hpp>

namespace llama {

using quern::io_error;
using quern::result;

namespace {

/// GGUF's keys and the fields they fill; read and written through one table.
struct key {
  const char* name;
  std::size_t config::*field;
};
constexpr key keys[] = {{"llama.vocab_size", &config::vocab},
                        {"llama.embedding_length", &config::width},
                        {"llama.block_count", &config::layers},
                        {"llama.feed_forward_length", &config::ffn},
                        {"llama.attention.head_count", &config::heads},
                        {"llama.attention.head_count_kv", &config::kv_heads},
                        {"llama.rope.dimension_count", &config::head_dim},
                        {"llama.context_length", &config::context}};
constexpr char rope_base_key[] = "llama.rope.freq_base",
               epsilon_key[] = "llama.attention.layer_norm_rms_epsilon";

template <class T>
std::string shortest(T value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

}  // namespace

result<config> read_config(const quern::gguf_file& file) {
  const auto architecture = file.text("general.architecture");
  if (!architecture) return architecture.error();
  if (*architecture != "llama")
    return io_error("llama::load: '", file.name(), "' (general.architecture): is '",
                    std::string(*architecture), "'; only 'llama' can be run");
  config c;
  for (const key& k : keys) {
    if (k.field == &config::vocab || k.field == &config::head_dim) continue;  // optional keys, below
    const auto value = file.number<std::uint32_t>(k.name);
    if (!value) return value.error();
    c.*k.field = *value;
  }
  const auto epsilon = file.number<float>(epsilon_key);
  if (!epsilon) return epsilon.error();
  c.rms_epsilon = *epsilon;
  if (file.find_value(rope_base_key) != nullptr) {
    const auto base = file.number<float>(rope_base_key);
    if (!base) return base.error();
    c.rope_base = *base;
  }
  const quern::gguf_tensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr) return absent_tensor(file.name(), "token_embd.weight");
  c.vocab = embedding->rows();
  if (c.heads != 0) c.head_dim = c.width / c.heads;
  if (file.find_value("llama.attention.key_length") != nullptr) {
    const auto length = file.number<std::uint32_t>("llama.attention.key_length");
    if (!length) return length.error();
    c.head_dim = *length;
  }
  if (file.find_value("llama.rope.dimension_count") != nullptr) {
    const auto turned = file.number<std::uint32_t>("llama.rope.dimension_count");
    if (!turned) return turned.error();
    if (*turned != c.head_dim)
      return io_error("llama::load: '", file.name(), "' (llama.rope.dimension_count): is ", *turned,
                      "; only rotations of the whole head of ", c.head_dim, " can be run");
  }
  if (const auto* scaling = file.find_value("llama.rope.scaling.type"); scaling != nullptr) {
    const auto type = file.text("llama.rope.scaling.type");
    if (!type) return type.error();
    if (*type != "none")
      return io_error("llama::load: '", file.name(), "' (llama.rope.scaling.type): is '", std::string(*type),
                      "'; only 'none' can be run");
  }
  if (file.find("rope_freqs.weight") != nullptr)
    return io_error("llama::load: '", file.name(),
                    "' has a tensor 'rope_freqs.weight': scaled rotary frequencies cannot be run");
  c.tied = file.find("output.weight") == nullptr;
  if (auto r = check(c); !r) return io_error("llama::load: '", file.name(), "': ", r.error().what());
  return c;
}

void describe(const config& c, quern::safetensors_writer& out) {
  out.metadata("general.architecture", "llama");
  for (const key& k : keys) out.metadata(k.name, shortest(c.*k.field));
  out.metadata(rope_base_key, shortest(c.rope_base));
  out.metadata(epsilon_key, shortest(c.rms_epsilon));
}

result<config> read_config(const quern::safetensors_file& file, const std::string& path) {
  const auto number = [&](const char* name, auto& out) -> result<void> {
    const std::string* text = file.metadata(name);
    if (text == nullptr)
      return io_error("llama::load: '", path, "' (__metadata__): has no key '", name,
                      "'; it was not written by this project's programs");
    const auto end = std::from_chars(text->data(), text->data() + text->size(), out);
    if (end.ec != std::errc() || end.ptr != text->data() + text->size())
      return io_error("llama::load: '", path, "' (__metadata__ '", name, "'): '", *text, "' is not a number");
    return {};
  };
  const std::string* architecture = file.metadata("general.architecture");
  if (architecture == nullptr || *architecture != "llama")
    return io_error("llama::load: '", path, "' (__metadata__ 'general.architecture'): must be 'llama'");
  config c;
  for (const key& k : keys)
    if (auto r = number(k.name, c.*k.field); !r) return r.error();
  if (auto r = number(rope_base_key, c.rope_base); !r) return r.error();
  if (auto r = number(epsilon_key, c.rms_epsilon); !r) return r.error();
  c.tied = file.find("output.weight") == nullptr && !quern::is_packed(file, "output.weight");
  if (auto r = check(c); !r) return io_error("llama::load: '", path, "': ", r.error().what());
  return c;
}

}  // namespace llama
