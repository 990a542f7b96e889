// SPDX-License-Identifier: Apache-2.0
#pragma once
// quern::multiply(w, x, y);                                          // the best instruction set of this CPU
// quern::multiply<quern::isa_list<quern::isa::scalar>>(w, x, y);     // chosen at compile time

#include <quern/core/config.hpp>
#include <quern/core/name.hpp>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace quern::inline v0 {

/// Instruction sets as tags. A kernel takes one as a template argument and is compiled for it by a target
/// attribute, so that one binary holds all of them and no -m flag is needed.
namespace isa {

/// Portable C++: the oracle of all others.
struct scalar {
  static constexpr bool available() { return true; }
  [[gnu::always_inline]] static constexpr name label() { return name("scalar"); }
};

#if defined(__x86_64__)
/// Features whose names clang 14 does not know, asked of the CPU itself. Whether the system saves their
/// registers follows from AVX2.
struct unnamed_features {
  bool f16c = false, avx_vnni = false;
  unnamed_features() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) f16c = (c & bit_F16C) != 0;
    // Leaf 7 says in EAX how many more parts it has; AVX-VNNI is bit 4 of EAX in part 1.
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && a >= 1 &&
        __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0)
      avx_vnni = (a & 1u << 4) != 0;
  }
  /// Asked once: on a virtual machine the question takes microseconds.
  static const unnamed_features& get() {
    static const unnamed_features found;
    return found;
  }
};
#endif

/// 256-bit vectors with fused multiply and add (Haswell, Zen and later): exact and int8 activations.
struct avx2 {
  static bool available() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("popcnt") && unnamed_features::get().f16c;
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("avx2"); }
};
/// The same with dot products of bytes (Alder Lake, Zen 5 and later): int8 activations.
struct avx_vnni {
  static bool available() {
#if defined(__x86_64__)
    return avx2::available() && unnamed_features::get().avx_vnni;
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("avxvnni"); }
};
/// 512-bit vectors with byte, word and mask instructions (Skylake-X, Zen 4 and later): exact activations.
struct avx512 {
  static bool available() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("avx512"); }
};
/// The same with dot products of bytes (Cascade Lake, Zen 4 and later): int8 activations.
struct avx512_vnni {
  static bool available() {
#if defined(__x86_64__)
    return avx512::available() && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("avx512vnni"); }
};
/// The same with dot products of bf16 pairs (Cooper Lake, Zen 4 and later): bf16 activations.
struct avx512_bf16 {
  static bool available() {
#if defined(__x86_64__)
    return avx512::available() && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("avx512bf16"); }
};

/// 128-bit vectors with dot products of bytes (Armv8.2 with FEAT_DotProd: Cortex-A76, Neoverse N1 and later):
/// exact and int8 activations. Recognised on Linux.
struct neon_dot {
  static bool available() {
#if defined(__aarch64__) && defined(__linux__)
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0;  // HWCAP_ASIMDDP, by number: some C libraries do not name it
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("neondot"); }
};
/// The same with products of unsigned and signed bytes (FEAT_I8MM: Neoverse V1, N2 and later): int8 activations.
struct i8mm {
  static bool available() {
#if defined(__aarch64__) && defined(__linux__)
    return neon_dot::available() && (getauxval(AT_HWCAP2) >> 13 & 1) != 0;  // HWCAP2_I8MM
#else
    return false;
#endif
  }
  [[gnu::always_inline]] static constexpr name label() { return name("i8mm"); }
};

}  // namespace isa

/// Instruction sets in the order in which they are tried.
template <class... Isas>
struct isa_list {};

}  // namespace quern::inline v0
