// SPDX-License-Identifier: Apache-2.0
#pragma once
// auto p = quern::perplexity(ids, {.context = 512, .windows = 32}, [&](auto window, auto&& score) {
//   score(0, logits_of(window));            // rows 0 .. 510; or several calls with the rows that follow
// });
// if (p) printf("%.4f nats, perplexity %.2f\n", p->nll, std::exp(p->nll));

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/error.hpp>
#include <quern/core/span2.hpp>
#include <quern/metric/cross_entropy.hpp>
#include <span>
#include <vector>

namespace quern::inline v0 {

struct perplexity_options {
  std::size_t context = 512;  ///< tokens of one window, at least 2
  std::size_t windows = 0;    ///< how many, from the start of the text; 0 takes all that are whole
};

/// Mean negative log likelihoods in nats per token; perplexity is exp of them.
struct perplexity_result {
  double nll = 0;         ///< over the context - 1 predictions of every window
  double nll_second = 0;  ///< over those that see at least context / 2 tokens before their own position
  std::size_t tokens = 0, tokens_second = 0;  ///< how many predictions each mean is over
  std::vector<double> window_nll;             ///< [windows] the mean of each, for paired comparisons
};

inline namespace QUERN_BUILD {

/// Scores a text in non-overlapping windows of `context` tokens. Each window starts from nothing; the row of
/// logits at position p predicts token p + 1, so a window has context - 1 predictions. Those with p >=
/// context / 2 make `nll_second`, which short histories do not blur.
/// @param logits  logits(window, score) calls score(first, rows) with the logits of positions first,
///                first + 1, ... in order, in one call or several; a row for the last position is ignored
/// @returns an error if the text has fewer tokens than the windows asked for, if logits() leaves a position
/// out or
///          repeats one, or if a logit is NaN or infinite: it names window and position
template <class Logits>
result<perplexity_result> perplexity(std::span<const std::int32_t> ids, const perplexity_options& options,
                                     Logits&& logits) {
  if (options.context < 2)
    return error("quern::perplexity: context is ", options.context, "; a window needs at least 2 tokens");
  const std::size_t whole = ids.size() / options.context;
  const std::size_t windows = options.windows == 0 ? whole : options.windows;
  if (windows == 0 || windows > whole)
    return error("quern::perplexity: the text has ", ids.size(), " tokens, ", whole, " whole windows of ",
                 options.context, "; ", windows == 0 ? 1 : windows,
                 " are needed, use a longer text or fewer");
  perplexity_result out;
  double sum = 0, sum_second = 0;
  for (std::size_t w = 0; w < windows; ++w) {
    const auto window = ids.subspan(w * options.context, options.context);
    std::size_t next = 0;
    error problem;
    bool ok = true;
    double here = 0;
    const auto fail = [&](const auto&... why) {
      if (ok) problem = error("quern::perplexity: window ", w, ": ", why...);
      ok = false;
    };
    logits(window, [&](std::size_t first, span2<const float> rows) {
      if (first != next) return fail("logits start at position ", first, " where ", next, " is due");
      for (std::size_t r = 0; ok && r < rows.rows(); ++r, ++next) {
        if (next + 1 >= options.context) break;
        const std::int32_t target = window[next + 1];
        if (target < 0 || static_cast<std::size_t>(target) >= rows.cols())
          return fail("token ", target, " at position ", next + 1, " is outside the ", rows.cols(),
                      " classes");
        const double nll =
            cross_entropy(std::span<const float>(rows.row(r), rows.cols()), static_cast<std::size_t>(target));
        if (!std::isfinite(nll))
          return fail("the logits of position ", next, " hold a NaN or an infinity; the model is damaged");
        here += nll;
        if (next >= options.context / 2) {
          sum_second += nll;
          ++out.tokens_second;
        }
      }
    });
    if (ok && next + 1 < options.context) fail("logits end at position ", next, " of ", options.context - 1);
    if (!ok) return problem;
    sum += here;
    out.window_nll.push_back(here / static_cast<double>(options.context - 1));
  }
  out.tokens = windows * (options.context - 1);
  out.nll = sum / static_cast<double>(out.tokens);
  out.nll_second = out.tokens_second == 0 ? out.nll : sum_second / static_cast<double>(out.tokens_second);
  return out;
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
