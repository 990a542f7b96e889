// SPDX-License-Identifier: Apache-2.0
// Checkpoints of compress_model whose header was changed: none is taken.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <llama/block_checkpoint.hpp>
#include <nlohmann/json.hpp>

#include "scratch_folder.hpp"
#include "tiny_model.hpp"

using namespace llama;
using llama_test::random_ids;
using llama_test::random_model;

namespace {

using nlohmann::ordered_json;

compress_plan plan_of(const char* quantizer, const std::string& checkpoint) {
  compress_plan plan{.format = find_format("dense", quantizer), .context = 16, .windows = 8};
  plan.keep_dense = "blk.1.ffn_down";
  plan.sink_weight = 1;  // as compress_model finds it, which tells block_checkpoint
  plan.checkpoint = checkpoint;
  return plan;
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// The bytes of a safetensors file with another header; what follows keeps its place modulo 64.
std::string with_header(const std::string& bytes, const std::function<void(ordered_json&)>& change) {
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), 8);
  ordered_json header = ordered_json::parse(bytes.substr(8, size));
  change(header);
  std::string text = header.dump();
  while (text.size() % 64 != size % 64) text += ' ';
  const std::uint64_t now = text.size();
  return std::string(reinterpret_cast<const char*>(&now), 8) + text + bytes.substr(8 + size);
}

/// Exchanges two linears of one shape, tensors and what is said of them.
void exchange(ordered_json& header, const std::string& a, const std::string& b) {
  std::string text = header.dump();
  const auto replace = [&](const std::string& from, const std::string& to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  };
  replace(a, "?"), replace(b, a), replace("?", b);
  header = ordered_json::parse(text);
}

}  // namespace

TEST_CASE("a checkpoint that does not fit the model or says what cannot be is refused") {
  const scratch_folder folder;
  quern::thread_pool pool(1);
  const std::vector<std::int32_t> ids = random_ids(128);
  const std::string path = folder.file("blocks");
  const compress_plan plan = plan_of("affine<4,16>", path);
  const model dense = random_model(5);
  model m = dense;
  const auto report = compress_model(m, ids, plan, pool, {}).value();
  const std::string good = bytes_of(path);

  const auto read = [&](const std::string& bytes) {
    write(path, bytes);
    block_checkpoint saved(plan, dense, ids);
    const auto ok = saved.read(dense);
    CHECK(saved.blocks() == (ok ? 2 : 0));
    return ok ? std::string() : std::string(ok.error().what());
  };
  CHECK(read(good).empty());
  CHECK(read(with_header(good, [](ordered_json&) {})).empty());

  const auto refused = [&](const std::string& why, const std::string& bytes) {
    const std::string text = read(bytes);
    CAPTURE(why);
    CAPTURE(text);
    CHECK(text.find(why) != std::string::npos);
    CHECK(text.find(path) != std::string::npos);
  };
  /// Field @p at of what is said of a linear: rows, columns, bytes, error, kept.
  const auto said = [&](const std::string& name, std::size_t at, const std::string& value) {
    return with_header(good, [&](ordered_json& h) {
      std::istringstream in(h["__metadata__"]["compress." + name].get<std::string>());
      std::string out, word;
      for (std::size_t i = 0; in >> word; ++i) out += (i == 0 ? "" : " ") + (i == at ? value : word);
      h["__metadata__"]["compress." + name] = out;
    });
  };
  refused("its error is nan", said("blk.0.attn_q", 3, "nan"));
  refused("its error is inf", said("blk.0.attn_q", 3, "inf"));
  refused("its error is -", said("blk.0.attn_q", 3, "-0.5"));
  refused("bytes, but takes", said("blk.0.attn_q", 2, "-1"));
  refused("bytes, but takes", said("blk.1.ffn_down", 2, "1"));
  refused("in the model", said("blk.0.attn_k", 0, "32"));
  refused("in the model", said("blk.1.ffn_down", 1, "32"));
  refused("not those that were written", said("blk.0.attn_q", 3, "0.5"));
  refused("not those that were written", said("blk.0.attn_q", 5, "0123456789abcdef"));
  refused("missing or damaged", said("blk.0.attn_q", 1, "x"));
  for (const char* blocks : {"3", "-1", "99999", "x"})
    refused("a number up to the 2 blocks",
            with_header(good, [&](ordered_json& h) { h["__metadata__"]["compress.blocks"] = blocks; }));
  // attn_q and attn_output have one shape here.
  refused("not those that were written",
          with_header(good, [](ordered_json& h) { exchange(h, "blk.0.attn_q", "blk.0.attn_output"); }));
  refused("blk.0.ffn_up",
          with_header(good, [](ordered_json& h) { exchange(h, "blk.0.ffn_up.", "nothing."); }));
  std::string flipped = good;
  flipped[flipped.size() - 1] = static_cast<char>(flipped.back() ^ 1);
  refused("not those that were written", flipped);

  // The weights of another format under the name of this run.
  const std::string other_path = folder.file("other");
  model other = dense;
  compress_model(other, ids, plan_of("affine<3,16>", other_path), pool, {}).value();
  std::string run;
  with_header(good, [&](ordered_json& h) { run = h["__metadata__"]["compress.run"].get<std::string>(); });
  refused("its weights are dense affine<3,16>", with_header(bytes_of(other_path), [&](ordered_json& h) {
            h["__metadata__"]["compress.run"] = run;
          }));
}

TEST_CASE("a checkpoint belongs to one model and one text, whole") {
  const scratch_folder folder;
  quern::thread_pool pool(1);
  compress_plan plan = plan_of("affine<4,16>", folder.file("blocks"));
  plan.keep_dense += std::string(2000, 'x');  // of any length
  model m = random_model(5);
  compress_model(m, random_ids(128), plan, pool, {}).value();
  plan.resume = true;
  const auto problem = [&](auto&& change) {
    model other = random_model(5);
    std::vector<std::int32_t> ids = random_ids(128);
    change(other, ids);
    const auto r = compress_model(other, ids, plan, pool, {});
    return r ? std::string() : std::string(r.error().what());
  };
  CHECK(problem([](model&, auto&) {}).empty());
  const auto other_run = [&](auto&& change) {
    CHECK(problem(change).find("another run") != std::string::npos);
  };
  other_run([](model& o, auto&) { o.blocks[1].ffn_norm.back() = 0.5f; });
  other_run([](model& o, auto&) { o.output_norm.back() = 0.5f; });
  other_run([](model&, auto& ids) { ids.back() ^= 1; });
  other_run([](model& o, auto&) {
    std::vector<float> v = llama_test::values(o.blocks[1].attn_k);
    v.back() += 1;
    o.blocks[1].attn_k = dense_linear(std::move(v), o.blocks[1].attn_k.rows(), o.blocks[1].attn_k.cols());
  });
}
