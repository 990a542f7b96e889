// SPDX-License-Identifier: Apache-2.0
// The layouts against the formulas of the PTX ISA, written down once more as they stand there, and the primitives
// against plain loops.
#include <doctest/doctest.h>

#include <quern/kernel/cuda/tile.hpp>

#include "simt.hpp"

using namespace quern;
using namespace quern::cuda;
using namespace quern_test;

namespace {

/// PTX ISA, matrix fragments for mma.m16n8k16 (f16, bf16) and .m16n8k32 (s8), and for mma.sp of twice the k.
place isa_half_a(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 2 || (4 <= i && i < 6) ? group : group + 8, in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
place isa_half_b(int lane, int i) {
  const int in_group = lane % 4;
  return {in_group * 2 + (i & 1) + (i >= 6 ? 24 : i >= 4 ? 16 : i >= 2 ? 8 : 0), lane >> 2};
}
place isa_byte_a(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i < 4 || (8 <= i && i < 12) ? group : group + 8, in_group * 4 + (i & 3) + (i >= 8 ? 16 : 0)};
}
place isa_byte_b(int lane, int i) {
  const int in_group = lane % 4;
  return {in_group * 4 + (i & 3) + (i >= 12 ? 48 : i >= 8 ? 32 : i >= 4 ? 16 : 0), lane >> 2};
}
place isa_c(int lane, int i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }

/// Random A [16 x K], B [K x 8] and C, distributed to 32 lanes, and what A B + C is.
template <class T, bool Sparse, int Bits, class Sum>
struct product {
  static constexpr int k = fragment<Bits>::k * (Sparse ? 2 : 1);
  registers<4> a[32] = {};
  registers<Sparse ? 4 : 2> b[32] = {};
  std::uint32_t metadata[32] = {};
  Sum c[32][4] = {}, d[32][4] = {};

  explicit product(rng& g) {
    float dense_a[16][k] = {}, kept[16][fragment<Bits>::k], dense_b[k][8], sums[16][8];
    unsigned position[16][k / 4][2] = {};
    for (auto& row : kept)
      for (float& v : row) v = number(g);
    for (auto& row : dense_b)
      for (float& v : row) v = number(g);
    for (int r = 0; r < 16; ++r)
      for (int j = 0; j < fragment<Bits>::k; ++j) {
        if (!Sparse) {
          dense_a[r][j] = kept[r][j];
          continue;
        }
        unsigned(&p)[2] = position[r][j / 2];
        if (j % 2 == 0) {
          p[0] = static_cast<unsigned>(g.below(3));
          p[1] = p[0] + 1 + static_cast<unsigned>(g.below(3 - p[0]));
        }
        dense_a[r][j / 2 * 4 + static_cast<int>(p[j % 2])] = kept[r][j];
      }
    for (auto& row : sums)
      for (float& v : row) v = number(g);
    for (int lane = 0; lane < 32; ++lane) {
      const auto put = [](std::uint32_t* words, int i, float v) {
        std::uint32_t bits;
        if constexpr (Bits == 16)
          bits = narrow<T>(v).bits;
        else
          bits = static_cast<std::uint8_t>(static_cast<std::int8_t>(v));
        words[i * Bits / 32] |= bits << i * Bits % 32;
      };
      for (int i = 0; i < 4 * 32 / Bits; ++i) {
        const place p = Bits == 16 ? isa_half_a(lane, i) : isa_byte_a(lane, i);
        put(a[lane].word, i, kept[p.row][p.col]);
      }
      for (int i = 0; i < (Sparse ? 4 : 2) * 32 / Bits; ++i) {
        const place p = Bits == 16 ? isa_half_b(lane, i) : isa_byte_b(lane, i);
        put(b[lane].word, i, dense_b[p.row][p.col]);
      }
      if (Sparse)
        for (int n = 0; n < 8; ++n) {
          const int group = lane >> 2, t = lane % 4;
          // f16: threads 0 and 1 of a group have windows 0-3 and 4-7 of both rows; bytes: thread t has eight windows
          // of one row, columns 0-31 in threads 0 and 1, columns 32-63 in threads 2 and 3.
          const int row = Bits == 16 ? group + (n >= 4 ? 8 : 0) : group + (t & 1) * 8;
          const int window = Bits == 16 ? (t & 1) * 4 + n % 4 : (t >> 1) * 8 + n;
          const unsigned* p = position[row][window];
          metadata[lane] |= (p[0] | p[1] << 2) << 4 * n;
        }
      for (int i = 0; i < 4; ++i) {
        const place p = isa_c(lane, i);
        double sum = sums[p.row][p.col];
        c[lane][i] = static_cast<Sum>(sum);
        for (int j = 0; j < k; ++j)
          sum += static_cast<double>(dense_a[p.row][j]) * static_cast<double>(dense_b[j][p.col]);
        d[lane][i] = static_cast<Sum>(sum);
      }
    }
  }
  /// Small whole numbers: every sum is exact in float and in any order.
  static float number(rng& g) { return static_cast<float>(static_cast<int>(g.below(31)) - 15); }

  template <class F>
  void check(F&& multiply) {
    simt::launch({.threads = 32, .seed = 3}, [&](simt::context& ctx) {
      const unsigned lane = ctx.thread();
      Sum mine[4];
      for (int i = 0; i < 4; ++i) mine[i] = c[lane][i];
      multiply(ctx, mine, lane);
      for (int i = 0; i < 4; ++i) c[lane][i] = mine[i];
    });
    bool equal = true;
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) equal = equal && c[lane][i] == d[lane][i];
    CHECK(equal);
  }
};

template <class T>
void check_halves(rng& g) {
  product<T, false, 16, float> p(g);
  p.check([&](simt::context& ctx, float(&d)[4], unsigned l) { mma<T>(ctx, d, p.a[l], p.b[l]); });
  product<T, true, 16, float> s(g);
  // Metadata of lanes 2 and 3 of a group is not looked at.
  for (unsigned l = 0; l < 32; ++l)
    if (l % 4 >= 2) s.metadata[l] = ~0u;
  s.check([&](simt::context& ctx, float(&d)[4], unsigned l) {
    mma_sparse<T>(ctx, d, s.a[l], s.b[l], s.metadata[l]);
  });
}

}  // namespace

TEST_CASE("fragments are those of the PTX ISA") {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 8; ++i) CHECK(fragment<16>::a(lane, i) == isa_half_a(lane, i));
    for (int i = 0; i < 8; ++i) CHECK(fragment<16>::b(lane, i) == isa_half_b(lane, i));
    for (int i = 0; i < 16; ++i) CHECK(fragment<8>::a(lane, i) == isa_byte_a(lane, i));
    for (int i = 0; i < 16; ++i) CHECK(fragment<8>::b(lane, i) == isa_byte_b(lane, i));
    for (int i = 0; i < 4; ++i) CHECK(fragment<16>::c(lane, i) == isa_c(lane, i));
  }
}

TEST_CASE("mma and mma.sp of the emulator multiply matrices") {
  rng g(1);
  for (int round = 0; round < 5; ++round) {
    check_halves<f16>(g);
    check_halves<bf16>(g);
    product<std::int8_t, false, 8, std::int32_t> p(g);
    p.check([&](simt::context& ctx, std::int32_t(&d)[4], unsigned l) { mma_bytes(ctx, d, p.a[l], p.b[l]); });
    product<std::int8_t, true, 8, std::int32_t> s(g);
    s.check([&](simt::context& ctx, std::int32_t(&d)[4], unsigned l) {
      mma_sparse_bytes(ctx, d, s.a[l], s.b[l], s.metadata[l]);
    });
  }
}

TEST_CASE("positions that do not ascend spoil their row") {
  rng g(2);
  product<f16, true, 16, float> p(g);
  p.metadata[4] = (p.metadata[4] & ~15u) | (2u | 1u << 2);  // row 1, window 0
  simt::launch({.threads = 32}, [&](simt::context& ctx) {
    const unsigned l = ctx.thread();
    float d[4] = {};
    mma_sparse<f16>(ctx, d, p.a[l], p.b[l], p.metadata[l]);
    for (int i = 0; i < 4; ++i) p.c[l][i] = d[i];
  });
  bool huge = false;
  for (unsigned l = 4; l < 8; ++l) huge = huge || p.c[l][0] > 1e5f || p.c[l][0] < -1e5f;
  CHECK(huge);
}

TEST_CASE("ldmatrix deals out the rows of its matrices") {
  for (const bool four : {false, true})
    simt::launch({.threads = 32, .shared_bytes = 512, .seed = 5}, [&](simt::context& ctx) {
      std::uint16_t* s = ctx.shared<std::uint16_t>(256);
      const unsigned l = ctx.thread();
      for (unsigned i = l; i < 256; i += 32) s[i] = static_cast<std::uint16_t>(i);
      ctx.sync();
      // Rows of matrix m in reverse, so that every lane's pointer matters.
      const std::uint16_t* row = s + l / 8 * 64 + (7 - l % 8) * 8;
      registers<4> r{};
      if (four) {
        r = load_matrices<4>(ctx, row);
      } else {
        const registers<2> two = load_matrices<2>(ctx, row);
        r.word[0] = two.word[0];
        r.word[1] = two.word[1];
      }
      for (unsigned m = 0; m < (four ? 4u : 2u); ++m) {
        const unsigned first = m * 64 + (7 - l / 4) * 8 + l % 4 * 2;
        if (r.word[m] != (first | (first + 1) << 16)) throw simt::report("register of ldmatrix");
      }
    });
}
