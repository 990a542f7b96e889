// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <llama/load.hpp>
#include <quern/core/half.hpp>
#include <quern/io/gguf.hpp>
#include <quern/io/gguf_blocks.hpp>

namespace llama {
namespace {

using quern::io_error;
using quern::result;

/// A tensor of a file as floats, after its shape has been compared.
using reader =
    std::function<result<std::vector<float>>(const std::string& name, std::size_t rows, std::size_t cols)>;

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

io_error wrong_shape(const std::string& path, const std::string& name, std::size_t rows, std::size_t cols,
                     std::size_t expected_rows, std::size_t expected_cols) {
  return io_error("llama::load: '", path, "' (tensor '", name, "'): is ", rows, " x ", cols,
                  ", but the config asks for ", expected_rows, " x ", expected_cols,
                  "; the file is not a whole llama model");
}
io_error absent(const std::string& path, const std::string& name) {
  return io_error("llama::load: '", path, "' has no tensor '", name,
                  "'; the file is not a whole llama model");
}

result<model> build(const config& c, const reader& read) {
  model m;
  m.shape = c;
  const parameters layout(c);
  std::vector<std::vector<float>> floats;
  const auto dense = [&](const tensor& t, linear& out) -> result<void> {
    auto values = read(t.name, t.rows, t.cols);
    if (!values) return values.error();
    out = dense_linear(std::move(*values), t.rows, t.cols);
    return {};
  };
  const auto gain = [&](const tensor& t, std::vector<float>& out) -> result<void> {
    auto values = read(t.name, t.rows, t.cols);
    if (!values) return values.error();
    out = std::move(*values);
    return {};
  };
  if (auto r = dense(layout.embedding(), m.embedding); !r) return r.error();
  m.blocks.resize(c.layers);
  for (std::size_t l = 0; l < c.layers; ++l) {
    block& b = m.blocks[l];
    if (auto r = gain(layout.block(l, slot::attn_norm), b.attn_norm); !r) return r.error();
    if (auto r = gain(layout.block(l, slot::ffn_norm), b.ffn_norm); !r) return r.error();
    constexpr slot order[] = {slot::attn_q,   slot::attn_k, slot::attn_v,  slot::attn_output,
                              slot::ffn_gate, slot::ffn_up, slot::ffn_down};
    for (std::size_t i = 0; i < std::size(order); ++i)
      if (auto r = dense(layout.block(l, order[i]), b.*block_linears[i].weight); !r) return r.error();
  }
  if (auto r = gain(layout.output_norm(), m.output_norm); !r) return r.error();
  m.head = m.embedding;
  if (!c.tied)
    if (auto r = dense(layout.head(), m.head); !r) return r.error();
  return m;
}

result<config> config_of(const quern::gguf_file& file) {
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
  if (embedding == nullptr) return absent(file.name(), "token_embd.weight");
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

result<model> load_gguf(const std::string& path, quern::thread_pool& pool) {
  auto file = quern::gguf_file::open(path);
  if (!file) return file.error();
  const auto c = config_of(*file);
  if (!c) return c.error();
  return build(
      *c, [&](const std::string& name, std::size_t rows, std::size_t cols) -> result<std::vector<float>> {
        const quern::gguf_tensor* t = file->find(name);
        if (t == nullptr) return absent(path, name);
        if (t->rows() != rows || t->cols() != cols)
          return wrong_shape(path, name, t->rows(), t->cols(), rows, cols);
        return quern::dequantize(*file, *t, pool);
      });
}

result<std::vector<float>> floats_of(const quern::safetensors_file& file, const std::string& path,
                                     const std::string& name, std::size_t rows, std::size_t cols) {
  const quern::tensor_info* t = file.find(name);
  if (t == nullptr) return absent(path, name);
  const bool flat = rows == 1 && t->shape.size() == 1;
  const std::size_t seen_rows = flat ? 1 : t->shape.size() == 2 ? t->shape[0] : 0;
  const std::size_t seen_cols = t->shape.empty() ? 0 : t->shape.back();
  if (seen_rows != rows || seen_cols != cols)
    return wrong_shape(path, name, seen_rows, seen_cols, rows, cols);
  std::vector<float> out(rows * cols);
  const std::byte* const bytes = file.data(*t).data();
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (t->type == quern::dtype::f32)
      out[i] = quern::byte_reader::load<float>(bytes + 4 * i);
    else if (t->type == quern::dtype::f16)
      out[i] = quern::to_float(quern::f16{quern::byte_reader::load<std::uint16_t>(bytes + 2 * i)});
    else if (t->type == quern::dtype::bf16)
      out[i] = quern::to_float(quern::bf16{quern::byte_reader::load<std::uint16_t>(bytes + 2 * i)});
    else
      return io_error("llama::load: '", path, "' offset ", t->offset, " (tensor '", name, "'): has dtype ",
                      quern::name_of(t->type), "; F32, F16 and BF16 can be read");
    if (!std::isfinite(out[i]))
      return io_error("llama::load: '", path, "' offset ", t->offset, " (tensor '", name, "'): row ",
                      i / cols, " column ", i % cols, " is infinite or not a number; the file is damaged");
  }
  return out;
}

result<model> load_safetensors(const std::string& path) {
  auto file = quern::safetensors_file::open(path);
  if (!file) return file.error();
  const auto c = read_config(*file, path);
  if (!c) return c.error();
  return build(*c, [&](const std::string& name, std::size_t rows, std::size_t cols) {
    return floats_of(*file, path, name, rows, cols);
  });
}

template <class T>
std::string shortest(T value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end.ptr);
}

}  // namespace

result<model> load(const std::string& path, quern::thread_pool& pool) {
  char magic[4] = {};
  {
    std::ifstream in(path, std::ios::binary);
    if (!in) return io_error("llama::load: '", path, "' cannot be opened; check the name");
    in.read(magic, sizeof magic);
  }
  if (std::string(magic, sizeof magic) == "GGUF") return load_gguf(path, pool);
  return load_safetensors(path);
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
  c.tied = file.find("output.weight") == nullptr;
  if (auto r = check(c); !r) return io_error("llama::load: '", path, "': ", r.error().what());
  return c;
}

result<void> save_bf16(const std::string& path, const config& c, std::span<const float> weights,
                       const notes& extra) {
  const parameters layout(c);
  quern::require(weights.size() == layout.size(), "llama::save_bf16: weights must hold ", layout.size(),
                 " values");
  std::vector<quern::bf16> rounded(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) rounded[i] = quern::to_bf16(weights[i]);
  quern::safetensors_writer out;
  describe(c, out);
  for (const auto& [name, text] : extra) out.metadata(name, text);
  for (const tensor& t : layout.tensors()) {
    auto shape = t.rows == 1 ? std::vector<std::size_t>{t.cols} : std::vector<std::size_t>{t.rows, t.cols};
    out.add(t.name, quern::dtype::bf16, std::move(shape),
            std::as_bytes(std::span<const quern::bf16>(rounded).subspan(t.offset, t.size())));
  }
  return out.write(path);
}

}  // namespace llama
