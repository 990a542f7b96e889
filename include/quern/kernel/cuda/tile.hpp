// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::cuda::load_matrices<4>(ctx, b, row);          // ldmatrix.x4: this lane's row is 16 bytes of shared memory
// quern::cuda::mma<quern::f16>(ctx, d, a, {b[0], b[1]});   // d += A B, fragments as fragment.hpp says

#include <quern/kernel/cuda/context.hpp>
#include <quern/kernel/cuda/fragment.hpp>
#include <type_traits>
#include <utility>

namespace quern::inline v0 {
namespace cuda {

/// Registers of one lane.
template <int N>
struct registers {
  std::uint32_t word[N];
};

/// f(0), f(1), .. f(N - 1), each with a constant: loops whose indices must be known when compiling, so that arrays of
/// registers stay in registers and addresses become offsets.
template <int N, class F>
QUERN_HD inline void repeat(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) { (f(std::integral_constant<int, I>{}), ...); }
  (std::make_integer_sequence<int, N>{});
}

namespace emulation {

/// What a lane brings to a multiplication.
template <int A, int B, class C>
struct operands {
  std::uint32_t a[A], b[B], metadata;
  C c[4];
};
/// What a lane brings to ldmatrix.
struct row_pointer {
  const void* row;
};
template <class C>
struct sums {
  C value[4];
};

/// Element @p i of registers that hold 32 / Bits elements each.
template <int Bits>
constexpr std::uint32_t element(const std::uint32_t* words, int i) {
  constexpr int per = fragment<Bits>::per_register;
  return words[i / per] >> i % per * Bits & (Bits == 16 ? 0xffffu : 0xffu);
}
template <class T>
constexpr float value_of(std::uint32_t bits) {
  return to_float(T{static_cast<std::uint16_t>(bits)});
}
template <>
constexpr float value_of<std::int8_t>(std::uint32_t bits) {
  return static_cast<float>(static_cast<std::int8_t>(bits));
}

/// d = A B + c on the fragments of 32 lanes, as the PTX ISA defines them. Products are summed in the order of k;
/// the order of a tensor core is not documented.
template <class T, bool Sparse, int Bits, class In, class C>
void multiply(const In* in, sums<C>* out) {
  using f = fragment<Bits>;
  constexpr int k = Sparse ? 2 * f::k : f::k;
  C a[16][k] = {}, b[k][8] = {};
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < f::b_count(Sparse); ++i) {
      const place p = f::b(lane, i);
      b[p.row][p.col] = static_cast<C>(value_of<T>(element<Bits>(in[lane].b, i)));
    }
    if constexpr (!Sparse)
      for (int i = 0; i < f::a_count; ++i) {
        const place p = f::a(lane, i);
        a[p.row][p.col] = static_cast<C>(value_of<T>(element<Bits>(in[lane].a, i)));
      }
  }
  if constexpr (Sparse) {
    C kept[16][f::k] = {};
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < f::a_count; ++i) {
        const place p = f::a(lane, i);
        kept[p.row][p.col] = static_cast<C>(value_of<T>(element<Bits>(in[lane].a, i)));
      }
    for (int lane = 0; lane < 32; ++lane)
      for (int n = 0; n < 8; ++n) {
        const place w = f::metadata(lane, n);
        if (w == place{}) continue;
        const std::uint32_t nibble = in[lane].metadata >> 4 * n & 15;
        // Positions that do not ascend are undefined: a huge element shows in every sum of the row.
        const bool valid = (nibble & 3) < nibble >> 2;
        for (int i = 0; i < 2; ++i)
          a[w.row][w.col * 4 + static_cast<int>(nibble >> 2 * i & 3)] =
              valid ? kept[w.row][w.col * 2 + i] : static_cast<C>(1 << 20);
      }
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < f::c_count; ++i) {
      const place p = f::c(lane, i);
      C sum = in[lane].c[i];
      for (int j = 0; j < k; ++j) sum += a[p.row][j] * b[j][p.col];
      out[lane].value[i] = sum;
    }
}

/// The collective that stands for one mma instruction: every lane brings its fragments and takes its sums.
template <class T, bool Sparse, int Bits, class Ctx, class C, int A, int B>
void mma(Ctx& ctx, C (&d)[4], const registers<A>& a, const registers<B>& b, std::uint32_t metadata) {
  operands<A, B, C> mine{};
  for (int i = 0; i < A; ++i) mine.a[i] = a.word[i];
  for (int i = 0; i < B; ++i) mine.b[i] = b.word[i];
  for (int i = 0; i < 4; ++i) mine.c[i] = d[i];
  mine.metadata = metadata;
  const sums<C> s = ctx.template collective<sums<C>>(
      0xffffffffu, mine,
      [](const operands<A, B, C>* in, sums<C>* out, std::uint32_t) { multiply<T, Sparse, Bits>(in, out); });
  for (int i = 0; i < 4; ++i) d[i] = s.value[i];
}

}  // namespace emulation

/// Eight by eight matrices of 16-bit elements from shared memory, N = 2 or 4: lane l points at row l % 8 of matrix
/// l / 8 (16 bytes, at a 16-byte boundary; lanes past 8 N - 1 at anything valid); register m gets its part of
/// matrix m (loaded_matrix).
template <int N, context Ctx>
QUERN_HD inline registers<N> load_matrices(Ctx& ctx, const void* row) {
  static_assert(N == 2 || N == 4, "quern::cuda::load_matrices: N must be 2 or 4");
  registers<N> out;
  if constexpr (Ctx::emulated) {
    out = ctx.template collective<registers<N>>(
        0xffffffffu, emulation::row_pointer{row},
        [](const emulation::row_pointer* in, registers<N>* result, std::uint32_t) {
          for (int lane = 0; lane < 32; ++lane)
            for (int m = 0; m < N; ++m) {
              const place p = loaded_matrix::at(lane, 0);
              __builtin_memcpy(&result[lane].word[m],
                               static_cast<const char*>(in[8 * m + p.row].row) + 2 * p.col, 4);
            }
        });
  } else {
#if defined(__CUDA_ARCH__)
    const std::uint32_t at = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    if constexpr (N == 4)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(out.word[0]), "=r"(out.word[1]), "=r"(out.word[2]), "=r"(out.word[3])
                   : "r"(at)
                   : "memory");
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                   : "=r"(out.word[0]), "=r"(out.word[1])
                   : "r"(at)
                   : "memory");
#endif
  }
  return out;
}

/// d += A B, A [16 x 16] and B [16 x 8] of f16 or bf16, sums in float. Needs sm_80.
template <class T, context Ctx>
QUERN_HD inline void mma(Ctx& ctx, float (&d)[4], const registers<4>& a, const registers<2>& b) {
  if constexpr (Ctx::emulated) {
    emulation::mma<T, false, 16>(ctx, d, a, b, 0);
  } else {
#if defined(__CUDA_ARCH__)
    if constexpr (std::same_as<T, f16>)
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, "
          "%2, %3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
    else
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, "
          "%1, %2, %3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
#endif
  }
}

/// d += A B with 2:4 sparse A [16 x 32], of which a holds the kept elements and metadata their positions
/// (fragment<16>::metadata, selector 0), B [32 x 8]. Needs sm_80 and PTX 8.5.
template <class T, context Ctx>
QUERN_HD inline void mma_sparse(Ctx& ctx, float (&d)[4], const registers<4>& a, const registers<4>& b,
                                std::uint32_t metadata) {
  if constexpr (Ctx::emulated) {
    emulation::mma<T, true, 16>(ctx, d, a, b, metadata);
  } else {
#if defined(__CUDA_ARCH__)
    if constexpr (std::same_as<T, f16>)
      asm volatile(
          "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, "
          "%6, "
          "%7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x0;"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]),
            "r"(b.word[2]), "r"(b.word[3]), "r"(metadata));
    else
      asm volatile(
          "mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, "
          "%5, %6, "
          "%7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x0;"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]),
            "r"(b.word[2]), "r"(b.word[3]), "r"(metadata));
#endif
  }
}

/// d += A B of signed bytes, A [16 x 32], B [32 x 8], exact sums. Needs sm_80.
template <context Ctx>
QUERN_HD inline void mma_bytes(Ctx& ctx, std::int32_t (&d)[4], const registers<4>& a, const registers<2>& b) {
  if constexpr (Ctx::emulated) {
    emulation::mma<std::int8_t, false, 8>(ctx, d, a, b, 0);
  } else {
#if defined(__CUDA_ARCH__)
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
        "%1, %2, "
        "%3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]));
#endif
  }
}

/// mma_sparse for signed bytes: A [16 x 64], B [64 x 8], metadata of all four lanes (fragment<8>::metadata).
template <context Ctx>
QUERN_HD inline void mma_sparse_bytes(Ctx& ctx, std::int32_t (&d)[4], const registers<4>& a,
                                      const registers<4>& b, std::uint32_t metadata) {
  if constexpr (Ctx::emulated) {
    emulation::mma<std::int8_t, true, 8>(ctx, d, a, b, metadata);
  } else {
#if defined(__CUDA_ARCH__)
    asm volatile(
        "mma.sp::ordered_metadata.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, "
        "%7}, "
        "{%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0x0;"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]),
          "r"(b.word[2]), "r"(b.word[3]), "r"(metadata));
#endif
  }
}

/// A pair of T (lower half first) as a word; exact for the whole numbers that decoding produces.
template <class T>
QUERN_HD inline std::uint32_t pair_of(float low, float high) {
  return static_cast<std::uint32_t>(narrow<T>(low).bits) | static_cast<std::uint32_t>(narrow<T>(high).bits)
                                                               << 16;
}
/// a * b + c on pairs of T, rounded once.
template <class T>
QUERN_HD inline std::uint32_t fma_pair(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
#if defined(__CUDA_ARCH__)
  std::uint32_t out;
  if constexpr (std::same_as<T, f16>)
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  else
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
#else
  // Products of two such numbers and their sums with a third fit a double, so rounding happens once for results
  // that are whole numbers below 2^24.
  const auto one = [](std::uint32_t x, std::uint32_t y, std::uint32_t z) {
    return static_cast<float>(static_cast<double>(emulation::value_of<T>(x & 0xffff)) *
                                  static_cast<double>(emulation::value_of<T>(y & 0xffff)) +
                              static_cast<double>(emulation::value_of<T>(z & 0xffff)));
  };
  return pair_of<T>(one(a, b, c), one(a >> 16, b >> 16, c >> 16));
#endif
}

}  // namespace cuda
}  // namespace quern::inline v0
