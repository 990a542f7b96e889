// SPDX-License-Identifier: Apache-2.0
#pragma once
// The only macros of the library. Use:
//   QUERN_HD            a function that runs on host and device
//   QUERN_BUILD         inline namespace of everything that loops; differs between -m flags
//   QUERN_TARGET_BEGIN("avx2,fma") ... QUERN_TARGET_END   a region compiled for an instruction set
//   QUERN_ASSERT(cond)  a precondition inside kernels; checked only without NDEBUG

#define QUERN_VERSION_MAJOR 0
#define QUERN_VERSION_MINOR 1
#define QUERN_VERSION_PATCH 0

#if defined(__CUDACC__)
#define QUERN_HD __host__ __device__
#else
#define QUERN_HD
#endif

// Two translation units built with different -m flags must not share one inline body: the linker keeps
// either, and an AVX-512 body chosen for a generic caller is an illegal instruction on an older CPU. The name
// of the namespace therefore spells the flags that change what compilers make of C++, build_avx512_bits_.. .
// Types that all units share keep their bodies out of the linker's sight instead: [[gnu::always_inline]].
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define QUERN_BUILD_VECTOR avx512
#elif defined(__AVX512F__)
#define QUERN_BUILD_VECTOR avx512f
#elif defined(__AVX2__)
#define QUERN_BUILD_VECTOR avx2
#elif defined(__AVX__)
#define QUERN_BUILD_VECTOR avx
#elif defined(__SSE4_2__)
#define QUERN_BUILD_VECTOR sse42
#elif defined(__SSE4_1__)
#define QUERN_BUILD_VECTOR sse41
#elif defined(__SSSE3__)
#define QUERN_BUILD_VECTOR ssse3
#elif defined(__ARM_FEATURE_SVE)
#define QUERN_BUILD_VECTOR sve
#elif defined(__ARM_FEATURE_DOTPROD)
#define QUERN_BUILD_VECTOR neon_dot
#else
#define QUERN_BUILD_VECTOR base
#endif
// Every CPU with one of BMI, BMI2 and LZCNT has POPCNT, and the other two come together.
#if defined(__BMI2__) && defined(__LZCNT__)
#define QUERN_BUILD_BITS _bits
#elif defined(__BMI2__) || defined(__BMI__) || defined(__LZCNT__)
#define QUERN_BUILD_BITS _somebits
#elif defined(__POPCNT__)
#define QUERN_BUILD_BITS _popcnt
#elif defined(__ARM_FEATURE_ATOMICS)
#define QUERN_BUILD_BITS _lse
#else
#define QUERN_BUILD_BITS
#endif
#if defined(__FMA__) && defined(__F16C__)
#define QUERN_BUILD_FMA _fma_f16c
#elif defined(__FMA__)
#define QUERN_BUILD_FMA _fma
#elif defined(__F16C__)
#define QUERN_BUILD_FMA _f16c
#else
#define QUERN_BUILD_FMA
#endif
// Ice Lake and Zen 4 have both and VPOPCNTDQ; Cascade Lake has none of them.
#if defined(__AVX512VBMI2__)
#define QUERN_BUILD_BYTES _vbmi2
#elif defined(__AVX512VBMI__)
#define QUERN_BUILD_BYTES _vbmi
#else
#define QUERN_BUILD_BYTES
#endif
#if defined(__AVX512VNNI__) && defined(__AVXVNNI__)
#define QUERN_BUILD_DOT _vnni_both
#elif defined(__AVX512VNNI__)
#define QUERN_BUILD_DOT _vnni
#elif defined(__AVXVNNI__)
#define QUERN_BUILD_DOT _avxvnni
#elif defined(__ARM_FEATURE_MATMUL_INT8)
#define QUERN_BUILD_DOT _i8mm
#else
#define QUERN_BUILD_DOT
#endif
#if defined(__AVX512FP16__)
#define QUERN_BUILD_HALF _fp16
#elif defined(__AVX512BF16__)
#define QUERN_BUILD_HALF _bf16
#else
#define QUERN_BUILD_HALF
#endif
#if defined(__FAST_MATH__)
#define QUERN_BUILD_MATH _fastmath
#else
#define QUERN_BUILD_MATH
#endif
#if defined(__cpp_exceptions)
#define QUERN_BUILD_THROW
#else
#define QUERN_BUILD_THROW _nothrow
#endif
#define QUERN_BUILD_PASTE(a, b, c, d, e, f, g, h) build_##a##b##c##d##e##f##g##h
#define QUERN_BUILD_NAME(a, b, c, d, e, f, g, h) QUERN_BUILD_PASTE(a, b, c, d, e, f, g, h)
#define QUERN_BUILD                                                                          \
  QUERN_BUILD_NAME(QUERN_BUILD_VECTOR, QUERN_BUILD_BITS, QUERN_BUILD_FMA, QUERN_BUILD_BYTES, \
                   QUERN_BUILD_DOT, QUERN_BUILD_HALF, QUERN_BUILD_MATH, QUERN_BUILD_THROW)

// Counts of bits and bytes are computed as std::size_t: 2^32 - 1 weights of 32 bits are 2^37 bits.
static_assert(sizeof(sizeof(0)) >= 8, "quern: std::size_t must have 64 bits; compile for a 64-bit machine");

#define QUERN_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define QUERN_TARGET_BEGIN(isa) \
  QUERN_PRAGMA(clang attribute push(__attribute__((target(isa))), apply_to = function))
#define QUERN_TARGET_END QUERN_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
#define QUERN_TARGET_BEGIN(isa) QUERN_PRAGMA(GCC push_options) QUERN_PRAGMA(GCC target(isa))
#define QUERN_TARGET_END QUERN_PRAGMA(GCC pop_options)
#else
#define QUERN_TARGET_BEGIN(isa)
#define QUERN_TARGET_END
#endif

#if defined(NDEBUG) || defined(__CUDA_ARCH__)
#define QUERN_ASSERT(cond) static_cast<void>(0)
#else
#include <cassert>
#define QUERN_ASSERT(cond) assert(cond)
#endif
