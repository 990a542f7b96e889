// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <llama/block_checkpoint.hpp>
#include <llama/hash.hpp>
#include <llama/packed.hpp>

namespace llama {
namespace {

constexpr char run_key[] = "compress.run", blocks_key[] = "compress.blocks";

std::string name_of(std::size_t layer, std::size_t i) {
  return "blk." + std::to_string(layer) + "." + block_linears[i].name;
}

/// Everything that the result depends on, so that a checkpoint of another run is refused instead of continued.
std::string fingerprint(const compress_plan& plan, const model& m, std::span<const std::int32_t> ids) {
  hash text_ids;
  text_ids.add(ids.data(), ids.size_bytes());
  const quern::compress_options& o = plan.options;
  char text[1024];
  int n = std::snprintf(
      text, sizeof text,
      "%s %s density %.17g score %d unit %d scope %d compensate %d round %d choose %d refine %d grid %d %.9g "
      "%.9g | "
      "context %zu "
      "windows %zu sink %.9g damp %.17g keep '%s' sequential %d targets %d | ids %s weights %s",
      plan.format->pattern.c_str(), plan.format->quantizer.c_str(), o.density, static_cast<int>(o.score),
      static_cast<int>(o.unit), static_cast<int>(o.over), static_cast<int>(o.compensate),
      static_cast<int>(o.round), static_cast<int>(o.choose), o.refine, o.grid.steps,
      static_cast<double>(o.grid.lowest), static_cast<double>(o.grid.highest), plan.context, plan.windows,
      static_cast<double>(plan.sink_weight), plan.damp, plan.keep_dense.c_str(), plan.sequential ? 1 : 0,
      plan.dense_targets ? 1 : 0, text_ids.text().c_str(), hash_of_first_rows(m).c_str());
  if (plan.training && n > 0 && static_cast<std::size_t>(n) < sizeof text) {
    const block_training_options& t = *plan.training;
    const quern::bqpo_options& q = t.bqpo;
    std::snprintf(
        text + n, sizeof text - static_cast<std::size_t>(n),
        " | bqpo epochs %zu batch %zu lanes %zu validation %zu patience %zu rates %.9g %.9g %.9g %.9g floor "
        "%.9g clip %.9g loss %d adamw %.9g %.9g %.9g %.9g seed %llu halves %d pull %.9g",
        q.epochs, q.batch, q.lanes, q.validation, q.patience, static_cast<double>(q.rates.weight),
        static_cast<double>(q.rates.scale), static_cast<double>(q.rates.zero),
        static_cast<double>(q.rates.row_scale), static_cast<double>(q.floor), static_cast<double>(q.clip),
        static_cast<int>(q.loss), static_cast<double>(q.adamw.beta1), static_cast<double>(q.adamw.beta2),
        static_cast<double>(q.adamw.epsilon), static_cast<double>(q.adamw.weight_decay),
        static_cast<unsigned long long>(q.seed), t.halves ? 1 : 0, static_cast<double>(t.pull));
  }
  return text;
}

}  // namespace

block_checkpoint::block_checkpoint(const compress_plan& plan, const model& m,
                                   std::span<const std::int32_t> ids)
    : path_(plan.checkpoint), run_(path_.empty() ? "" : fingerprint(plan, m, ids)) {}

quern::result<void> block_checkpoint::read() {
  const auto bad = [&](const auto&... why) {
    return quern::io_error("llama::block_checkpoint: '", path_, "' ", why...);
  };
  auto opened = quern::safetensors_file::open(path_);
  if (!opened) return opened.error();
  const auto file = std::make_shared<const quern::safetensors_file>(std::move(*opened));
  const std::string* run = file->metadata(run_key);
  if (run == nullptr) return bad("(__metadata__): has no key '", run_key, "'; it is not such a checkpoint");
  if (*run != run_)
    return bad("(__metadata__ '", run_key, "'): is of another run: ", *run, "; this one is: ", run_);
  const std::string* count = file->metadata(blocks_key);
  std::size_t blocks = 0;
  if (count == nullptr || std::sscanf(count->c_str(), "%zu", &blocks) != 1 || blocks > 100000)
    return bad("(__metadata__ '", blocks_key, "'): is missing or damaged; use another checkpoint");
  std::vector<finished> done(blocks);
  for (std::size_t layer = 0; layer < blocks; ++layer)
    for (std::size_t i = 0; i < std::size(block_linears); ++i) {
      compressed_linear l;
      l.name = name_of(layer, i), l.layer = layer;
      int kept = 0;
      const std::string* text = file->metadata("compress." + l.name);
      if (text == nullptr ||
          std::sscanf(text->c_str(), "%zu %zu %zu %lf %d", &l.rows, &l.cols, &l.bytes, &l.error, &kept) != 5)
        return bad("(__metadata__ 'compress.", l.name, "'): is missing or damaged; use another checkpoint");
      l.kept = kept != 0;
      linear w;
      if (!l.kept) {
        auto packed = read_packed(*file, l.name + ".weight", file);
        if (!packed) return packed.error();
        if (packed->raw.rows != l.rows || packed->raw.cols != l.cols)
          return bad("('", l.name, "'): is ", packed->raw.rows, " x ", packed->raw.cols, ", not ", l.rows,
                     " x ", l.cols);
        w = packed_linear(std::move(*packed));
      }
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
      char text[160];
      std::snprintf(text, sizeof text, "%zu %zu %zu %.17g %d", l.rows, l.cols, l.bytes, l.error,
                    l.kept ? 1 : 0);
      out.metadata("compress." + l.name, text);
      if (const packed_matrix* p = l.kept ? nullptr : packed_of(f.linears[i]); p != nullptr)
        p->format->save(out, l.name + ".weight", p->raw);
    }
  return out.write(path_);
}

std::string block_checkpoint::last_good() const {
  if (path_.empty()) return "no checkpoint was asked for";
  if (done_.empty()) return "no block was finished before";
  return "the last good checkpoint is '" + path_ + "' with " + std::to_string(done_.size()) + " blocks";
}

}  // namespace llama
