// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <llama/evaluate.hpp>

namespace llama {

quern::result<quern::perplexity_result> evaluate(const model& m, std::span<const std::int32_t> ids,
                                                 const quern::perplexity_options& options,
                                                 quern::thread_pool& pool,
                                                 const std::function<void(std::size_t)>& done) {
  if (options.context < 2 || options.context > m.shape.context)
    return quern::error("perplexity: context is ", options.context, "; this model takes 2..",
                        m.shape.context);
  session s(m, options.context, pool);
  std::size_t windows = 0;
  return quern::perplexity(ids, options, [&](std::span<const std::int32_t> window, auto&& score) {
    s.rewind();
    const quern::span2<const float> hidden = s.extend(window);
    // 256 rows at a time: the logits of a whole window of a large vocabulary would be 100 MB.
    for (std::size_t first = 0; first < hidden.rows(); first += 256)
      score(first, s.logits(hidden.rows_of(first, std::min<std::size_t>(256, hidden.rows() - first))));
    if (done) done(++windows);
  });
}

generated generate(const model& m, std::span<const std::int32_t> prompt, const generate_options& options,
                   quern::thread_pool& pool) {
  using clock = std::chrono::steady_clock;
  const auto since = [](clock::time_point t) {
    return std::chrono::duration<double>(clock::now() - t).count();
  };
  quern::require(!prompt.empty(), "generate: the prompt has no tokens; give some text");
  quern::require(prompt.size() < m.shape.context && options.tokens <= m.shape.context - prompt.size(),
                 "generate: prompt (", prompt.size(), ") and new tokens (", options.tokens,
                 ") exceed the context of ", m.shape.context);
  generated out;
  if (options.tokens == 0) return out;
  session s(m, prompt.size() + options.tokens, pool);
  quern::rng random(options.seed);
  const auto draw = [&](quern::span2<const float> hidden) {
    const auto logits = s.logits(hidden.rows_of(hidden.rows() - 1, 1));
    return sample({logits.row(0), logits.cols()}, options.sample, random);
  };
  auto mark = clock::now();
  std::int32_t id = draw(s.extend(prompt));
  out.prefill_seconds = since(mark);
  mark = clock::now();
  for (;;) {
    out.ids.push_back(id);
    if (options.on_token) options.on_token(id);
    if (id == options.stop || out.ids.size() == options.tokens) break;
    id = draw(s.extend(std::span(&id, 1)));
    ++out.decoded;
  }
  out.decode_seconds = since(mark);
  return out;
}

}  // namespace llama
