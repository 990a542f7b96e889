// SPDX-License-Identifier: Apache-2.0
// The emulator must see the mistakes it is there for: each is made here, and its report is read.
#include "simt.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <quern/core/half.hpp>

namespace {

using namespace quern_test;
using quern::cuda::quad;

/// What launch throws; empty when it throws nothing.
template <class Kernel>
std::string mistake(const simt::config& c, Kernel kernel) {
  try {
    simt::launch(c, kernel);
  } catch (const simt::report& r) {
    return r.what();
  }
  return {};
}
bool says(const std::string& text, const char* part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

TEST_CASE("threads of a block exchange values through shared memory and barriers") {
  for (const unsigned n : {1u, 31u, 32u, 33u, 1024u}) {
    std::vector<unsigned> y(3 * n);
    simt::launch({.blocks = 3, .threads = n, .shared_bytes = n * 4 + 16, .seed = n}, [&](simt::context& ctx) {
      unsigned* s = ctx.shared<unsigned>(n);
      s[ctx.thread()] = ctx.thread() + 1000 * ctx.block();
      ctx.sync();
      y[ctx.block() * n + ctx.thread()] = s[n - 1 - ctx.thread()];
    });
    for (unsigned b = 0; b < 3; ++b)
      for (unsigned t = 0; t < n; ++t) REQUIRE(y[b * n + t] == n - 1 - t + 1000 * b);
  }
}

TEST_CASE("grids have three dimensions") {
  std::vector<unsigned> seen(2 * 3 * 4);
  simt::launch({.blocks = 2, .blocks_y = 3, .blocks_z = 4, .threads = 2}, [&](simt::context& ctx) {
    if (ctx.thread() == 0) ++seen[ctx.block() + ctx.blocks() * (ctx.block_y() + 3 * ctx.block_z())];
  });
  for (const unsigned n : seen) CHECK(n == 1);
}

TEST_CASE("warp operations") {
  simt::launch({.threads = 64}, [&](simt::context& ctx) {
    const unsigned lane = ctx.thread() % 32;
    const float v = static_cast<float>(ctx.thread());
    if (ctx.shuffle_xor(v, 5) != static_cast<float>(ctx.thread() ^ 5)) throw simt::report("shuffle_xor");
    if (ctx.shuffle_down(v, 3) != (lane < 29 ? v + 3 : v)) throw simt::report("shuffle_down");
    if (ctx.shuffle(v, 7) != static_cast<float>(ctx.thread() / 32 * 32 + 7)) throw simt::report("shuffle");
    if (ctx.shuffle(v, (lane + 1) % 32) != v + (lane == 31 ? -31.0f : 1.0f))
      throw simt::report("shuffle by lane");
    if (ctx.ballot(lane % 3 == 0) != 0x49249249u) throw simt::report("ballot");
    ctx.sync_warp();
    // Halves of a warp at work on different things.
    const std::uint32_t half = lane < 16 ? 0xffffu : 0xffff0000u;
    const auto sum = [](const unsigned* in, unsigned* out, std::uint32_t mask) {
      unsigned s = 0;
      for (unsigned i = 0; i < 32; ++i) s += (mask >> i & 1) != 0 ? in[i] : 0;
      for (unsigned i = 0; i < 32; ++i) out[i] = s;
    };
    for (unsigned i = 0; i < 1 + lane / 16; ++i)
      if (ctx.collective<unsigned>(half, lane, sum) != (lane < 16 ? 120u : 376u))
        throw simt::report("halves");
  });
}

TEST_CASE("copies land at the wait that covers them, as late as they may") {
  std::vector<quad> from(2 * 32);
  for (std::size_t i = 0; i < from.size(); ++i)
    for (std::uint32_t& w : from[i].word) w = static_cast<std::uint32_t>(i);
  simt::launch({.shared_bytes = 2 * 32 * 16}, [&](simt::context& ctx) {
    quad* s = ctx.shared<quad>(64);
    const unsigned t = ctx.thread();
    ctx.copy_async(s + t, &from[t], 16);
    ctx.commit_async();
    ctx.copy_async(s + 32 + t, &from[32 + t], 4);
    ctx.commit_async();
    if (s[t].word[0] != 0xffffffffu) throw simt::report("landed before the wait");
    ctx.wait_async<1>();
    if (s[t].word[0] != t || s[32 + t].word[0] != 0xffffffffu) throw simt::report("one group");
    ctx.wait_async<0>();
    if (s[32 + t].word[0] != 32 + t || s[32 + t].word[1] != 0 || s[32 + t].word[3] != 0)
      throw simt::report("the rest is zero");
  });
}

TEST_CASE("counters reset themselves and only the last one sees the end") {
  unsigned counter = 0;
  int last = 0;
  for (int repeat = 0; repeat < 2; ++repeat)
    simt::launch({.blocks = 5, .threads = 3}, [&](simt::context& ctx) {
      if (ctx.last_to_arrive(&counter, 15)) ++last;
    });
  CHECK(counter == 0);
  CHECK(last == 2);
}

TEST_CASE("a divergent barrier names both places") {
  const std::string text = mistake({}, [](simt::context& ctx) {
    if (ctx.thread() < 16)
      ctx.sync();
    else
      ctx.sync();
  });
  says(text, "divergent barrier");
  says(text, "simt_test.cpp:");
}

TEST_CASE("a barrier after threads have exited") {
  says(mistake({.threads = 64},
               [](simt::context& ctx) {
                 if (ctx.thread() < 40) ctx.sync();
               }),
       "exited");
  says(mistake({.threads = 64},
               [](simt::context& ctx) {
                 ctx.sync();
                 if (ctx.thread() == 9) return;
                 ctx.sync();
               }),
       "exited");
}

TEST_CASE("missing lanes of a warp operation are a deadlock that is named") {
  const std::string text = mistake({}, [](simt::context& ctx) {
    if (ctx.thread() < 31) ctx.shuffle_xor(1.0f, 1);
  });
  says(text, "deadlock");
  says(text, "waits for lanes in warp operation");
  says(text, "1 threads have exited");
  says(mistake({},
               [](simt::context& ctx) {
                 if (ctx.thread() < 16)
                   ctx.sync();
                 else
                   ctx.sync_warp();
               }),
       "deadlock");
}

TEST_CASE("lanes that meet in different operations") {
  says(mistake({},
               [](simt::context& ctx) {
                 if (ctx.thread() < 16)
                   ctx.ballot(true);
                 else
                   ctx.sync_warp();
               }),
       "meets lanes that wait in");
  says(mistake({},
               [](simt::context& ctx) {
                 ctx.collective<int>(0xffffu, 0, [](const int*, int*, std::uint32_t) {});
               }),
       "not in its own mask");
}

TEST_CASE("lanes that do not exist are not read") {
  says(mistake({.threads = 20}, [](simt::context& ctx) { ctx.shuffle_xor(1.0f, 16); }), "does not take part");
}

TEST_CASE("shared memory: amount, order and bounds") {
  says(mistake({.shared_bytes = 100}, [](simt::context& ctx) { ctx.shared<float>(32); }),
       "the launch has 100");
  says(mistake({.shared_bytes = 1000}, [](simt::context& ctx) { ctx.shared<float>(ctx.thread() + 1); }),
       "where another asked for");
  // What is not written is NaN, in every block.
  simt::launch({.blocks = 2, .shared_bytes = 16}, [](simt::context& ctx) {
    float* s = ctx.shared<float>(4);
    if (ctx.thread() == 0 && !std::isnan(s[1])) throw simt::report("old contents");
    ctx.sync();
    if (ctx.thread() < 4) s[ctx.thread()] = 0;
  });
}

TEST_CASE("addresses of wide accesses") {
  std::vector<quad> from(2);
  const char* bytes = reinterpret_cast<const char*>(from.data());
  says(mistake({}, [&](simt::context& ctx) { ctx.load16(bytes + 8); }), "multiple of 16");
  says(mistake({.shared_bytes = 32},
               [&](simt::context& ctx) { ctx.copy_async(ctx.shared<quad>(2), bytes + 4, 16); }),
       "multiple of 16");
  says(mistake({.shared_bytes = 32},
               [&](simt::context& ctx) { ctx.copy_async(ctx.shared<quad>(2) + 2, from.data(), 16); }),
       "of one array of shared memory");
}

TEST_CASE("an exception of the kernel reaches the caller of launch") {
  CHECK_THROWS_AS(simt::launch({.threads = 64},
                               [](simt::context& ctx) {
                                 if (ctx.thread() == 5) throw std::bad_alloc();
                                 ctx.sync();
                               }),
                  std::bad_alloc);
}

// What only a sanitizer sees at once ends its build of this program; tests/cuda/sanitizers_test.sh asks for these.
TEST_SUITE("faults") {
  TEST_CASE("a missing barrier gives wrong numbers for some order of the threads") {
    int wrong = 0;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      std::vector<float> y(64);
      simt::launch({.threads = 64, .shared_bytes = 256, .seed = seed}, [&](simt::context& ctx) {
        float* s = ctx.shared<float>(64);
        s[ctx.thread()] = static_cast<float>(ctx.thread());
        y[ctx.thread()] = s[63 - ctx.thread()];  // the barrier that belongs before this is missing
      });
      for (unsigned t = 0; t < 64; ++t) wrong += y[t] != static_cast<float>(63 - t);
    }
    CHECK(wrong > 0);
  }

  TEST_CASE("blocks that write one place") {
    float y = 0;
    simt::launch({.blocks = 2, .threads = 1},
                 [&](simt::context& ctx) { y = static_cast<float>(ctx.block()); });
    CHECK(y < 2);
  }

  TEST_CASE("a write past an array of shared memory") {
    says(mistake({.shared_bytes = 256},
                 [](simt::context& ctx) {
                   float* s = ctx.shared<float>(32);
                   ctx.shared<float>(32);
                   ctx.sync();
                   s[ctx.thread() + 1] = 1;
                 }),
         "outside of its array");
  }
}

TEST_CASE("narrow and widen") {
  CHECK(quern::cuda::widen(quern::cuda::narrow<quern::f16>(0.1f)) == quern::to_float(quern::to_f16(0.1f)));
  CHECK(quern::cuda::widen(quern::cuda::narrow<quern::bf16>(0.1f)) == quern::to_float(quern::to_bf16(0.1f)));
}

}  // namespace
