// SPDX-License-Identifier: Apache-2.0
// Compiled for the widest and for the plainest CPU at several levels of optimization, and read by gates/shared_code.py:
// what a level leaves out of line differs. Everything of core, pattern, quant, format and io with a body is used once.
#include <quern/core/rng.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/pattern/select.hpp>
#include <quern/quern.hpp>
#include <string>
#include <vector>

using namespace quern;

namespace {

template <class P, class Q>
double use(span2<const float> w, span2<float> out, const bit_mask& mask, thread_pool& pool) {
  auto packed = try_pack<P, Q>(w, &mask, pool);
  if (!packed) return static_cast<double>(packed.error().what()[0]);
  matrix<P, Q> a = std::move(packed).value(), b = pack<P, Q>(w), c;
  c = b.clone();
  b = std::move(a);
  unpack(c.view(), out, pool);
  const coded_matrix<Q> codes = unpack_codes(b.view());
  const auto view = checked<P, Q>(b.view().raw(), b.bytes());
  require(view.has_value(), "share ", 1.5f, " of ", out(0, 0), P::label(), Q::label());
  multiply<isa_list<isa::scalar>>(*view, w, out, pool);
  return b.bits_per_weight() + static_cast<double>(pack<P, Q>(codes, mask).cells());
}

}  // namespace

double QUERN_SHARED_NAME(span2<const float> w, span2<float> out, std::size_t n, const std::string& path) {
  thread_pool pool(n);
  const thread_pool& constant = pool;
  rng g(constant.concurrency());
  std::vector<float> scores(n);
  for (float& s : scores) s = g.normal() + g.uniform() + static_cast<float>(g.below(n));
  const bit_mask all(n, n, true);
  bit_mask mask = select<group<16>>({scores.data(), n, 1}, n, n, 0.5).value();
  mask.set(n / 2, n / 3, flip_rate(mask, all) > 0.5);
  double sum = use<group<16>, affine<4, 16>>(w, out, mask, pool);
  sum += use<dense, affine<5, 32, f16_offset>>(w, out, all, pool);
  sum += use<nm<2, 4>, codebook<nf4, 32, bf16>>(w, out, mask, pool);
  sum += use<bsr<16, 32>, affine<3, 32, two_level>>(w, out, mask, pool);
  sum += use<group_nm<2, 4, 16>, symmetric<8, 16>>(w, out, mask, pool);
  sum += use<bitmap, real<f16>>(w, out, mask, pool);
  const auto file = safetensors_file::open(path);
  if (!file) return sum + static_cast<double>(file.error().what()[0]);
  if (const auto view = find_packed<group<16>, affine<4, 16>>(*file, path)) sum += view->bits_per_weight();
  safetensors_writer writer;
  writer.metadata(path, path);
  return sum + (writer.write(path) ? 1 : 0);
}
