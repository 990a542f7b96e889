// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cmath>
#include <llama/candidates.hpp>
#include <numeric>
#include <quern/core/rng.hpp>
#include <quern/metric/cross_entropy.hpp>

namespace llama {
namespace {

/// Rows of logits that exist at a time, of a candidate: 50 MB for a vocabulary of 49,152.
constexpr std::size_t logit_rows = 256;

bool wants_teacher(const fitness_options& o) { return o.measure == fitness_options::kind::kl; }

}  // namespace

std::size_t candidate_runner::bytes(const config& c, std::size_t tokens, const fitness_options& o) {
  const std::size_t piece = std::min(std::max(o.piece, o.context), tokens);
  std::size_t floats = (2 * c.layers + 1) * piece * c.width;  // streams
  // Two sessions: caches, scratch of a half, logits.
  floats += 2 * o.context * (2 * c.layers * c.kv_width() + c.width + 2 * c.query_width() + 2 * c.ffn);
  floats += std::min(logit_rows, o.context) * c.vocab;
  std::size_t sum = 0;
  if (wants_teacher(o) && o.top == 0)
    floats += (tokens + o.context) * c.width + (piece + std::min(logit_rows, o.context)) * c.vocab;
  if (wants_teacher(o) && o.top != 0) sum += quern::top_logits::bytes(tokens, o.top);
  return sum + floats * sizeof(float);
}

std::size_t candidate_runner::allocated() const {
  std::size_t sum = (hidden_.size() + logits_.size()) * sizeof(float);
  for (const auto& s : streams_) sum += s.size() * sizeof(float);
  for (const quern::top_logits& t : kept_) sum += quern::top_logits::bytes(t.rows, t.k);
  return sum + teacher_.bytes() + student_.bytes();
}

candidate_runner::candidate_runner(const model& dense, assembler assemble, std::vector<std::size_t> half_of,
                                   std::span<const std::int32_t> ids, const fitness_options& options,
                                   quern::thread_pool& pool)
    : dense_(dense),
      current_(dense),
      assemble_(std::move(assemble)),
      order_(half_of.size()),
      half_of_(std::move(half_of)),
      options_(options),
      pool_(&pool),
      windows_(options.context == 0 ? 0 : ids.size() / options.context),
      teacher_(dense_, options.context, pool),
      student_(current_, options.context, pool) {
  quern::require(options.context >= 2 && windows_ > 0, "llama::candidate_runner: the calibration text has ",
                 ids.size(), " tokens, less than a window of ", options.context, "; take a longer text");
  quern::require(options.top <= dense.shape.vocab, "llama::candidate_runner: ", options.top,
                 " logits of the teacher are to be kept; the vocabulary has ", dense.shape.vocab);
  ids_.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(windows_ * options.context));
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(),
                   [&](std::size_t a, std::size_t b) { return half_of_[a] < half_of_[b]; });
  options_.piece =
      std::min(std::max(options.piece, options.context) / options.context, windows_) * options.context;
  streams_.resize(2 * dense.shape.layers + 1);
  for (auto& s : streams_) s.resize(options_.piece * dense.shape.width);
  if (!wants_teacher(options_)) return;
  const std::size_t n = options.context, width = dense.shape.width;
  if (options.top == 0) {
    hidden_.resize(windows_ * n * width);
    logits_.resize(options_.piece * dense.shape.vocab);
  }
  for (std::size_t w = 0; w < windows_; ++w) {
    teacher_.rewind();
    const span2<const float> hidden = teacher_.extend(std::span(ids_).subspan(w * n, n));
    if (options.top == 0)
      std::copy_n(hidden.data(), n * width, hidden_.data() + w * n * width);
    else
      for (std::size_t r = 0; r < n; r += logit_rows) {
        const std::size_t count = std::min(logit_rows, n - r);
        kept_.push_back(quern::keep_top(teacher_.logits(hidden.rows_of(r, count)), options.top));
      }
  }
}

/// Windows by a partial shuffle; the last one is cut so that the batch has as many tokens as it was asked for.
std::vector<candidate_runner::range> candidate_runner::draw(quern::minibatch batch) const {
  const std::size_t n = options_.context, count = (batch.samples + n - 1) / n;
  quern::require(batch.samples >= 2 && count <= windows_, "llama::candidate_runner: a minibatch of ",
                 batch.samples, " tokens; the calibration text has ", windows_, " windows of ", n,
                 ": give a longer text or smaller stages");
  quern::rng random(batch.seed);
  std::vector<std::size_t> deck(windows_);
  std::iota(deck.begin(), deck.end(), std::size_t{0});
  std::vector<range> out;
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(deck[i], deck[i + random.below(windows_ - i)]);
    // A window of one token predicts nothing: the last one has two at least.
    out.push_back({deck[i], std::max<std::size_t>(2, std::min(n, batch.samples - i * n))});
  }
  return out;
}

void candidate_runner::prepare_teacher(std::span<const range> piece) {
  const std::size_t n = options_.context, width = dense_.shape.width, vocab = dense_.shape.vocab;
  std::size_t row = 0;
  for (const range& r : piece) {
    for (std::size_t first = 0; first < r.count; first += logit_rows) {
      const std::size_t count = std::min(logit_rows, r.count - first);
      const span2<const float> hidden(hidden_.data() + (r.window * n + first) * width, count, width);
      std::copy_n(teacher_.logits(hidden).data(), count * vocab, logits_.data() + (row + first) * vocab);
    }
    row += r.count;
  }
}

void candidate_runner::run_halves(std::size_t first, std::span<const range> piece) {
  const std::size_t width = dense_.shape.width;
  std::size_t rows = 0;
  for (const range& r : piece) rows += r.count;
  for (std::size_t h = first; h + 1 < streams_.size(); ++h) {
    std::copy_n(streams_[h].data(), rows * width, streams_[h + 1].data());
    std::size_t row = 0;
    for (const range& r : piece) {
      const span2<float> stream(streams_[h + 1].data() + row * width, r.count, width);
      if (h % 2 == 0)
        student_.run_attention(h / 2, stream);
      else
        student_.run_ffn(h / 2, stream);
      row += r.count;
    }
  }
  counts_.halves += streams_.size() - 1 - first;
  counts_.halves_whole += streams_.size() - 1;
}

/// The sum over the predictions of the piece.
double candidate_runner::compare(std::span<const range> piece) {
  const std::size_t width = dense_.shape.width, vocab = dense_.shape.vocab, n = options_.context;
  // Sums of a fixed number of rows, so that the result does not depend on the threads.
  constexpr std::size_t band = 16;
  double sum = 0;
  std::size_t row = 0;
  aligned<float> normed;
  for (const range& r : piece) {
    normed.resize(r.count * width);
    const span2<float> hidden(normed.data(), r.count, width);
    rmsnorm<float>({streams_.back().data() + row * width, r.count, width}, dense_.output_norm,
                   dense_.shape.rms_epsilon, hidden, {});
    for (std::size_t first = 0; first < r.count; first += logit_rows) {
      const std::size_t made = std::min(logit_rows, r.count - first);
      const span2<const float> logits = student_.logits(hidden.rows_of(first, made));
      const std::size_t count =
          std::min(made, r.count - 1 - first);  // the last position predicts nothing known
      std::vector<double> parts((count + band - 1) / band);
      pool_->parallel_for(parts.size(), 1, [&](std::size_t begin, std::size_t end) {
        for (std::size_t b = begin; b < end; ++b) {
          const std::size_t at = b * band, rows = std::min(band, count - at);
          const span2<const float> student = logits.rows_of(at, rows);
          if (options_.measure == fitness_options::kind::cross_entropy) {
            for (std::size_t i = 0; i < rows; ++i)
              parts[b] +=
                  quern::cross_entropy(std::span<const float>(student.row(i), vocab),
                                       static_cast<std::size_t>(ids_[r.window * n + first + at + i + 1]));
          } else if (options_.top != 0) {
            const std::size_t per_window = (n + logit_rows - 1) / logit_rows;
            parts[b] =
                quern::kl_divergence<float>(kept_[r.window * per_window + first / logit_rows], at, student);
          } else {
            parts[b] = quern::kl_divergence<float>({logits_.data() + (row + first + at) * vocab, rows, vocab},
                                                   student);
          }
        }
      });
      for (const double p : parts) sum += p;
    }
    row += r.count;
  }
  return sum;
}

void candidate_runner::operator()(std::span<const genome> candidates, quern::minibatch batch,
                                  std::span<double> fitness) {
  const auto start = std::chrono::steady_clock::now();
  const double linears = teacher_.linear_seconds() + student_.linear_seconds();
  const std::vector<range> ranges = draw(batch);
  std::vector<std::size_t> sorted(candidates.size());
  std::iota(sorted.begin(), sorted.end(), std::size_t{0});
  /// The place in order_ of the first unit that differs.
  const auto fork = [&](const genome& a, const genome& b) {
    std::size_t i = 0;
    while (i < order_.size() && a[order_[i]] == b[order_[i]]) ++i;
    return i;
  };
  // Ascending as words over the units from front to back: neighbours share what any two candidates share.
  std::stable_sort(sorted.begin(), sorted.end(), [&](std::size_t a, std::size_t b) {
    const std::size_t i = fork(candidates[a], candidates[b]);
    return i < order_.size() && candidates[a][order_[i]] < candidates[b][order_[i]];
  });
  std::fill_n(fitness.begin(), candidates.size(), 0.0);
  std::size_t predictions = 0;
  for (const range& r : ranges) predictions += r.count - 1;
  const std::size_t per_piece = options_.piece / options_.context;
  for (std::size_t first = 0; first < ranges.size(); first += per_piece) {
    const std::span<const range> piece(ranges.data() + first, std::min(per_piece, ranges.size() - first));
    if (!logits_.empty()) prepare_teacher(piece);
    std::size_t row = 0;
    for (const range& r : piece) {
      student_.embed(ids_of(r), {streams_[0].data() + row * dense_.shape.width, r.count, dense_.shape.width});
      row += r.count;
    }
    const genome* before = nullptr;
    for (const std::size_t c : sorted) {
      std::size_t half = 0;
      if (before != nullptr && options_.reuse) {
        const std::size_t i = fork(*before, candidates[c]);
        half = i < order_.size() ? half_of_[order_[i]] : streams_.size() - 1;
      }
      before = &candidates[c];
      assemble_(candidates[c], current_);
      run_halves(half, piece);
      fitness[c] += compare(piece);
    }
  }
  for (double& f : fitness.first(candidates.size())) f /= static_cast<double>(predictions);
  counts_.candidates += candidates.size();
  counts_.tokens += candidates.size() * batch.samples;
  counts_.linear_seconds += teacher_.linear_seconds() + student_.linear_seconds() - linears;
  counts_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace llama
