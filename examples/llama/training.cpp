// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>
#include <llama/training.hpp>

namespace llama {
namespace {

constexpr char run_key[] = "train.run", step_key[] = "train.step", random_key[] = "train.random.";

template <class T>
quern::result<T> parsed(const run_reader& in, const std::string* text, const std::string& key) {
  T out{};
  if (text == nullptr) return in.bad("(__metadata__): has no key '", key, "'; use another checkpoint");
  const auto end = std::from_chars(text->data(), text->data() + text->size(), out);
  if (end.ec != std::errc() || end.ptr != text->data() + text->size())
    return in.bad("(__metadata__ '", key, "'): '", *text, "' is no number; use another checkpoint");
  return out;
}

}  // namespace

void check_texts(const char* who, const std::vector<training_text>& texts, const config& c) {
  quern::require(!texts.empty(), who, ": no text to learn from");
  for (const training_text& t : texts) {
    quern::require(t.ids.size() > c.context, who, ": a text of ", t.ids.size(),
                   " tokens is shorter than one window of ", c.context + 1);
    for (std::size_t i = 0; i < t.ids.size(); ++i)
      quern::require(t.ids[i] >= 0 && static_cast<std::size_t>(t.ids[i]) < c.vocab, who, ": token ", t.ids[i],
                     " at ", i, " must be below the vocabulary of ", c.vocab);
  }
}

std::vector<std::span<const std::int32_t>> draw_batch(const std::vector<training_text>& texts,
                                                      std::size_t window, std::size_t count,
                                                      quern::rng& random) {
  std::vector<std::span<const std::int32_t>> batch;
  std::uint64_t starts = 0;
  for (const training_text& t : texts) starts += t.ids.size() - window;
  for (std::size_t i = 0; i < count; ++i) {
    std::uint64_t at = random.below(starts);
    std::size_t text = 0;
    while (at >= texts[text].ids.size() - window) at -= texts[text++].ids.size() - window;
    batch.push_back(std::span(texts[text].ids).subspan(at, window + 1));
  }
  return batch;
}

gradient_lanes::gradient_lanes(std::size_t lanes, std::size_t size) : lanes_(lanes) {
  for (lane& l : lanes_) l.gradient.resize(size);
}

batch_loss gradient_lanes::add(quern::thread_pool& pool) {
  aligned<float>& gradient = lanes_[0].gradient;
  pool.parallel_for(gradient.size(), 1 << 14, [&](std::size_t begin, std::size_t end) {
    for (std::size_t l = 1; l < lanes_.size(); ++l)
      for (std::size_t i = begin; i < end; ++i) gradient[i] += lanes_[l].gradient[i];
  });
  batch_loss loss;
  for (const lane& l : lanes_) loss += l.loss;
  return loss;
}

std::string describe_shape(const config& c) {
  fingerprint f;
  f.add("vocab", c.vocab).add("width", c.width).add("layers", c.layers).add("ffn", c.ffn);
  f.add("heads", c.heads).add("kv", c.kv_heads).add("dim", c.head_dim).add("context", c.context);
  f.add("base", c.rope_base).add("eps", c.rms_epsilon).add("tied", c.tied);
  return f.text();
}

std::string hash_of(const std::vector<training_text>& texts) {
  hash h;
  for (const training_text& t : texts) h.add(std::span(t.ids));
  return h.text();
}

quern::result<run_reader> run_reader::open(const std::string& who, const std::string& path,
                                           const std::string& fingerprint) {
  auto file = quern::safetensors_file::open(path);
  if (!file) return file.error();
  run_reader in(std::move(*file), who, path);
  const std::string* run = in.file_.metadata(run_key);
  if (run == nullptr) return in.bad("(__metadata__): has no key '", run_key, "'; it is not a checkpoint");
  if (*run != fingerprint)
    return in.bad("(__metadata__ '", run_key, "'): is of another run: ", difference(*run, fingerprint),
                  "; give the options, texts and models it began with");
  return in;
}

quern::result<std::uint64_t> run_reader::number(const std::string& key) const {
  return parsed<std::uint64_t>(*this, file_.metadata(key), key);
}
quern::result<double> run_reader::real(const std::string& key) const {
  return parsed<double>(*this, file_.metadata(key), key);
}

quern::result<void> run_reader::floats(const std::string& name, std::span<float> out) const {
  const quern::tensor_info* found = file_.find(name);
  if (found == nullptr || found->type != quern::dtype::f32 || found->bytes != out.size_bytes())
    return bad("(tensor '", name, "'): must be there as F32 with ", out.size(),
               " values; use another checkpoint");
  std::memcpy(out.data(), file_.data(*found).data(), found->bytes);
  for (const float value : out)
    if (!std::isfinite(value))
      return bad("(tensor '", name, "'): holds a NaN or an infinity; use an earlier checkpoint");
  return {};
}

quern::result<std::span<const std::byte>> run_reader::bytes(const std::string& name,
                                                            std::size_t count) const {
  const quern::tensor_info* found = file_.find(name);
  if (found == nullptr || found->type != quern::dtype::u8 || found->bytes != count)
    return bad("(tensor '", name, "'): must be there as U8 with ", count, " values; use another checkpoint");
  return file_.data(*found);
}

void begin_run(quern::safetensors_writer& out, const std::string& fingerprint, std::uint64_t step,
               const quern::rng& random) {
  out.metadata(run_key, fingerprint);
  out.metadata(step_key, std::to_string(step));
  for (std::size_t i = 0; i < 4; ++i)
    out.metadata(random_key + std::to_string(i), std::to_string(random.state[i]));
}

quern::result<void> read_progress(const run_reader& in, std::uint64_t steps, std::uint64_t& step,
                                  quern::rng& random) {
  const auto at = in.number(step_key);
  if (!at) return at.error();
  if (*at > steps)
    return in.bad("(__metadata__ '", step_key, "'): is ", *at, ", after the last step ", steps);
  quern::rng found;
  for (std::size_t i = 0; i < 4; ++i) {
    const auto state = in.number(random_key + std::to_string(i));
    if (!state) return state.error();
    found.state[i] = *state;
  }
  if (std::ranges::all_of(found.state, [](std::uint64_t w) { return w == 0; }))
    return in.bad("(__metadata__ '", random_key, "0'): the generator is all zeros, from which it never ",
                  "moves; use another checkpoint");
  step = *at;
  random = found;
  return {};
}

}  // namespace llama
