// SPDX-License-Identifier: Apache-2.0
#pragma once
// What train and retrain share: windows of texts, gradients in lanes, the state of a run in a file.
// auto batch = llama::draw_batch(texts, 512, 16, random);
// auto loss = lanes.run(pool, batch.size(), [&](std::size_t thread, std::size_t i, std::span<float> gradient) {
//   return llama::batch_loss{.cross_entropy = ...};                      // adds to gradient
// });

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <llama/aligned.hpp>
#include <llama/config.hpp>
#include <llama/train_model.hpp>
#include <quern/core/error.hpp>
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/io/safetensors.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <span>
#include <string>
#include <vector>

namespace llama {

/// Token ids to learn from; sequences never cross from one text into the next.
struct training_text {
  std::vector<std::int32_t> ids;
};

/// @throws shape_error if there is no text, or one is shorter than context + 1 or has a token outside the vocabulary
void check_texts(const char* who, const std::vector<training_text>& texts, const config& c);

/// @p count windows of window + 1 tokens, drawn in proportion to the lengths of the texts, which must outlive them.
std::vector<std::span<const std::int32_t>> draw_batch(const std::vector<training_text>& texts,
                                                      std::size_t window, std::size_t count,
                                                      quern::rng& random);

/// Sums over a batch, in nats (hidden: in the units of its loss).
struct batch_loss {
  double cross_entropy = 0, divergence = 0, hidden = 0;
  batch_loss& operator+=(const batch_loss& o) {
    cross_entropy += o.cross_entropy, divergence += o.divergence, hidden += o.hidden;
    return *this;
  }
};

/// Gradient buffers to which the sequences of a batch are dealt in turn, and which are added in order: the sum
/// depends on their number, not on the number of threads. Each costs one copy of the model.
class gradient_lanes {
 public:
  gradient_lanes(std::size_t lanes, std::size_t size);
  /// Calls each(thread, i, gradient) for i below n, which adds to gradient and returns its loss. @returns the sum of
  /// the losses; the sum of the gradients is in sum().
  template <class Each>
  batch_loss run(quern::thread_pool& pool, std::size_t n, Each&& each) {
    // Lanes are taken by whichever thread is free: what a lane computes does not depend on who computes it.
    std::atomic<std::size_t> next{0};
    pool.parallel_for(pool.concurrency(), 1, [&](std::size_t thread, std::size_t) {
      for (std::size_t l = next++; l < lanes_.size(); l = next++) {
        lane& mine = lanes_[l];
        mine.loss = {};
        std::fill(mine.gradient.begin(), mine.gradient.end(), 0.0f);
        for (std::size_t i = l; i < n; i += lanes_.size())
          mine.loss += each(thread, i, std::span<float>(mine.gradient));
      }
    });
    return add(pool);
  }
  std::span<float> sum() { return lanes_[0].gradient; }

 private:
  struct lane {
    aligned<float> gradient;
    batch_loss loss;
  };
  batch_loss add(quern::thread_pool& pool);
  std::vector<lane> lanes_;
};

/// Every number of a config as one sentence, for fingerprints of runs.
std::string describe_shape(const config& c);
/// Tells texts apart (llama/hash.hpp).
std::string hash_of(const std::vector<training_text>& texts);

/// The file in which a run is kept: its fingerprint, numbers and tensors.
class run_reader {
 public:
  /// @returns io_error unless @p path is a checkpoint of the run that @p fingerprint describes
  static quern::result<run_reader> open(const std::string& who, const std::string& path,
                                        const std::string& fingerprint);
  bool has(const std::string& key) const { return file_.metadata(key) != nullptr; }
  /// The number under a key of the metadata. @returns io_error where there is none
  quern::result<std::uint64_t> number(const std::string& key) const;
  quern::result<double> real(const std::string& key) const;
  /// Fills @p out from the tensor of that name, F32 with as many values, all finite.
  quern::result<void> floats(const std::string& name, std::span<float> out) const;
  /// The bytes of a U8 tensor of that name. @returns io_error unless there are @p count
  quern::result<std::span<const std::byte>> bytes(const std::string& name, std::size_t count) const;
  template <class... Why>
  quern::io_error bad(const Why&... why) const {
    return quern::io_error(who_, ": '", path_, "' ", why...);
  }

 private:
  run_reader(quern::safetensors_file file, std::string who, std::string path)
      : file_(std::move(file)), who_(std::move(who)), path_(std::move(path)) {}
  quern::safetensors_file file_;
  std::string who_, path_;
};

/// Writes the fingerprint, step and generator of a run; its tensors are the caller's to add.
void begin_run(quern::safetensors_writer& out, const std::string& fingerprint, std::uint64_t step,
               const quern::rng& random);
/// Takes them back. @returns io_error for a step above @p steps, or a generator that stands still
quern::result<void> read_progress(const run_reader& in, std::uint64_t steps, std::uint64_t& step,
                                  quern::rng& random);

}  // namespace llama
