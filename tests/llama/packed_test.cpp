// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <llama/load.hpp>
#include <llama/pack_linear.hpp>
#include <llama/packed.hpp>
#include <llama/train_model.hpp>
#include <quern/core/half.hpp>
#include <quern/core/rng.hpp>
#include <string>
#include <vector>

namespace {

const llama::config shape{.vocab = 256,
                          .width = 64,
                          .layers = 2,
                          .ffn = 96,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 16,
                          .context = 32};

/// Weights that bf16 holds exactly, so that what stays dense is stored in two bytes.
llama::model random_model(std::size_t& dense_values) {
  const llama::parameters layout(shape);
  std::vector<float> w(layout.size());
  quern::rng random(11);
  llama::initialise(shape, layout, random, w);
  for (float& v : w) v = quern::to_float(quern::to_bf16(v));
  const auto values = [&](const llama::tensor& t) {
    return std::vector<float>(w.begin() + static_cast<std::ptrdiff_t>(t.offset),
                              w.begin() + static_cast<std::ptrdiff_t>(t.offset + t.size()));
  };
  llama::model m;
  m.shape = shape;
  const auto& e = layout.embedding();
  m.embedding = m.head = llama::dense_linear(values(e), e.rows, e.cols);
  m.output_norm = values(layout.output_norm());
  dense_values = e.size() + shape.width;
  constexpr llama::slot slots[] = {llama::slot::attn_q,      llama::slot::attn_k,   llama::slot::attn_v,
                                   llama::slot::attn_output, llama::slot::ffn_gate, llama::slot::ffn_up,
                                   llama::slot::ffn_down};
  for (std::size_t l = 0; l < shape.layers; ++l) {
    llama::block b;
    b.attn_norm = values(layout.block(l, llama::slot::attn_norm));
    b.ffn_norm = values(layout.block(l, llama::slot::ffn_norm));
    dense_values += 2 * shape.width;
    for (std::size_t i = 0; i < std::size(slots); ++i) {
      const auto& t = layout.block(l, slots[i]);
      b.*llama::block_linears[i].weight = llama::dense_linear(values(t), t.rows, t.cols);
    }
    m.blocks.push_back(std::move(b));
  }
  return m;
}

/// Replaces a linear by its packed form and returns the bytes of that.
std::size_t pack(llama::linear& w, const llama::format_ops& format, quern::thread_pool& pool) {
  auto packed = quern_test::pack_linear(w, format, pool);
  const std::size_t bytes = format.bytes(w.rows(), w.cols(), packed.raw.cells).total();
  w = llama::packed_linear(std::move(packed));
  CHECK(w.bytes() == bytes);
  return bytes;
}

std::vector<float> logits(const llama::model& m, quern::thread_pool& pool, llama::activation kind) {
  llama::session s(m, shape.context, pool, kind);
  std::vector<float> out;
  const auto add = [&](std::vector<std::int32_t> ids) {
    const auto l = s.logits(s.extend(ids));
    out.insert(out.end(), l.data(), l.data() + l.rows() * l.cols());
  };
  add({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});  // enough for panels
  add({13});                                     // one vector: the kernels
  return out;
}

}  // namespace

TEST_CASE("a packed model: file bytes are header and streams, and the mapped file gives the same logits") {
  const auto folder = std::filesystem::temp_directory_path() / ("quern_packed_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const std::string path = (folder / "m.safetensors").string();
  quern::thread_pool pool(2);
  const auto formats = llama::all_formats();
  constexpr std::size_t linears = std::size(llama::block_linears);
  // Every format once: each model takes the next 14, a different one for every linear.
  for (std::size_t first = 0; first < formats.size(); first += shape.layers * linears) {
    std::size_t dense_values = 0, packed_bytes = 0;
    llama::model m = random_model(dense_values);
    for (std::size_t l = 0; l < shape.layers; ++l)
      for (std::size_t i = 0; i < linears; ++i)
        packed_bytes += pack(m.blocks[l].*llama::block_linears[i].weight,
                             *formats[(first + l * linears + i) % formats.size()], pool);
    CHECK(m.bytes() == packed_bytes + 4 * dense_values);
    llama::save(path, m, llama::tokenizer::bytes(), {}).value();

    std::array<unsigned char, 8> length{};
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(length.data()), 8);
    std::uint64_t header = 0;
    for (std::size_t i = 0; i < 8; ++i) header |= std::uint64_t{length[i]} << 8 * i;
    CHECK(std::filesystem::file_size(path) == 8 + header + packed_bytes + 2 * dense_values);

    const llama::model again = llama::load(path, pool).value();
    const llama::model copy = llama::load(path, pool, {.copied = true}).value();
    CHECK(again.bytes() == m.bytes());
    for (std::size_t l = 0; l < shape.layers; ++l)
      for (const auto& linear : llama::block_linears) {
        const auto* before = llama::packed_of(m.blocks[l].*linear.weight);
        const auto* after = llama::packed_of(again.blocks[l].*linear.weight);
        REQUIRE(before != nullptr);
        REQUIRE(after != nullptr);
        CHECK(after->format == before->format);
      }
    // The same bytes, the same kernels: bit for bit, and with any number of threads.
    quern::thread_pool serial(1);
    for (const auto& [name, kind] : llama::activation_names) {
      CAPTURE(std::string(name));
      const auto expected = logits(m, serial, kind);
      CHECK(logits(again, pool, kind) == expected);
      CHECK(logits(m, pool, kind) == expected);
    }
    // A copy does not need the file any more; reading the mapped one would now end the program.
    std::filesystem::resize_file(path, 0);
    CHECK(copy.bytes() == m.bytes());
    CHECK(logits(copy, pool, llama::activation::int8) == logits(m, serial, llama::activation::int8));
  }
  std::filesystem::remove_all(folder);
}
