// SPDX-License-Identifier: Apache-2.0
#include <llama/input.hpp>
#include <quern/kernel/cpu/prepare.hpp>

namespace llama {

template <class A>
void input::prepare_as(quern::thread_pool& pool) {
  const std::size_t need = quern::workspace_bytes<A>(floats_.rows(), floats_.cols());
  if (need > memory_.size()) memory_ = quern::buffer(need);
  quern::prepare<A>(floats_, memory_.data(), pool, done_.tables);
}

void input::prepare(const reading& what, quern::thread_pool& pool) {
  if (!what.prepared || (done_.prepared && (what.tables & ~done_.tables) == 0)) return;
  done_ = done_ | what;
  switch (kind_) {
    case activation::f32:
      return;
    case activation::int24:
      return prepare_as<quern::int24>(pool);
    case activation::bf16:
      return prepare_as<quern::bf16>(pool);
    case activation::int8:
      return prepare_as<quern::int8_groups<32>>(pool);
    case activation::int8_token:
      return prepare_as<quern::int8_per_token>(pool);
  }
}

}  // namespace llama
