# SPDX-License-Identifier: Apache-2.0
# Dependencies: an installed package first; a download only with QUERN_FETCH=ON. The headers of quern need
# none of them; quern::eigen needs Eigen, and only tests, examples and benchmarks need the others.

# Stops with one sentence that says which package is missing and what to do.
function(quern_missing package debian)
  message(FATAL_ERROR "quern: ${package} was not found. Install it (Debian, Ubuntu: apt-get install ${debian}), "
                      "or configure with -DQUERN_FETCH=ON to download it.")
endfunction()

# Downloads `url` and makes the imported header-only target `target` of its folder `include`.
function(quern_fetch_headers name target url include)
  include(FetchContent)
  # SOURCE_SUBDIR names a folder that is not there: the archive is unpacked, its CMakeLists.txt is not run.
  FetchContent_Declare(${name} URL ${url} SOURCE_SUBDIR quern_headers_only)
  FetchContent_MakeAvailable(${name})
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${${name}_SOURCE_DIR}/${include})
endfunction()

# Eigen3::Eigen, visible to the parent project too. Not required here: quern::quern does without.
function(quern_find_eigen)
  if(TARGET Eigen3::Eigen)
    return()
  endif()
  find_package(Eigen3 3.4 QUIET NO_MODULE)
  if(TARGET Eigen3::Eigen)
    set_target_properties(Eigen3::Eigen PROPERTIES IMPORTED_GLOBAL TRUE)
  elseif(QUERN_FETCH)
    quern_fetch_headers(eigen Eigen3::Eigen
                        https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz .)
  endif()
endfunction()

macro(quern_require_eigen)
  if(NOT TARGET Eigen3::Eigen)
    quern_missing(Eigen3 libeigen3-dev)
  endif()
endmacro()

# A header-only package: quern_require_headers(<package> <target> <Debian package> <url> <include folder>)
macro(quern_require_headers package target debian url include)
  if(NOT TARGET ${target})
    find_package(${package} QUIET)
    if(NOT TARGET ${target})
      if(NOT QUERN_FETCH)
        quern_missing(${package} ${debian})
      endif()
      string(TOLOWER ${package} quern_fetch_name)
      quern_fetch_headers(${quern_fetch_name} ${target} ${url} ${include})
    endif()
  endif()
endmacro()

macro(quern_require_doctest)
  quern_require_headers(doctest doctest::doctest doctest-dev
                        https://github.com/doctest/doctest/archive/refs/tags/v2.4.11.tar.gz .)
endmacro()

macro(quern_require_json)
  quern_require_headers(nlohmann_json nlohmann_json::nlohmann_json nlohmann-json3-dev
                        https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz include)
endmacro()

macro(quern_require_cli11)
  quern_require_headers(CLI11 CLI11::CLI11 libcli11-dev
                        https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz include)
endmacro()

macro(quern_require_benchmark)
  if(NOT TARGET benchmark::benchmark)
    find_package(benchmark QUIET)
    if(NOT TARGET benchmark::benchmark)
      if(NOT QUERN_FETCH)
        quern_missing("Google Benchmark" libbenchmark-dev)
      endif()
      include(FetchContent)
      set(BENCHMARK_ENABLE_TESTING OFF)
      set(BENCHMARK_ENABLE_INSTALL OFF)
      FetchContent_Declare(benchmark
                           URL https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz)
      FetchContent_MakeAvailable(benchmark)
    endif()
  endif()
endmacro()
