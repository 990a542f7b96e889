// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <llama/calibrate.hpp>
#include <llama/calibration_text.hpp>
#include <llama/catalogue.hpp>
#include <llama/hash.hpp>
#include <llama/level_db.hpp>
#include <llama/packed.hpp>
#include <llama/text_file.hpp>
#include <optional>
#include <quern/calib/layer_error.hpp>
#include <quern/io/atomic_file.hpp>
#include <quern/io/checkpoint.hpp>

namespace llama {
namespace {

using quern::error;
using quern::io_error;
using quern::result;

constexpr char plan_key[] = "quern.levels", level_key[] = "quern.level:";

std::string checksum(const packed_matrix& w) {
  hash h;
  add_streams(h, w);
  return h.text();
}

/// What block @p layer of the database depends on: its inputs come from the embedding, the norms and the blocks before.
std::string mark_of(std::size_t layer, const std::string& common) {
  hash h;
  h.add(common), h.add(layer);
  return h.text();
}

/// What all blocks depend on. Reads the whole model.
std::string common_mark(const model& m, std::span<const std::int32_t> ids, const level_plan& plan) {
  hash h;
  h.add(std::string("2"));  // of the way levels are made
  h.add(hash_of(m));
  for (const level_recipe& r : plan.recipes) {
    for (const std::string* s : {&r.name, &r.pattern, &r.quantizer}) h.add(*s);
    h.add(r.density), h.add(r.fewer);
  }
  const quern::compress_options& o = plan.options;
  h.add(static_cast<int>(o.score)), h.add(static_cast<int>(o.unit)), h.add(static_cast<int>(o.over));
  h.add(static_cast<int>(o.compensate)), h.add(static_cast<int>(o.round)), h.add(static_cast<int>(o.choose));
  h.add(o.refine), h.add(o.grid.steps), h.add(o.grid.lowest), h.add(o.grid.highest);
  h.add(plan.context), h.add(plan.windows), h.add(plan.sink_weight), h.add(plan.damp);
  h.add(ids.data(), std::min(ids.size(), plan.context * plan.windows) * sizeof(std::int32_t));
  return h.text();
}

std::string file_of(const std::string& folder, std::size_t layer) {
  return folder + "/blk." + std::to_string(layer) + ".safetensors";
}
std::string matrix_of(const linear_levels& l, const level_recipe& r) {
  return std::string(block_linears[l.index].name) + '@' + r.name;
}

/// Maps one block's file and fills the levels of its linears.
result<void> read_block(const std::string& path, const std::string& mark, const level_plan& plan,
                        std::span<linear_levels> linears) {
  auto opened = quern::safetensors_file::open(path);
  if (!opened) return opened.error();
  const auto file = std::make_shared<const quern::safetensors_file>(std::move(*opened));
  const std::string* made_for = file->metadata(plan_key);
  if (made_for == nullptr || *made_for != mark)
    return io_error(
        "llama::level_db: '", path, "' (", plan_key,
        "): was made for another model, calibration text, set of levels or version; name another folder or "
        "remove this one");
  for (linear_levels& l : linears)
    for (linear_levels::level& v : l.levels) {
      const std::string name = matrix_of(l, plan.recipes[v.recipe]);
      auto w = read_packed(*file, name, file);
      if (!w) return w.error();
      const std::string* facts = file->metadata(level_key + name);
      char sum[20] = {};
      if (w->raw.rows != l.rows || w->raw.cols != l.cols || facts == nullptr ||
          std::sscanf(facts->c_str(), "%19s %lf", sum, &v.error) != 2 || !std::isfinite(v.error))
        return io_error("llama::level_db: '", path, "' ('", name,
                        "'): its description is damaged; remove the file");
      if (checksum(*w) != sum)
        return io_error(
            "llama::level_db: '", path, "' ('", name,
            "'): the weights are not those that were written; remove the file, it will be made again");
      v.bytes = w->format->bytes(w->raw.rows, w->raw.cols, w->raw.cells).total();
      v.weight = packed_linear(std::move(*w));
    }
  return {};
}

/// Makes the levels of one block and writes its file.
result<void> write_block(const std::string& path, const std::string& mark, const level_plan& plan,
                         const block& b, const block_moments& moments, std::span<const linear_levels> linears,
                         quern::thread_pool& pool, const std::function<bool()>& made) {
  quern::safetensors_writer out;
  out.metadata(plan_key, mark);
  std::vector<packed_matrix> owners;                      // must stay until out.write()
  std::optional<result<quern::inverse_hessian>> inverse;  // of the input that the linears at hand share
  std::size_t of_input = 0;
  for (const linear_levels& l : linears) {
    const auto failed = [&](const error& e) { return error("llama::level_db: ", l.name, ": ", e.what()); };
    if (!inverse || of_input != input_of[l.index])
      inverse.emplace(quern::invert(moments.of(l.index), plan.damp, pool)), of_input = input_of[l.index];
    if (!*inverse) return failed(inverse->error());
    const quern::eigen_matrix<float> h = moments.of(l.index).matrix();
    const std::vector<float> values = values_of(b.*block_linears[l.index].weight, pool);
    const span2<const float> before(values.data(), l.rows, l.cols);
    std::vector<float> after(values.size());
    for (const linear_levels::level& v : l.levels) {
      const level_recipe& recipe = plan.recipes[v.recipe];
      quern::compress_options options = plan.options;
      options.density = static_cast<double>(v.kept) / static_cast<double>(values.size());
      const format_ops* const format = find_format(recipe.pattern, recipe.quantizer);
      auto packed = format->compress(before, **inverse, options, pool);
      if (!packed) return failed(packed.error());
      pool.parallel_for(l.rows, 16, [&](std::size_t first, std::size_t end) {
        format->unpack_rows(packed->raw, first, {after.data() + first * l.cols, end - first, l.cols});
      });
      const double lost = quern::layer_error(before, {after.data(), l.rows, l.cols}, h, pool);
      const std::string name = matrix_of(l, recipe);
      char facts[64];
      std::snprintf(facts, sizeof facts, "%s %.17g", checksum(*packed).c_str(), lost);
      out.metadata(level_key + name, facts);
      owners.push_back(std::move(*packed));
      format->save(out, name, owners.back().raw);
      if (!made()) return error("llama::level_db: stopped; the blocks that are done are kept");
    }
  }
  return out.write(path);
}

}  // namespace

std::vector<level_recipe> bit_recipes(int low, int high, const std::string& run) {
  std::vector<level_recipe> out;
  for (int bits = low; bits <= high; ++bits)
    out.push_back({std::to_string(bits), "dense", "affine<" + std::to_string(bits) + "," + run + ">"});
  return out;
}

std::vector<level_recipe> density_recipes(const std::string& pattern, double density, std::int64_t delta,
                                          int steps) {
  std::vector<level_recipe> out;
  // Level numbers as in EvoPress: higher is sparser. Searches order levels by cost, the sparsest first.
  for (int level = steps; level >= -steps; --level)
    out.push_back({std::to_string(level), pattern, "real<f32>", density, level * delta});
  return out;
}

std::vector<level_recipe> joint_recipes() {
  std::vector<level_recipe> out = bit_recipes(2, 8);
  for (level_recipe& r : bit_recipes(2, 4, "64")) out.push_back({r.name + " run 64", r.pattern, r.quantizer});
  for (const char* pattern : {"nm<2,4>", "group_nm<2,4,16>", "group_nm<3,4,16>"})
    for (level_recipe& r : bit_recipes(2, 4)) out.push_back({r.name + " " + pattern, pattern, r.quantizer});
  return out;
}

std::size_t bytes_of(const std::vector<linear_levels>& linears) {
  std::size_t sum = 0;
  for (const linear_levels& l : linears)
    for (const linear_levels::level& v : l.levels) sum += v.bytes;
  return sum;
}
std::size_t level_db::bytes() const { return bytes_of(linears_); }

result<std::vector<linear_levels>> level_db::describe(const model& m, const level_plan& plan) {
  std::vector<linear_levels> out;
  for (std::size_t layer = 0; layer < m.shape.layers; ++layer)
    for (std::size_t i = 0; i < std::size(block_linears); ++i) {
      const linear& w = m.blocks[layer].*block_linears[i].weight;
      if (!w) continue;
      linear_levels l{.name = "blk." + std::to_string(layer) + "." + block_linears[i].name,
                      .layer = layer,
                      .index = i,
                      .rows = w.rows(),
                      .cols = w.cols()};
      for (std::size_t r = 0; r < plan.recipes.size(); ++r) {
        const level_recipe& recipe = plan.recipes[r];
        const format_ops* const format = find_format(recipe.pattern, recipe.quantizer);
        if (format == nullptr)
          return error("llama::level_db: level '", recipe.name, "': ", recipe.pattern, " with ",
                       recipe.quantizer, " is not compiled into this program; see formats_*.cpp");
        const format_facts facts = find_facts(recipe.pattern, recipe.quantizer).value();
        const auto size = static_cast<double>(w.rows() * w.cols());
        std::int64_t kept = std::llround(facts.kept(w.rows(), w.cols(), 1.0));
        if (facts.free_density()) {
          const auto unit = static_cast<std::int64_t>(facts.unit_rows * facts.unit_cols);
          kept = std::llround(recipe.density * size / static_cast<double>(unit)) * unit - recipe.fewer;
          if (kept <= 0 || static_cast<double>(kept) > size) continue;
        }
        const double density = static_cast<double>(kept) / size;
        l.levels.push_back(
            {.recipe = r,
             .kept = static_cast<std::size_t>(kept),
             .bytes = facts.bytes(w.rows(), w.cols(), facts.cells_at(w.rows(), w.cols(), density)).total()});
      }
      if (l.levels.empty()) return error("llama::level_db: ", l.name, " has no level; give others");
      out.push_back(std::move(l));
    }
  return out;
}

result<level_db> level_db::make(const model& m, std::span<const std::int32_t> ids, const level_plan& asked,
                                const std::string& folder, quern::thread_pool& pool,
                                const std::function<bool(std::size_t, std::size_t)>& progress) {
  level_plan plan = asked;
  auto described = describe(m, plan);
  if (!described) return described.error();
  std::vector<linear_levels> linears = std::move(*described);
  const std::size_t n = plan.context, width = m.shape.width;
  if (const auto ok = check_calibration("llama::level_db", m.shape, ids.size(), n, plan.windows); !ok)
    return ok.error();
  if (plan.sink_weight == 0) plan.sink_weight = sink_weight_of(m, ids, n, pool);
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem) return io_error("llama::level_db: '", folder, "' cannot be made: ", problem.message());

  std::size_t done = 0, all = 0, missing = 0;
  for (const linear_levels& l : linears) all += l.levels.size();
  const std::string common = common_mark(m, ids, plan);
  for (std::size_t layer = 0; layer < m.shape.layers; ++layer) {
    const auto made = is_there(file_of(folder, layer));
    if (!made) return made.error();
    if (!*made) missing = layer + 1;
  }

  std::vector<float> stream;
  session run(m, n, pool, activation::f32);  // moments of the inputs themselves
  const auto window = [&](std::size_t i) { return span2<float>(stream.data() + i * n * width, n, width); };
  if (missing != 0) {
    // Before the first block, which can take an hour.
    if (const auto probe = quern::atomic_file::create(file_of(folder, 0)); !probe) return probe.error();
    stream.resize(plan.windows * n * width);
    for (std::size_t i = 0; i < plan.windows; ++i) run.embed(ids.subspan(i * n, n), window(i));
  }
  std::size_t first = 0;
  for (std::size_t layer = 0; layer < m.shape.layers; ++layer) {
    std::size_t end = first;
    while (end < linears.size() && linears[end].layer == layer) ++end;
    const std::span<linear_levels> mine(linears.data() + first, end - first);
    first = end;
    const std::string path = file_of(folder, layer), mark = mark_of(layer, common);
    const auto there = is_there(path);
    if (!there) return there.error();
    const bool write = !*there;
    block_moments moments(m.blocks[layer], n, plan.sink_weight);
    if (write)
      run.observe(
          [&](std::size_t l, const char* name, span2<const float> x) { moments.see(l, name, x, pool); });
    if (layer < missing)
      for (std::size_t i = 0; i < plan.windows; ++i) run.run_block(layer, window(i));
    run.observe({});
    if (!moments.problem().empty()) return error("llama::level_db: ", moments.problem());
    if (write) {
      const auto made = [&] { return !progress || progress(++done, all); };
      const auto ok = write_block(path, mark, plan, m.blocks[layer], moments, mine, pool, made);
      if (!ok) return ok.error();
    } else {
      for (const linear_levels& l : mine) done += l.levels.size();
    }
    if (const auto ok = read_block(path, mark, plan, mine); !ok) return ok.error();
  }
  return level_db(plan, std::move(linears));
}

}  // namespace llama
