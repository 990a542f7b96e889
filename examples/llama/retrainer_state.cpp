// SPDX-License-Identifier: Apache-2.0
// The checkpoints of a retrainer.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>
#include <llama/load.hpp>
#include <llama/retrainer.hpp>
#include <quern/io/safetensors_writer.hpp>

namespace llama {
namespace {

constexpr const char* side_names[] = {"side", "side.adamw.m", "side.adamw.v"};

constexpr char best_key[] = "retrain.best", best_step_key[] = "retrain.best_step";

/// Bytes of a mask's words, in the order of its rows.
std::span<const std::byte> bytes_of(const quern::bit_mask& m) {
  return std::as_bytes(std::span(m.row(0), m.rows() * m.words()));
}

}  // namespace

std::string retrainer::fingerprint() const { return run_; }

std::string retrainer::describe() const {
  const retrain_options& o = options_;
  llama::fingerprint f;
  f.add("processes", others_.size).add("policy", o.policy).add("unit", o.rule.shape.rows);
  f.add("x", o.rule.shape.cols).add("keep", o.rule.shape.keep).add("of", o.rule.shape.of);
  f.add("density", o.rule.density).add("scope", o.rule.over).add("lambda", o.decay.final);
  f.add("ramp", o.decay.ramp).add("every", o.update_every).add("rounds", o.rounds);
  f.add("kl", o.loss.weight).add("temperature", o.loss.temperature).add("reverse", o.loss.reverse);
  f.add("top", o.top_k).add("hidden", o.hidden ? static_cast<int>(*o.hidden) : -1);
  f.add("hidden_weight", o.hidden_weight).add("slorb", o.slorb).add("projection", o.train_projection);
  f.add("parts", o.scale_parts).add("texts", hash_of(texts_)).add("start", hash_of(start_.weights));
  f.add("dense", hash_of(start_.dense));
  if (start_.teacher)
    f.add("teacher", describe_shape(start_.teacher->shape)).add("of", hash_of(start_.teacher->weights));
  if (!start_.held_out.empty()) f.add("held_out", hash_of(start_.held_out));
  return describe_shape(config_) + ' ' + describe_run(o.run) + ' ' + f.text();
}

quern::result<void> retrainer::save(const std::string& path) const {
  quern::safetensors_writer out;
  llama::describe(config_, out);
  begin_run(out, fingerprint(), step_, random_);
  if (std::isfinite(best_)) {
    char text[40];
    std::snprintf(text, sizeof text, "%.17g", best_);  // enough digits for the same bits
    out.metadata(best_key, text);
    out.metadata(best_step_key, std::to_string(best_step_));
  }
  for (const auto& [prefix, values] : {std::pair{"", &weights_}, {"adamw.m.", &m_}, {"adamw.v.", &v_}})
    for (const tensor& t : layout_.tensors())
      out.add(prefix + t.name, quern::dtype::f32, {t.rows, t.cols},
              std::as_bytes(std::span<const float>(*values).subspan(t.offset, t.size())));
  const aligned<float>* const sides[] = {&side_, &side_m_, &side_v_};
  for (std::size_t k = 0; k < 3; ++k)
    if (!side_.empty())
      out.add(side_names[k], quern::dtype::f32, {side_.size()}, std::as_bytes(std::span(*sides[k])));
  for (std::size_t i = 0; i < masks_.size(); ++i)
    for (const auto& [prefix, mask] :
         {std::pair{"mask.now.", &masks_[i].now()}, {"mask.start.", &masks_[i].start()}})
      out.add(prefix + linears_[i]->name, quern::dtype::u8, {mask->rows(), mask->words() * 8},
              bytes_of(*mask));
  return out.write(path);
}

quern::result<void> retrainer::resume(const std::string& path) {
  const auto in = run_reader::open("llama::retrainer", path, fingerprint());
  if (!in) return in.error();
  std::uint64_t step = 0;
  quern::rng random;
  if (const auto ok = read_progress(*in, options_.run.steps, step, random); !ok) return ok.error();
  double best = std::numeric_limits<double>::infinity();
  std::uint64_t best_step = 0;
  if (in->has(best_key)) {
    const auto loss = in->real(best_key);
    if (!loss) return loss.error();
    const auto at = in->number(best_step_key);
    if (!at) return at.error();
    best = *loss, best_step = *at;
  }
  // Everything is read before anything is replaced: a damaged checkpoint leaves the run as it was.
  aligned<float> read[3], side[3];
  const char* const prefixes[] = {"", "adamw.m.", "adamw.v."};
  for (std::size_t k = 0; k < 3; ++k) {
    read[k].resize(layout_.size());
    for (const tensor& t : layout_.tensors())
      if (const auto ok =
              in->floats(prefixes[k] + t.name, std::span<float>(read[k]).subspan(t.offset, t.size()));
          !ok)
        return ok.error();
  }
  for (std::size_t k = 0; k < 3 && !side_.empty(); ++k) {
    side[k].resize(side_.size());
    if (const auto ok = in->floats(side_names[k], side[k]); !ok) return ok.error();
  }
  std::vector<quern::learned_mask> masks;
  for (std::size_t i = 0; i < masks_.size(); ++i) {
    const tensor& t = *linears_[i];
    quern::bit_mask found[2] = {quern::bit_mask(t.rows, t.cols), quern::bit_mask(t.rows, t.cols)};
    for (std::size_t k = 0; k < 2; ++k) {
      const std::string name = (k == 0 ? "mask.now." : "mask.start.") + t.name;
      const auto bytes = in->bytes(name, bytes_of(found[k]).size());
      if (!bytes) return bytes.error();
      std::memcpy(found[k].row(0), bytes->data(), bytes->size());
      if (t.cols % 64 != 0)
        for (std::size_t r = 0; r < t.rows; ++r)
          if (found[k].row(r)[found[k].words() - 1] >> t.cols % 64 != 0)
            return in->bad("(tensor '", name, "'): row ", r,
                           " has bits after the last column; use another checkpoint");
    }
    masks.emplace_back(std::move(found[0]), std::move(found[1]));
  }
  weights_ = std::move(read[0]), m_ = std::move(read[1]), v_ = std::move(read[2]);
  side_ = std::move(side[0]), side_m_ = std::move(side[1]), side_v_ = std::move(side[2]);
  masks_ = std::move(masks);
  step_ = step, best_ = best, best_step_ = best_step;
  random_ = random;
  return {};
}

}  // namespace llama
