// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <llama/block_checkpoint.hpp>
#include <llama/fingerprint.hpp>
#include <llama/hash.hpp>
#include <llama/packed.hpp>

namespace llama {
namespace {

constexpr char run_key[] = "compress.run", blocks_key[] = "compress.blocks";

std::string name_of(std::size_t layer, std::size_t i) {
  return "blk." + std::to_string(layer) + "." + block_linears[i].name;
}

/// Everything that the result depends on, so that a checkpoint of another run is refused instead of continued.
std::string describe_run(const compress_plan& plan, const model& m, std::span<const std::int32_t> ids) {
  const quern::compress_options& o = plan.options;
  fingerprint f;
  f.add("pattern", plan.format->pattern).add("quantizer", plan.format->quantizer);
  f.add("density", o.density).add("score", o.score).add("unit", o.unit).add("scope", o.over);
  f.add("compensate", o.compensate).add("round", o.round).add("choose", o.choose).add("refine", o.refine);
  f.add("grid", o.grid.steps).add("lowest", o.grid.lowest).add("highest", o.grid.highest);
  f.add("context", plan.context).add("windows", plan.windows).add("sink", plan.sink_weight);
  f.add("damp", plan.damp).add("keep", "'" + plan.keep_dense + "'").add("sequential", plan.sequential);
  f.add("targets", plan.dense_targets).add("ids", hash_of(ids)).add("weights", hash_of(m));
  if (plan.training) {
    const block_training_options& t = *plan.training;
    const quern::bqpo_options& q = t.bqpo;
    f.add("bqpo epochs", q.epochs).add("batch", q.batch).add("lanes", q.lanes);
    f.add("validation", q.validation).add("patience", q.patience).add("rates", q.rates);
    f.add("floor", q.floor).add("clip", q.clip).add("loss", q.loss).add("adamw", q.adamw);
    f.add("seed", q.seed).add("halves", t.halves).add("pull", t.pull);
  }
  return f.text();
}

/// What the checkpoint says of a linear, and a hash of that and of its weights: bytes that changed since, or that
/// belong to another linear of the same shape, are found.
std::string facts_of(const compressed_linear& l, const packed_matrix* w) {
  char text[160];
  std::snprintf(text, sizeof text, "%zu %zu %zu %.17g %d", l.rows, l.cols, l.bytes, l.error, l.kept ? 1 : 0);
  hash h;
  h.add(l.name), h.add(std::string(text));
  if (w != nullptr) add_streams(h, *w);
  return std::string(text) + ' ' + h.text();
}

}  // namespace

block_checkpoint::block_checkpoint(const compress_plan& plan, const model& m,
                                   std::span<const std::int32_t> ids)
    : path_(plan.checkpoint), run_(path_.empty() ? "" : describe_run(plan, m, ids)), format_(plan.format) {}

quern::result<void> block_checkpoint::read(const model& m) {
  const auto bad = [&](const auto&... why) {
    return quern::io_error("llama::block_checkpoint: '", path_, "' ", why...);
  };
  auto opened = quern::safetensors_file::open(path_);
  if (!opened) return opened.error();
  const auto file = std::make_shared<const quern::safetensors_file>(std::move(*opened));
  const std::string* run = file->metadata(run_key);
  if (run == nullptr) return bad("(__metadata__): has no key '", run_key, "'; it is not such a checkpoint");
  if (*run != run_)
    return bad("(__metadata__ '", run_key, "'): is of another run: ", difference(*run, run_),
               "; give the options, text and model it began with");
  const std::string* count = file->metadata(blocks_key);
  std::size_t blocks = 0;
  if (count == nullptr || std::sscanf(count->c_str(), "%zu", &blocks) != 1 || blocks > m.blocks.size())
    return bad("(__metadata__ '", blocks_key, "'): is not a number up to the ", m.blocks.size(),
               " blocks of the model; use another checkpoint");
  std::vector<finished> done(blocks);
  for (std::size_t layer = 0; layer < blocks; ++layer)
    for (std::size_t i = 0; i < std::size(block_linears); ++i) {
      const linear& own = m.blocks[layer].*block_linears[i].weight;
      compressed_linear l;
      l.name = name_of(layer, i), l.layer = layer;
      const auto damaged = [&](const auto&... why) {
        return bad("('", l.name, "'): ", why..., "; use another checkpoint");
      };
      int kept = 0;
      const std::string* text = file->metadata("compress." + l.name);
      if (text == nullptr ||
          std::sscanf(text->c_str(), "%zu %zu %zu %lf %d", &l.rows, &l.cols, &l.bytes, &l.error, &kept) != 5)
        return damaged("its entry in __metadata__ is missing or damaged");
      l.kept = kept != 0;
      if (l.rows != own.rows() || l.cols != own.cols())
        return damaged("is ", l.rows, " x ", l.cols, ", but ", own.rows(), " x ", own.cols(),
                       " in the model");
      if (!std::isfinite(l.error) || l.error < 0) return damaged("its error is ", l.error);
      linear w;
      if (!l.kept) {
        auto packed = read_packed(*file, l.name + ".weight", file);
        if (!packed) return packed.error();
        if (packed->format != format_)
          return damaged("its weights are ", packed->format->pattern, " ", packed->format->quantizer);
        if (packed->raw.rows != l.rows || packed->raw.cols != l.cols)
          return damaged("its weights are ", packed->raw.rows, " x ", packed->raw.cols, ", not ", l.rows,
                         " x ", l.cols);
        w = packed_linear(std::move(*packed));
      }
      const std::size_t bytes = (l.kept ? own : w).bytes();
      if (l.bytes != bytes) return damaged("it is said to take ", l.bytes, " bytes, but takes ", bytes);
      if (*text != facts_of(l, packed_of(w))) return damaged("its weights are not those that were written");
      done[layer].linears.push_back(std::move(w));
      done[layer].reports.push_back(std::move(l));
    }
  done_ = std::move(done);
  return {};
}

void block_checkpoint::restore(std::size_t layer, block& b, compress_report& report) const {
  for (std::size_t i = 0; i < std::size(block_linears); ++i)
    if (done_[layer].linears[i]) b.*block_linears[i].weight = done_[layer].linears[i];
  report.linears.insert(report.linears.end(), done_[layer].reports.begin(), done_[layer].reports.end());
  ++report.resumed;
}

quern::result<void> block_checkpoint::add(const block& b, std::size_t layer, const compress_report& report) {
  if (path_.empty()) return {};
  finished one;
  for (std::size_t i = 0; i < std::size(block_linears); ++i) {
    const linear& w = b.*block_linears[i].weight;
    const compressed_linear& l = report.linears[layer * std::size(block_linears) + i];
    one.linears.push_back(l.kept ? linear() : w);
    one.reports.push_back(l);
  }
  done_.push_back(std::move(one));
  quern::safetensors_writer out;
  out.metadata(run_key, run_);
  out.metadata(blocks_key, std::to_string(done_.size()));
  for (const finished& f : done_)
    for (std::size_t i = 0; i < f.linears.size(); ++i) {
      const compressed_linear& l = f.reports[i];
      const packed_matrix* const p = packed_of(f.linears[i]);  // null where the model's own was kept
      out.metadata("compress." + l.name, facts_of(l, p));
      if (p != nullptr) p->format->save(out, l.name + ".weight", p->raw);
    }
  return out.write(path_);
}

std::string block_checkpoint::last_good() const {
  if (path_.empty()) return "no checkpoint was asked for";
  if (done_.empty()) return "no block was finished before";
  return "the last good checkpoint is '" + path_ + "' with " + std::to_string(done_.size()) + " blocks";
}

}  // namespace llama
