// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <llama/calibrate.hpp>
#include <llama/calibration_text.hpp>
#include <llama/catalogue.hpp>
#include <llama/order_model.hpp>
#include <llama/packed.hpp>
#include <llama/permute_model.hpp>
#include <llama/slorb_linear.hpp>
#include <optional>
#include <quern/calib/layer_error.hpp>
#include <quern/compress/order.hpp>

namespace llama {
namespace {

using quern::axis;
using scores = quern::eigen_matrix<float>;  // [items x parts]
using places = std::span<const std::size_t>;

/// What ordering asks of a block: scores of its linears, and what compressing them costs.
class measured_block {
 public:
  measured_block(const block& b, const block_moments& moments, const compress_plan& plan,
                 const quern::unit_shape& p, quern::thread_pool& pool)
      : block_(b), moments_(moments), plan_(plan), shape_(p), pool_(pool) {}
  quern::result<void> invert() {
    for (std::size_t i = 0; i < std::size(block_linears); ++i) {
      if (i != 0 && input_of[i] == input_of[i - 1]) continue;
      inverse_.emplace_back();
      if (!(block_.*block_linears[i].weight)) continue;
      auto h = quern::invert(moments_.of(i), plan_.damp);
      if (!h) return h.error();
      inverse_.back() = std::move(*h);
    }
    return {};
  }

  /// Scores of block_linears[i] for its rows or its columns, in shares of their sum. Rows are scored as the plan says:
  /// the groups of a row stay what they are. Columns come together anew, and OBS scores cannot be added up for them:
  /// of two inputs that say the same each is worth nothing beside the other, and a group that holds both is. They get
  /// w^2 H_cc, what they put out, each for itself.
  scores of(std::size_t i, axis items) const {
    const linear& w = block_.*block_linears[i].weight;
    const std::vector<float> values = values_of(w, pool_);
    const bool rows = items == axis::rows;
    scores s =
        quern::unit_scores(quern::span2<const float>(values.data(), w.rows(), w.cols()),
                           {1, rows ? shape_.cols : 1}, inverse_[input_of[i]],
                           rows ? plan_.options.score : quern::saliency::wanda, quern::aggregate::sum, pool_);
    if (!rows) {
      const auto tall = static_cast<Eigen::Index>(shape_.rows);
      scores blocks = scores::Zero(s.cols(), (s.rows() + tall - 1) / tall);
      for (Eigen::Index r = 0; r < s.rows(); ++r) blocks.col(r / tall) += s.row(r).cwiseAbs2().transpose();
      s = std::move(blocks);
    }
    if (const double sum = s.cast<double>().sum(); sum > 0) s *= static_cast<float>(1 / sum);
    return s;
  }

  /// The relative error of compressing block_linears[i] if its weights were @p w, and its inputs in @p order (empty:
  /// as they are).
  quern::result<double> error(std::size_t i, const linear& w, places order = {}) const {
    const quern::hessian moments = order.empty() ? moments_.of(i) : moments_.of(i).in_order(order);
    std::optional<quern::inverse_hessian> other;
    if (!order.empty()) {
      auto h = quern::invert(moments, plan_.damp);
      if (!h) return h.error();
      other = std::move(*h);
    }
    const std::vector<float> values = values_of(w, pool_);
    const quern::span2<const float> before(values.data(), w.rows(), w.cols());
    auto packed =
        plan_.format->compress(before, other ? *other : inverse_[input_of[i]], plan_.options, pool_);
    if (!packed) return packed.error();
    const std::vector<float> after = values_of(packed_linear(std::move(*packed)), pool_);
    return quern::layer_error(before, {after.data(), w.rows(), w.cols()}, moments.matrix(), pool_);
  }

 private:
  const block& block_;
  const block_moments& moments_;
  const compress_plan& plan_;
  quern::unit_shape shape_;
  quern::thread_pool& pool_;
  std::vector<quern::inverse_hessian> inverse_;
};

/// Places in block_linears.
enum : std::size_t { attn_q, attn_k, attn_v, attn_output, ffn_gate, ffn_up, ffn_down };

/// A search over matrices that share their items.
struct part_search {
  std::vector<scores> held;
  std::vector<axis> items;
  void add(scores s, axis which) {
    held.push_back(std::move(s));
    items.push_back(which);
  }
  quern::result<quern::unit_order> run(const quern::unit_shape& p, double density) const {
    std::vector<quern::ordered_scores> matrices;
    for (std::size_t i = 0; i < held.size(); ++i) matrices.push_back({quern::view_of(held[i]), items[i]});
    return quern::order_units(matrices, p, density);
  }
};

double share(double score, const quern::unit_order& found) {
  return found.total > 0 ? score / found.total : 0;
}

/// The orders of a block, one after the other: searched for, tried, and kept where less is lost.
struct block_order {
  model& m;
  std::size_t layer;
  const measured_block& measured;
  const quern::unit_shape& shape;
  const compress_plan& plan;
  order_report& report;
  quern::thread_pool& pool;

  /// Notes the errors of linears before and after, and keeps @p ordered where it is better: their sum is less.
  struct trial {
    std::size_t linear;
    places inputs;  // the new order of its inputs, or empty
  };
  quern::result<void> keep_better(const std::string& name, const block& ordered,
                                  std::initializer_list<trial> trials, double score_before,
                                  double score_after) {
    block& b = m.blocks[layer];
    ordered_part part{name, score_before, score_after, 0, 0, false};
    for (const trial& t : trials) {
      const auto weight = block_linears[t.linear].weight;
      const auto before = measured.error(t.linear, b.*weight);
      if (!before) return before.error();
      const auto after = measured.error(t.linear, ordered.*weight, t.inputs);
      if (!after) return after.error();
      part.error_before += *before / static_cast<double>(trials.size());
      part.error_after += *after / static_cast<double>(trials.size());
    }
    part.taken = part.error_after < part.error_before;
    if (part.taken) b = ordered;
    report.parts.push_back(part);
    return {};
  }

  quern::result<void> ffn() {
    if (!m.blocks[layer].has_ffn()) return {};
    part_search search;
    search.add(measured.of(ffn_gate, axis::rows), axis::rows);
    search.add(measured.of(ffn_up, axis::rows), axis::rows);
    search.add(measured.of(ffn_down, axis::cols), axis::cols);
    const auto found = search.run(shape, plan.options.density);
    if (!found) return found.error();
    block ordered = m.blocks[layer];
    permute_ffn(ordered, found->order, pool);
    return keep_better("blk." + std::to_string(layer) + ".ffn", ordered,
                       {{ffn_gate, {}}, {ffn_up, {}}, {ffn_down, found->order}}, share(found->before, *found),
                       share(found->after, *found));
  }

  quern::result<void> values() {
    const config& c = m.shape;
    const bool rows = c.head_dim % shape.rows == 0,
               cols = c.head_dim % std::max(shape.cols, shape.window()) == 0;
    if (!m.blocks[layer].has_attn() || !(rows || cols)) return {};
    const scores value = measured.of(attn_v, axis::rows), out = measured.of(attn_output, axis::cols);
    const auto dim = static_cast<Eigen::Index>(c.head_dim);
    std::vector<std::size_t> orders;
    double before = 0, after = 0, total = 0;
    for (std::size_t h = 0; h < c.kv_heads; ++h) {
      part_search search;
      if (rows) search.add(value.middleRows(static_cast<Eigen::Index>(h) * dim, dim), axis::rows);
      const std::size_t shared = c.heads / c.kv_heads;
      for (std::size_t q = 0; cols && q < shared; ++q)
        search.add(out.middleRows(static_cast<Eigen::Index>(h * shared + q) * dim, dim), axis::cols);
      const auto found = search.run(shape, plan.options.density);
      if (!found) return found.error();
      orders.insert(orders.end(), found->order.begin(), found->order.end());
      before += found->before, after += found->after, total += found->total;
    }
    block ordered = m.blocks[layer];
    permute_values(ordered, c, orders, pool);
    return keep_better("blk." + std::to_string(layer) + ".values", ordered,
                       {{attn_v, {}}, {attn_output, output_places(c, orders)}},
                       total > 0 ? before / total : 0, total > 0 ? after / total : 0);
  }
};

/// What all passes over a model share.
struct ordering {
  std::span<const std::int32_t> ids;
  const compress_plan& plan;
  quern::unit_shape shape;
  quern::thread_pool& pool;
  const std::function<bool(std::size_t, std::size_t)>& progress;
  std::size_t steps, done = 0;
  bool interrupted = false;

  /// Calls f(layer, what is measured of its linears) for block after block of the dense model; f may reorder them.
  template <class F>
  quern::result<void> for_blocks(const model& m, F&& f) {
    const std::size_t n = plan.context, width = m.shape.width;
    aligned<float> stream(plan.windows * n * width);
    const auto window = [&](std::size_t i) { return span2<float>(&stream[i * n * width], n, width); };
    const float sink = plan.sink_weight != 0 ? plan.sink_weight : sink_weight_of(m, ids, n, pool);
    session run(m, n, pool, activation::f32);
    for (std::size_t i = 0; i < plan.windows; ++i) run.embed(ids.subspan(i * n, n), window(i));
    for (std::size_t layer = 0; layer < m.shape.layers && !interrupted; ++layer) {
      const block& b = m.blocks[layer];
      block_moments moments(b, n, sink);
      run.observe(
          [&](std::size_t l, const char* name, span2<const float> x) { moments.see(l, name, x, pool); });
      for (std::size_t i = 0; i < plan.windows; ++i) run.run_block(layer, window(i));
      run.observe({});
      if (!moments.problem().empty()) return quern::error("llama::order_model: ", moments.problem());
      measured_block measured(b, moments, plan, shape, pool);
      quern::result<void> ok = measured.invert();
      if (ok) ok = f(layer, measured);
      if (!ok) return quern::error("llama::order_model: blk.", layer, ": ", ok.error().what());
      interrupted = progress && !progress(++done, steps);
    }
    return {};
  }

  quern::result<void> hidden(model& m, order_report& report) {
    return for_blocks(m, [&](std::size_t layer, const measured_block& measured) {
      block_order order{m, layer, measured, shape, plan, report, pool};
      const auto ok = order.ffn();
      return ok ? order.values() : ok;
    });
  }

  /// Adds the relative errors of all linears of the blocks if they were compressed as they are.
  quern::result<void> add_errors(const model& m, double& sum) {
    return for_blocks(m, [&](std::size_t layer, const measured_block& measured) {
      for (std::size_t i = 0; i < std::size(block_linears); ++i) {
        const linear& w = m.blocks[layer].*block_linears[i].weight;
        if (!w) continue;
        const auto error = measured.error(i, w);
        if (!error) return quern::result<void>(error.error());
        sum += *error;
      }
      return quern::result<void>();
    });
  }

  /// Orders the stream of @p given, then what is hidden; @p m is left as it is where that is no better.
  quern::result<void> stream(model& m, const model& given, order_report& report) {
    part_search search;
    const auto gather = [&](std::size_t layer, const measured_block& measured) -> quern::result<void> {
      for (std::size_t i = 0; i < std::size(block_linears); ++i) {
        const axis items = i == attn_output || i == ffn_down ? axis::rows : axis::cols;
        if (m.blocks[layer].*block_linears[i].weight) search.add(measured.of(i, items), items);
      }
      return {};
    };
    if (const auto ok = for_blocks(given, gather); !ok || interrupted) return ok;
    const auto found = search.run(shape, plan.options.density);
    if (!found) return found.error();
    model ordered = given;
    permute_stream(ordered, found->order, pool);
    order_report inside;
    double before = 0, after = 0;
    if (const auto ok = hidden(ordered, inside); !ok) return ok;
    if (const auto ok = add_errors(m, before); !ok) return ok;
    if (const auto ok = add_errors(ordered, after); !ok || interrupted) return ok;
    const auto linears = static_cast<double>(search.held.size());
    if (after < before) {
      m = std::move(ordered);
      report.parts = std::move(inside.parts);
    }
    report.parts.push_back({"stream", share(found->before, *found), share(found->after, *found),
                            before / linears, after / linears, after < before});
    return {};
  }
};

}  // namespace

quern::result<order_report> order_model(model& m, std::span<const std::int32_t> ids,
                                        const compress_plan& plan, reorder what, quern::thread_pool& pool,
                                        const std::function<bool(std::size_t, std::size_t)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  order_report report;
  if (what == reorder::none) return report;
  if (plan.format == nullptr) return quern::error("llama::order_model: the plan names no format");
  if (const auto ok =
          check_calibration("llama::order_model", m.shape, ids.size(), plan.context, plan.windows);
      !ok)
    return ok.error();
  for (const block& b : m.blocks)
    for (const named_linear& l : block_linears)
      if (b.*l.weight && slorb_of(b.*l.weight) != nullptr)
        return quern::error(
            "llama::order_model: ", l.name,
            " has side weights, which see sums of neighbouring inputs; order the model before it is "
            "retrained");
  if (what == reorder::all && (packed_of(m.embedding) != nullptr || packed_of(m.head) != nullptr))
    return quern::error(
        "llama::order_model: the embedding or head is packed, and its columns cannot change places without "
        "becoming fp32; order what is hidden only, or take a model with a dense embedding");
  const auto facts = find_facts(plan.format->pattern, plan.format->quantizer);
  if (!facts) return facts.error();
  const quern::unit_shape p{static_cast<std::size_t>(facts->unit_rows),
                            static_cast<std::size_t>(facts->unit_cols), static_cast<std::size_t>(facts->keep),
                            static_cast<std::size_t>(facts->of), facts->kind == quern::survivors::all};
  if (p.dense) return report;
  model given;
  if (what == reorder::all) given = m;
  ordering work{ids, plan, p, pool, progress, m.shape.layers * (what == reorder::all ? 5 : 1)};
  if (const auto ok = work.hidden(m, report); !ok) return ok.error();
  if (what == reorder::all && !work.interrupted)
    if (const auto ok = work.stream(m, given, report); !ok) return ok.error();
  report.interrupted = work.interrupted;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace llama
