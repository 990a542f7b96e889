// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <functional>
#include <llama/flat_model.hpp>
#include <llama/load.hpp>
#include <llama/model_file.hpp>
#include <llama/packed.hpp>
#include <llama/slorb_linear.hpp>
#include <memory>
#include <optional>
#include <quern/core/buffer.hpp>
#include <quern/core/half.hpp>
#include <quern/io/checkpoint.hpp>
#include <quern/io/gguf.hpp>
#include <quern/io/gguf_blocks.hpp>
#include <quern/train/low_rank.hpp>
#include <set>
#include <sstream>
#include <string_view>

namespace llama {
namespace {

using quern::io_error;
using quern::result;

/// The tensors of a file, after their shapes have been compared.
struct reader {
  std::function<result<std::vector<float>>(const std::string& name, std::size_t rows, std::size_t cols)>
      floats;
  /// A matrix in its packed form; a null linear where the file has none and floats are to be read.
  std::function<result<linear>(const std::string& name, std::size_t rows, std::size_t cols)> packed;
  /// Whether the file says that a half of a block ("blk.3.attn", "blk.3.ffn") is dropped.
  std::function<bool(const std::string& half)> dropped = [](const std::string&) { return false; };
  /// Inputs per group of side weights (SLoRB), 0 where the file has none, and whether it has a tensor.
  std::size_t group = 0;
  std::function<bool(const std::string& name)> has = {};
};

io_error wrong_shape(const std::string& path, const std::string& name, std::size_t rows, std::size_t cols,
                     std::size_t expected_rows, std::size_t expected_cols) {
  return io_error("llama::load: '", path, "' (tensor '", name, "'): is ", rows, " x ", cols,
                  ", but the config asks for ", expected_rows, " x ", expected_cols,
                  "; the file is not a whole llama model");
}

result<model> build(const config& c, const reader& read) {
  model m;
  m.shape = c;
  const parameters layout(c);
  const auto matrix = [&](const tensor& t, linear& out) -> result<void> {
    auto packed = read.packed(t.name, t.rows, t.cols);
    if (!packed) return packed.error();
    out = std::move(*packed);
    if (out) return {};
    auto values = read.floats(t.name, t.rows, t.cols);
    if (!values) return values.error();
    out = dense_linear(std::move(*values), t.rows, t.cols);
    return {};
  };
  const auto gain = [&](const tensor& t, std::vector<float>& out) -> result<void> {
    auto values = read.floats(t.name, t.rows, t.cols);
    if (!values) return values.error();
    out = std::move(*values);
    return {};
  };
  const auto with_side = [&](const tensor& t, linear& out) -> result<void> {
    if (auto r = matrix(t, out); !r) return r;
    if (read.group == 0 || !read.has(t.name + side_suffix)) return {};
    const std::size_t groups = quern::slorb_groups(t.cols, read.group);
    slorb_weight parts{.sparse = out, .side = {}, .projection = {}, .k = read.group};
    if (auto r = matrix({t.name + side_suffix, t.rows, groups}, parts.side); !r) return r;
    if (const std::string name = t.name + projection_suffix; read.has(name))
      if (auto r = matrix({name, groups, t.cols}, parts.projection); !r) return r;
    out = slorb_linear(std::move(parts));
    return {};
  };
  if (auto r = matrix(layout.embedding(), m.embedding); !r) return r.error();
  m.blocks.resize(c.layers);
  for (std::size_t l = 0; l < c.layers; ++l) {
    block& b = m.blocks[l];
    if (auto r = gain(layout.block(l, slot::attn_norm), b.attn_norm); !r) return r.error();
    if (auto r = gain(layout.block(l, slot::ffn_norm), b.ffn_norm); !r) return r.error();
    for (std::size_t i = 0; i < std::size(linear_slots); ++i) {
      if (read.dropped(half_name(l, i))) continue;
      if (auto r = with_side(layout.block(l, linear_slots[i]), b.*block_linears[i].weight); !r)
        return r.error();
    }
  }
  if (auto r = gain(layout.output_norm(), m.output_norm); !r) return r.error();
  m.head = m.embedding;
  if (!c.tied)
    if (auto r = matrix(layout.head(), m.head); !r) return r.error();
  return m;
}

/// Refuses a file with a tensor that nothing here computes with, as biases: without it the model is another one.
result<void> check_all_known(const quern::gguf_file& file, const config& c) {
  std::set<std::string, std::less<>> known;
  const parameters layout(c);
  for (const tensor& t : layout.tensors()) known.insert(t.name);
  for (const quern::gguf_tensor& t : file.tensors()) {
    const std::string_view name = t.name;
    // Rotary frequencies that early converters wrote, and everyone computes.
    if (known.contains(name) || name.ends_with(".attn_rot_embd.weight")) continue;
    return io_error(
        "llama::load: '", file.name(), "' has a tensor '", std::string(name),
        "', which cannot be run; leaving it out would give wrong results: take a plain llama model");
  }
  return {};
}

result<model> load_gguf(const std::string& path, quern::thread_pool& pool, const load_options& options) {
  auto file = quern::gguf_file::open(path);
  if (!file) return file.error();
  const auto c = read_config(*file);
  if (!c) return c.error();
  if (auto r = check_all_known(*file, *c); !r) return r.error();
  const auto find = [&](const std::string& name, std::size_t rows,
                        std::size_t cols) -> result<const quern::gguf_tensor*> {
    const quern::gguf_tensor* t = file->find(name);
    if (t == nullptr) return absent_tensor(path, name);
    if (t->rows() != rows || t->cols() != cols)
      return wrong_shape(path, name, t->rows(), t->cols(), rows, cols);
    return t;
  };
  reader read;
  read.floats = [&](const std::string& name, std::size_t rows,
                    std::size_t cols) -> result<std::vector<float>> {
    const auto t = find(name, rows, cols);
    if (!t) return t.error();
    return quern::dequantize(*file, **t, pool);
  };
  read.packed = [&](const std::string& name, std::size_t rows, std::size_t cols) -> result<linear> {
    const auto t = find(name, rows, cols);
    if (!t) return t.error();
    if (!options.packed || !quern::gguf_has_codes((*t)->type)) return linear();
    auto w = read_packed(*file, **t, pool);
    if (!w) return w.error();
    return packed_linear(std::move(*w));
  };
  return build(*c, read);
}

result<std::vector<float>> floats_of(const quern::safetensors_file& file, const std::string& path,
                                     const std::string& name, std::size_t rows, std::size_t cols) {
  const quern::tensor_info* t = file.find(name);
  if (t == nullptr) return absent_tensor(path, name);
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

using shared_file = std::shared_ptr<const quern::safetensors_file>;

/// The file, mapped or, if it has packed matrices, copied.
result<shared_file> open_safetensors(const std::string& path, bool copied) {
  struct holder {
    quern::mapped_file mapped;
    quern::buffer copy;
    std::optional<quern::safetensors_file> file;
  };
  auto mapped = quern::mapped_file::open(path);
  if (!mapped) return mapped.error();
  const auto bytes = mapped->bytes();
  auto file = quern::safetensors_file::parse(bytes, path);
  if (!file) return file.error();
  const auto out = std::make_shared<holder>();
  const auto entries = file->metadata();
  if (copied && std::any_of(entries.begin(), entries.end(),
                            [](const auto& e) { return e.first.starts_with(quern::packed_key); })) {
    out->copy = quern::buffer(bytes.size());
    std::copy(bytes.begin(), bytes.end(), out->copy.data());
    auto again = quern::safetensors_file::parse({out->copy.data(), out->copy.size()}, path);
    if (!again) return again.error();
    out->file = std::move(*again);
  } else {
    out->mapped = std::move(*mapped);
    out->file = std::move(*file);
  }
  return shared_file(out, &*out->file);
}

result<model> load_safetensors(const std::string& path, bool copied) {
  const auto opened = open_safetensors(path, copied);
  if (!opened) return opened.error();
  const shared_file file = *opened;  // every packed matrix keeps it
  const auto c = read_config(*file, path);
  if (!c) return c.error();
  reader read;
  read.floats = [&](const std::string& name, std::size_t rows, std::size_t cols) {
    return floats_of(*file, path, name, rows, cols);
  };
  std::set<std::string> halves, dropped;
  for (std::size_t l = 0; l < c->layers; ++l) halves.insert({half_name(l, 0), half_name(l, 4)});
  if (const std::string* text = file->metadata(dropped_key); text != nullptr) {
    std::istringstream names(*text);
    for (std::string name; names >> name; dropped.insert(name))
      if (!halves.contains(name))
        return io_error("llama::load: '", path, "' (__metadata__ '", dropped_key, "'): '", name,
                        "' is no half of one of ", c->layers, " blocks, as blk.0.attn and blk.0.ffn are");
  }
  read.dropped = [&](const std::string& half) { return dropped.contains(half); };
  read.packed = [&](const std::string& name, std::size_t rows, std::size_t cols) -> result<linear> {
    if (!quern::is_packed(*file, name)) return linear();
    auto w = read_packed(*file, name, file);
    if (!w) return io_error("llama::load: '", path, "': ", w.error().what());
    if (w->raw.rows != rows || w->raw.cols != cols)
      return wrong_shape(path, name, w->raw.rows, w->raw.cols, rows, cols);
    return packed_linear(std::move(*w));
  };
  read.has = [&](const std::string& name) {
    return file->find(name) != nullptr || quern::is_packed(*file, name);
  };
  if (const std::string* text = file->metadata(group_key); text != nullptr) {
    const auto end = std::from_chars(text->data(), text->data() + text->size(), read.group);
    if (end.ec != std::errc() || end.ptr != text->data() + text->size() || read.group == 0 ||
        read.group > most_group)
      return io_error("llama::load: '", path, "' (__metadata__ '", group_key, "'): '", *text,
                      "' is no number of inputs 1..", most_group, "; the file is damaged");
  }
  return build(*c, read);
}

result<bool> is_gguf(const std::string& path) {
  char magic[4] = {};
  std::ifstream in(path, std::ios::binary);
  if (!in) return io_error("llama::load: '", path, "' cannot be opened; check the name");
  in.read(magic, sizeof magic);
  return std::string(magic, sizeof magic) == "GGUF";
}

/// The tokenizer, if it makes exactly the ids that the model has.
result<tokenizer> fitting(result<tokenizer> words, const result<config>& c, const std::string& path) {
  if (!words) return words;
  if (!c) return c.error();
  if (words->size() != c->vocab)
    return io_error("llama::load_tokenizer: '", path, "' has a tokenizer of ", words->size(),
                    " tokens and an embedding of ", c->vocab,
                    "; they must be equal: write the file again with the model's own tokenizer");
  return words;
}

}  // namespace

result<model> load(const std::string& path, quern::thread_pool& pool, const load_options& options) {
  const auto gguf = is_gguf(path);
  if (!gguf) return gguf.error();
  auto m = *gguf ? load_gguf(path, pool, options) : load_safetensors(path, options.copied);
  if (m) m->activations = options.activations;
  return m;
}

result<tokenizer> load_tokenizer(const std::string& path) {
  const auto gguf = is_gguf(path);
  if (!gguf) return gguf.error();
  if (*gguf) {
    const auto file = quern::gguf_file::open(path);
    if (!file) return file.error();
    return fitting(tokenizer::from_gguf(*file), read_config(*file), path);
  }
  const auto file = quern::safetensors_file::open(path);
  if (!file) return file.error();
  return fitting(tokenizer::from_safetensors(*file, path), read_config(*file, path), path);
}

}  // namespace llama
