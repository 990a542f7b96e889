// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <llama/block_checkpoint.hpp>
#include <llama/calibrate.hpp>
#include <llama/calibration_text.hpp>
#include <llama/compress_model.hpp>
#include <llama/packed.hpp>
#include <llama/slorb_linear.hpp>
#include <quern/calib/layer_error.hpp>
#include <quern/compress/dense_targets.hpp>
#include <regex>

namespace llama {
namespace {

using clock_type = std::chrono::steady_clock;
double since(clock_type::time_point start) {
  return std::chrono::duration<double>(clock_type::now() - start).count();
}

/// Compresses the linears of a block one after the other.
quern::result<void> compress_block(block& b, std::size_t layer, const block_moments& moments,
                                   const compress_plan& plan, const std::regex& keep,
                                   quern::thread_pool& pool,
                                   const std::function<bool(const compressed_linear&)>& progress,
                                   compress_report& report) {
  quern::eigen_matrix<float> h;
  std::vector<quern::inverse_hessian> inverse;  // of the current input
  for (std::size_t i = 0; i < std::size(block_linears); ++i) {
    const auto begin = clock_type::now();
    linear& w = b.*block_linears[i].weight;
    if (!w) continue;  // of a dropped half
    compressed_linear done;
    done.name = "blk." + std::to_string(layer) + "." + block_linears[i].name;
    done.layer = layer, done.rows = w.rows(), done.cols = w.cols();
    const auto failed = [&](const quern::error& e) {
      return quern::error("llama::compress_model: ", done.name, ": ", e.what());
    };
    if (i == 0 || input_of[i] != input_of[i - 1]) {
      auto factor = quern::invert(moments.of(i), plan.damp, pool);
      if (!factor) return failed(factor.error());
      h = moments.of(i).matrix();
      inverse.clear();
      inverse.push_back(std::move(*factor));
    }
    done.kept = !plan.keep_dense.empty() && std::regex_search(done.name, keep);
    if (!done.kept) {
      // Side weights are not compressed: they stay beside what becomes of their matrix.
      const slorb_weight* const side = slorb_of(w);
      const linear sparse = side != nullptr ? side->sparse : w;
      const std::vector<float> values = values_of(sparse, pool);
      span2<const float> before(values.data(), w.rows(), w.cols());
      quern::eigen_matrix<float> target;
      if (plan.dense_targets) {
        target = quern::dense_targets(before, moments.crossed(i), inverse.front(), pool);
        before = span2<const float>(target.data(), w.rows(), w.cols());
      }
      auto packed = plan.format->compress(before, inverse.front(), plan.options, pool);
      if (!packed) return failed(packed.error());
      const linear small = packed_linear(std::move(*packed));
      const std::vector<float> after = values_of(small, pool);
      w = side != nullptr ? slorb_linear({small, side->side, side->projection, side->k}) : small;
      done.error = quern::layer_error(before, {after.data(), w.rows(), w.cols()}, h, pool);
    }
    done.bytes = w.bytes();
    done.seconds = since(begin);
    report.linears.push_back(done);
    if (progress && !progress(done)) {
      report.interrupted = true;
      return {};
    }
  }
  return {};
}

}  // namespace

double compress_report::bits_per_weight() const {
  double bits = 0, weights = 0;
  for (const compressed_linear& l : linears) {
    if (l.kept) continue;
    bits += 8.0 * static_cast<double>(l.bytes);
    weights += static_cast<double>(l.rows) * static_cast<double>(l.cols);
  }
  return weights == 0 ? 0 : bits / weights;
}

double compress_report::mean_error() const {
  double sum = 0, count = 0;
  for (const compressed_linear& l : linears)
    if (!l.kept) sum += l.error, count += 1;
  return count == 0 ? 0 : sum / count;
}

quern::result<std::vector<std::int32_t>> draw_windows(std::span<const std::int32_t> ids, std::size_t context,
                                                      std::size_t windows, std::uint64_t seed) {
  const std::size_t whole = context == 0 ? 0 : ids.size() / context;
  if (whole < windows || windows == 0)
    return quern::error("llama::draw_windows: the text has ", ids.size(), " tokens, ", whole,
                        " whole windows of ", context, "; ", windows,
                        " are asked for: take a longer text or fewer windows");
  std::vector<std::int32_t> out;
  const std::vector<std::size_t> order = quern::sequence_order(seed, 0, whole);
  for (std::size_t i = 0; i < windows; ++i) {
    const auto window = ids.subspan((seed == 0 ? i : order[i]) * context, context);
    out.insert(out.end(), window.begin(), window.end());
  }
  return out;
}

quern::result<compress_report> compress_model(model& m, std::span<const std::int32_t> ids,
                                              const compress_plan& asked, quern::thread_pool& pool,
                                              const std::function<bool(const compressed_linear&)>& progress) {
  const auto start = clock_type::now();
  compress_plan plan = asked;
  const std::size_t n = plan.context, width = m.shape.width;
  if (plan.format == nullptr) return quern::error("llama::compress_model: the plan names no format");
  const bool paired = plan.dense_targets || plan.training.has_value(), sequential = plan.sequential || paired;
  for (std::size_t l = 0; (paired || !plan.checkpoint.empty()) && l < m.blocks.size(); ++l)
    if (!m.blocks[l].has_attn() || !m.blocks[l].has_ffn())
      return quern::error("llama::compress_model: a half of blk.", l,
                          " is dropped; training, dense targets and checkpoints are for whole models");
  if (const std::string side = first_slorb(m); !side.empty() && (paired || !plan.checkpoint.empty()))
    return quern::error(
        "llama::compress_model: ", side,
        " has side weights (SLoRB), which training, dense targets and checkpoints do not know; "
        "compress it without them");
  if (const auto ok = check_calibration("llama::compress_model", m.shape, ids.size(), n, plan.windows); !ok)
    return ok.error();
  if (plan.sink_weight == 0) plan.sink_weight = sink_weight_of(m, ids, n, pool);
  std::regex keep;
  try {
    keep = std::regex(plan.keep_dense);
  } catch (const std::regex_error&) {
    return quern::error("llama::compress_model: '", plan.keep_dense, "' is not a regular expression");
  }

  block_checkpoint saved(plan, m, ids.first(plan.windows * n));
  if (plan.resume)
    if (const auto ok = saved.read(m); !ok) return ok.error();

  // The hidden states between two blocks, of all windows: of the compressed model, or of the dense one where
  // calibration is not sequential; those of the dense one beside them where it sets the targets.
  aligned<float> stream(plan.windows * n * width), watched, dense, mid;
  const auto all = [&](aligned<float>& of) { return span2<float>(of.data(), of.size() / width, width); };
  const auto window = [&](aligned<float>& of, std::size_t i) { return all(of).rows_of(i * n, n); };
  // Moments and errors of the inputs themselves, not of their codes.
  session run(m, n, pool, activation::f32);
  for (std::size_t i = 0; i < plan.windows; ++i) run.embed(ids.subspan(i * n, n), window(stream, i));
  if (paired) dense = stream;
  if (plan.training && plan.training->halves) mid.resize(stream.size());

  compress_report report;
  report.tokens = plan.windows * n;
  for (std::size_t layer = 0; layer < m.shape.layers; ++layer) {
    block& b = m.blocks[layer];
    std::optional<block_runner> teacher;
    // Replaces the dense stream by the targets of this block, whose own inputs are no longer needed then.
    const auto teach = [&] {
      if (paired) teacher.emplace(m, layer, n, pool).run(all(dense), all(mid), pool);
    };
    if (layer < saved.blocks()) {
      teach();
      if (!sequential)
        for (std::size_t i = 0; i < plan.windows; ++i) run.run_block(layer, window(stream, i));
      saved.restore(layer, b, report);
    } else {
      const auto calibrate = clock_type::now();
      block_moments moments(b, n, plan.sink_weight, plan.dense_targets);
      if (sequential) watched = stream;
      aligned<float> one(plan.dense_targets ? n * width : 0);
      for (std::size_t i = 0; i < plan.windows; ++i) {
        if (plan.dense_targets) {
          run.observe(
              [&](std::size_t, const char* name, span2<const float> x) { moments.see_dense(name, x); });
          std::copy_n(window(dense, i).data(), n * width, one.data());
          run.run_block(layer, {one.data(), n, width});
        }
        run.observe(
            [&](std::size_t l, const char* name, span2<const float> x) { moments.see(l, name, x, pool); });
        run.run_block(layer, window(sequential ? watched : stream, i));
      }
      run.observe({});
      if (!moments.problem().empty()) return quern::error("llama::compress_model: ", moments.problem());
      report.calibration_seconds += since(calibrate);
      teach();
      if (const auto ok = compress_block(b, layer, moments, plan, keep, pool, progress, report); !ok)
        return ok.error();
      if (report.interrupted) return report;
      if (plan.training) {
        const auto trained =
            train_packed_block(m, layer, *teacher, {all(stream), all(mid), all(dense), n}, *plan.training,
                               pool, [&](std::size_t step, std::size_t steps, double loss) {
                                 if (plan.on_step) plan.on_step(layer, step, steps, loss);
                               });
        if (!trained)
          return quern::error("llama::compress_model: ", trained.error().what(), "; ", saved.last_good());
        report.blocks.push_back(*trained);
        if (plan.on_block) plan.on_block(layer, *trained);
      }
      if (const auto ok = saved.add(b, layer, report); !ok) return ok.error();
    }
    if (sequential)
      for (std::size_t i = 0; i < plan.windows; ++i) run.run_block(layer, window(stream, i));
  }
  report.seconds = since(start);
  return report;
}

}  // namespace llama
