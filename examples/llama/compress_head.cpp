// SPDX-License-Identifier: Apache-2.0
#include <llama/calibration_text.hpp>
#include <llama/compress_head.hpp>
#include <llama/packed.hpp>
#include <quern/calib/hessian.hpp>
#include <quern/calib/layer_error.hpp>
#include <quern/compress/layer.hpp>

namespace llama {

quern::result<double> compress_head(model& m, std::span<const std::int32_t> ids, const format_ops& format,
                                    const compress_plan& plan, quern::thread_pool& pool) {
  const auto failed = [](const auto&... why) { return quern::error("llama::compress_head: ", why...); };
  const std::size_t n = plan.context;
  if (const auto ok = check_calibration("llama::compress_head", m.shape, ids.size(), n, plan.windows); !ok)
    return ok.error();
  quern::hessian moments(m.shape.width);
  session run(m, n, pool, activation::f32);
  for (std::size_t i = 0; i < plan.windows; ++i) {
    run.rewind();
    if (const auto ok = moments.add(run.extend(ids.subspan(i * n, n)), {}, pool); !ok)
      return failed(ok.error().what());
  }
  const auto inverse = quern::invert(moments, plan.damp, pool);
  if (!inverse) return failed(inverse.error().what());
  const std::vector<float> before = values_of(m.head, pool);
  const span2<const float> dense(before.data(), m.head.rows(), m.head.cols());
  auto packed = format.compress(dense, *inverse, plan.options, pool);
  if (!packed) return failed(packed.error().what());
  m.head = packed_linear(std::move(*packed));
  if (m.shape.tied) m.embedding = m.head;
  const std::vector<float> after = values_of(m.head, pool);
  return quern::layer_error(dense, {after.data(), m.head.rows(), m.head.cols()}, moments.matrix(), pool);
}

}  // namespace llama
