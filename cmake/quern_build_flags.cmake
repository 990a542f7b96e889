# SPDX-License-Identifier: Apache-2.0
# Flags of our own tests, examples and benchmarks. They reach nobody who links quern::quern.

# quern_flags: warnings and sanitizers.
add_library(quern_flags INTERFACE)
target_compile_options(quern_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wconversion;-Wshadow>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${QUERN_WERROR}>>:-Werror>)
# nvcc does not know `#pragma GCC unroll`, and takes the assignment of an error to a result for a result thrown away.
target_compile_options(quern_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-diag-suppress=1675,2810>)
if(QUERN_SANITIZE)
  set(quern_sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_compile_options(quern_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${quern_sanitizers}>)
  target_link_options(quern_flags INTERFACE ${quern_sanitizers})
endif()

# quern_native: this machine's instruction set. Eigen's alignment follows it, so every part of one program
# that exchanges Eigen objects must link it, or none.
add_library(quern_native INTERFACE)
if(QUERN_NATIVE)
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-march=native QUERN_HAS_MARCH_NATIVE)
  if(QUERN_HAS_MARCH_NATIVE)
    target_compile_options(quern_native INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
      # Its AVX-512 header initialises a variable with itself (GCC bug 105593); Eigen inlines that.
      target_compile_options(quern_native INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-uninitialized;-Wno-maybe-uninitialized>)
    endif()
  endif()
endif()

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(QUERN_CCACHE ccache)
  if(QUERN_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${QUERN_CCACHE})
  endif()
endif()
