// SPDX-License-Identifier: Apache-2.0
#include <llama/catalogue.hpp>
#include <llama/compress_model.hpp>
#include <llama/packed.hpp>
#include <llama/retrain_ends.hpp>
#include <llama/slorb_linear.hpp>

namespace llama {

quern::result<quern::unit_shape> shape_of_pattern(const std::string& pattern) {
  const auto facts = find_facts(pattern, "real<f32>");
  if (!facts) return facts.error();
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  return quern::unit_shape{size(facts->unit_rows), size(facts->unit_cols), size(facts->keep), size(facts->of),
                           facts->kind == quern::survivors::all};
}

quern::result<aligned<float>> one_shot_weights(const model& m, std::span<const std::int32_t> ids,
                                               const one_shot_options& options, quern::thread_pool& pool) {
  if (options.start == one_shot::magnitude) return flatten(m);
  compress_plan plan{.format = find_format(options.pattern, "real<f32>")};
  if (plan.format == nullptr)
    return quern::error("retrain: ", options.pattern,
                        " with real<f32> is not compiled into this program; "
                        "`compress --list` shows what is");
  const bool wanda = options.start == one_shot::wanda;
  plan.options = {.density = options.density,
                  .score = wanda ? quern::saliency::wanda : quern::saliency::obs_block,
                  .compensate = wanda ? quern::compensation::none : quern::compensation::obs,
                  .round = quern::rounding::rtn};
  plan.windows = options.windows, plan.context = options.context;
  model pruned = m;
  const auto report = compress_model(pruned, ids, plan, pool, {});
  if (!report) return report.error();
  return flatten(pruned);
}

model retrained_model(const retrainer& r, const config& whole, const format_ops* side_format,
                      quern::thread_pool& pool) {
  model m = model_of(whole, r.sparse());
  const auto packed = [&](span2<const float> values) {
    return packed_linear(side_format->pack(values, nullptr, pool).value());
  };
  for (std::size_t i = 0; i < r.linear_count(); ++i) {
    if (r.side(i).data() == nullptr) break;
    linear& w = m.blocks[i / std::size(block_linears)].*block_linears[i % std::size(block_linears)].weight;
    const span2<const float> x = r.projection(i);
    w = slorb_linear({.sparse = w,
                      .side = packed(r.side(i)),
                      .projection = x.data() != nullptr ? packed(x) : linear(),
                      .k = r.group()});
  }
  return m;
}

}  // namespace llama
