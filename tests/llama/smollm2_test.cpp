// SPDX-License-Identifier: Apache-2.0
// Golden values of a real model, which are not part of the project: the GGUF file comes from
// examples/data/get_smollm2.sh (or QUERN_SMOLLM2 names it), the values from ../shared/data/smollm2. Without
// both these tests say so and pass. QUERN_SMOLLM2_WINDOWS=32 scores all windows instead of 2.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <llama/calibrate.hpp>
#include <llama/load.hpp>
#include <llama/sampler.hpp>
#include <memory>
#include <quern/metric/perplexity.hpp>
#include <string>
#include <vector>

namespace {

const std::filesystem::path golden = std::filesystem::path(QUERN_SOURCE_DIR) / "../shared/data/smollm2";

/// The payload of a little-endian, C-ordered .npy file (version 1) of elements of type T.
template <class T>
std::vector<T> npy(const char* name) {
  std::ifstream in(golden / name, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  REQUIRE(bytes.size() > 10);
  const std::size_t begin =
      10u + static_cast<unsigned char>(bytes[8]) + 256u * static_cast<unsigned char>(bytes[9]);
  std::vector<T> out((bytes.size() - begin) / sizeof(T));
  std::memcpy(out.data(), bytes.data() + begin, out.size() * sizeof(T));
  return out;
}

/// The model, loaded once for all cases, as fp32 or with its own codes; null, with a message, where something is
/// missing.
template <bool Packed = false>
const llama::model* smollm2() {
  static const std::unique_ptr<llama::model> loaded = []() -> std::unique_ptr<llama::model> {
    const char* const named = std::getenv("QUERN_SMOLLM2");
    const std::filesystem::path path =
        named != nullptr ? std::filesystem::path(named)
                         : std::filesystem::path(QUERN_SOURCE_DIR) / "build/data/smollm2.gguf";
    if (!std::filesystem::exists(golden) || !std::filesystem::exists(path)) return nullptr;
    quern::thread_pool pool;
    return std::make_unique<llama::model>(llama::load(path.string(), pool, {.packed = Packed}).value());
  }();
  if (loaded == nullptr)
    MESSAGE(
        "SKIPPED: needs ../shared/data/smollm2 and build/data/smollm2.gguf (examples/data/get_smollm2.sh)");
  return loaded.get();
}

}  // namespace

TEST_CASE("SmolLM2-135M: shape, hidden states, logits and greedy text") {
  const llama::model* m = smollm2();
  if (m == nullptr) return;
  CHECK(m->shape == llama::config{.vocab = 49152,
                                  .width = 576,
                                  .layers = 30,
                                  .ffn = 1536,
                                  .heads = 9,
                                  .kv_heads = 3,
                                  .head_dim = 64,
                                  .context = 8192,
                                  .rope_base = 1e5f,
                                  .rms_epsilon = 1e-5f});
  CHECK(m->bytes() == 134515008u * 4);  // the parameters of the model card, tied head once
  quern::thread_pool pool;
  llama::session s(*m, 64, pool);
  const auto prompt = npy<std::int32_t>("prompt_ids.npy"), greedy = npy<std::int32_t>("greedy24_ids.npy");
  const auto logits = npy<float>("prompt_last_logits_f32.npy");
  const auto hidden = npy<float>("prompt_last_hidden_after_block_f32.npy");
  REQUIRE(logits.size() == 49152);
  REQUIRE(hidden.size() == 30 * 576);
  REQUIRE(greedy.size() == prompt.size() + 24);

  // The golden forward itself agrees with another implementation to 8.6e-5 in logits of size 16: two fp32
  // programs differ by some 5e-6 of the largest number per operation, and that is what is allowed per block
  // here.
  llama::aligned<float> stream(prompt.size() * 576);
  const llama::span2<float> view(stream.data(), prompt.size(), 576);
  s.embed(prompt, view);
  for (std::size_t l = 0; l < 30; ++l) {
    CAPTURE(l);
    s.run_block(l, view);
    double error = 0, size = 0;
    for (std::size_t i = 0; i < 576; ++i) {
      const double expected = static_cast<double>(hidden[l * 576 + i]);
      error = std::max(error, std::abs(static_cast<double>(view(prompt.size() - 1, i)) - expected));
      size = std::max(size, std::abs(expected));
    }
    CHECK(error <= 5e-6 * static_cast<double>(l + 1) * size);
  }

  s.rewind();
  auto state = s.extend(prompt);
  auto out = s.logits(state.rows_of(state.rows() - 1, 1));
  double worst = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(out(0, i)) - static_cast<double>(logits[i])));
  MESSAGE("largest difference of logits: " << worst);
  CHECK(worst <= 2e-3);  // the project's goal; measured 2.8e-5
  quern::rng random;
  for (std::size_t i = prompt.size(); i < greedy.size(); ++i) {
    const std::int32_t id = llama::sample({out.row(0), out.cols()}, {}, random);
    CHECK(id == greedy[i]);
    out = s.logits(s.extend(std::span(&id, 1)));
  }
}

namespace {

/// Mean negative log likelihood of WikiText-2 windows of 512 within @p bound of the golden ones.
void check_perplexity(const llama::model& m, llama::activation kind, double bound) {
  const char* const wanted = std::getenv("QUERN_SMOLLM2_WINDOWS");
  const std::size_t windows = wanted == nullptr ? 2 : std::strtoul(wanted, nullptr, 10);
  const auto short_ids = npy<std::uint16_t>("wiki_test_raw_ids_first_32768_u16.npy");
  const std::vector<std::int32_t> ids(short_ids.begin(), short_ids.end());
  const auto expected = npy<float>("wiki_test_raw_nll_ctx512.npy");  // [32 x 511]
  quern::thread_pool pool;
  llama::session s(m, 512, pool, kind);
  const auto r =
      quern::perplexity(std::span(ids), {.context = 512, .windows = windows}, [&](auto window, auto&& score) {
        s.rewind();
        const auto hidden = s.extend(window);
        for (std::size_t first = 0; first < 512; first += 64)
          score(first, s.logits(hidden.rows_of(first, 64)));
      }).value();
  double all = 0, second = 0;
  for (std::size_t w = 0; w < windows; ++w)
    for (std::size_t p = 0; p < 511; ++p) {
      const double nll = static_cast<double>(expected[w * 511 + p]);
      all += nll;
      if (p >= 256) second += nll;
    }
  MESSAGE(windows << " windows: " << r.nll << " and " << r.nll_second << " nats");
  CHECK(std::abs(r.nll - all / (511 * static_cast<double>(windows))) <= bound);
  CHECK(std::abs(r.nll_second - second / (255 * static_cast<double>(windows))) <= bound);
  if (windows == 32) {
    CHECK(std::abs(r.nll - 3.350661) <= bound);
    CHECK(std::abs(r.nll_second - 3.117357) <= bound);
  }
}

}  // namespace

TEST_CASE("SmolLM2-135M: the first position is an attention sink") {
  const llama::model* m = smollm2();
  if (m == nullptr) return;
  const auto prompt = npy<std::int32_t>("prompt_ids.npy");
  quern::thread_pool pool;
  CHECK(llama::sink_weight_of(*m, prompt, 512, pool) == 256);
}

TEST_CASE("SmolLM2-135M: perplexity of WikiText-2 windows of 512") {
  // The project's goal, for the weights as fp32 and for the codes of the file, which are the same numbers.
  if (const llama::model* m = smollm2(); m != nullptr) check_perplexity(*m, llama::activation::f32, 1e-3);
  if (const llama::model* m = smollm2<true>(); m != nullptr)
    check_perplexity(*m, llama::activation::f32, 1e-3);
}

TEST_CASE("SmolLM2-135M: perplexity with int8 activations") {
  // Not derived: a model with outlier channels is what the scale per 32 inputs is for. Measured on 2 windows .003 above
  // the golden mean (.0007 below it in their second halves); a scale per token is .055 above it.
  if (const llama::model* m = smollm2<true>(); m != nullptr)
    check_perplexity(*m, llama::activation::int8, 1e-2);
}
