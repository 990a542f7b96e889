// SPDX-License-Identifier: Apache-2.0
#pragma once
// Contexts that make one mistake, so that tests can show that it is noticed. A kernel runs on them unchanged:
//   simt::launch<simt::early_wait>(config, [&](simt::early_wait& ctx) { kernel::run(ctx, args); });

#include "simt.hpp"

namespace quern_test::simt {

/// The barriers of the block are not there.
struct without_barriers : context {
  using context::context;
  void sync() {}
};

/// The barriers of the warp are not there.
struct without_warp_barriers : context {
  using context::context;
  void sync_warp() {}
};

/// Waits for one group of copies fewer.
struct early_wait : context {
  using context::context;
  template <int N>
  void wait_async() {
    context::wait_async<N + 1>();
  }
};

/// Lane 3 copies to the next 16 bytes, its neighbour's.
struct shifted_copy : context {
  using context::context;
  void copy_async(void* to, const void* from) {
    context::copy_async(static_cast<char*>(to) + (thread() % 32 == 3 ? 16 : 0), from);
  }
  void copy_async(void* to, const void* from, unsigned bytes) { context::copy_async(to, from, bytes); }
};

}  // namespace quern_test::simt
