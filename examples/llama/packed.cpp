// SPDX-License-Identifier: Apache-2.0
#include <llama/packed.hpp>
#include <quern/io/checkpoint.hpp>
#include <quern/io/gguf_matrix.hpp>

namespace llama {
namespace {

using quern::io_error;
using quern::result;

/// Adapts a packed matrix to llama::linear.
struct packed_weight {
  packed_matrix held;
  std::size_t rows() const { return held.raw.rows; }
  std::size_t cols() const { return held.raw.cols; }
  std::size_t bytes() const {
    return held.format->bytes(held.raw.rows, held.raw.cols, held.raw.cells).total();
  }
  reading reads(activation kind, std::size_t tokens) const { return held.format->reads(kind, tokens); }
  std::size_t pieces(const input& x) const { return held.format->pieces(held.raw, x); }
  void multiply(const input& x, span2<float> y, std::size_t begin, std::size_t end) const {
    held.format->multiply(held.raw, x, y, begin, end);
  }
  void row(std::size_t r, std::span<float> out) const {
    held.format->unpack_rows(held.raw, r, {out.data(), 1, out.size()});
  }
};

template <quern::gguf_type Type>
result<packed_matrix> pack_tensor(const quern::gguf_file& file, const quern::gguf_tensor& t,
                                  quern::thread_pool& pool) {
  using Q = typename quern::gguf_quantizer<Type>::type;
  auto m = quern::pack_gguf<Q>(file, t, pool);
  if (!m) return m.error();
  auto owner = std::make_shared<quern::matrix<quern::dense, Q>>(std::move(*m));
  return packed_matrix{find_format("dense", Q::label().c_str()), owner->view().raw(), owner};
}

}  // namespace

linear packed_linear(packed_matrix w) { return linear(packed_weight{std::move(w)}); }

const packed_matrix* packed_of(const linear& w) {
  const packed_weight* p = w.target<packed_weight>();
  return p == nullptr ? nullptr : &p->held;
}

result<packed_matrix> read_packed(const quern::safetensors_file& file, const std::string& name,
                                  std::shared_ptr<const void> owner) {
  const auto entry = quern::find_packed(file, name);
  if (!entry) return entry.error();
  const format_ops* format = find_format(entry->pattern, entry->quantizer);
  if (format == nullptr)
    return io_error("quern::checkpoint: '", file.name(), "': '", name, "' (format): ", entry->pattern, " ",
                    entry->quantizer,
                    " is not compiled into this program; add it to examples/llama/formats_*.cpp");
  if (const auto ok = format->check(entry->raw, entry->sizes); !ok)
    return io_error("quern::checkpoint: '", file.name(), "': '", name, "': ", ok.error().what());
  return packed_matrix{format, entry->raw, std::move(owner)};
}

result<packed_matrix> read_packed(const quern::gguf_file& file, const quern::gguf_tensor& t,
                                  quern::thread_pool& pool) {
  using enum quern::gguf_type;
  switch (t.type) {
    case q4_0:
      return pack_tensor<q4_0>(file, t, pool);
    case q4_1:
      return pack_tensor<q4_1>(file, t, pool);
    case q5_0:
      return pack_tensor<q5_0>(file, t, pool);
    case q5_1:
      return pack_tensor<q5_1>(file, t, pool);
    case q8_0:
      return pack_tensor<q8_0>(file, t, pool);
    default:
      return io_error("llama::read_packed: '", file.name(), "' ('", std::string(t.name), "'): type ",
                      static_cast<std::uint32_t>(t.type), " has no packed form; it is dequantized instead");
  }
}

}  // namespace llama
