// SPDX-License-Identifier: Apache-2.0
#include <llama/input.hpp>
#include <quern/kernel/cpu/prepare.hpp>

namespace llama {

template <class A>
void input::prepare_as(quern::thread_pool& pool) {
  const std::size_t need = quern::workspace_bytes<A>(floats_.rows(), floats_.cols());
  if (need > memory_.size()) memory_ = quern::buffer(need);
  quern::prepare<A>(floats_, memory_.data(), pool);
}

void input::prepare(quern::thread_pool& pool) {
  if (prepared_) return;
  prepared_ = true;
  switch (kind_) {
    case activation::f32:
      return;
    case activation::bf16:
      return prepare_as<quern::bf16>(pool);
    case activation::int8:
      return prepare_as<quern::int8_groups<32>>(pool);
    case activation::int8_token:
      return prepare_as<quern::int8_per_token>(pool);
  }
}

}  // namespace llama
