# SPDX-License-Identifier: Apache-2.0
# Dependencies: an installed package first; a download only with QUERN_FETCH=ON. The headers of quern need
# none of them; quern::eigen needs Eigen, and only tests, examples and benchmarks need the others.

# Stops with one sentence that says which package is missing and what to do.
function(quern_missing package debian)
  message(FATAL_ERROR "quern: ${package} was not found. Install it (Debian, Ubuntu: apt-get install ${debian}), "
                      "or configure with -DQUERN_FETCH=ON to download it.")
endfunction()

# Declares the FetchContent `name` of an archive. Not downloaded by FetchContent itself: without a network it
# tries for minutes and then prints a page; this says one sentence.
function(quern_fetch name url sha256)
  include(FetchContent)
  string(TOUPPER ${name} upper)
  get_filename_component(file ${url} NAME)
  set(archive ${CMAKE_BINARY_DIR}/downloads/${name}/${file})
  if(NOT FETCHCONTENT_SOURCE_DIR_${upper})
    message(STATUS "quern: downloading ${url}")
    file(DOWNLOAD ${url} ${archive} TIMEOUT 300 INACTIVITY_TIMEOUT 20 STATUS status)
    list(GET status 0 code)
    if(NOT code EQUAL 0)
      message(FATAL_ERROR "quern: cannot download ${url} (${status}). Is there a network? The package can also "
                          "be installed by hand, or named by -DFETCHCONTENT_SOURCE_DIR_${upper}=FOLDER.")
    endif()
    set(arguments URL ${archive} URL_HASH SHA256=${sha256})
  endif()
  FetchContent_Declare(${name} ${arguments} ${ARGN})
endfunction()

# Makes the imported header-only target `target` of the folder `include` of an archive.
function(quern_fetch_headers name target url sha256 include)
  # SOURCE_SUBDIR names a folder that is not there: the archive is unpacked, its CMakeLists.txt is not run.
  quern_fetch(${name} ${url} ${sha256} SOURCE_SUBDIR quern_headers_only)
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
                        https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.gz
                        8586084f71f9bde545ee7fa6d00288b264a2b7ac3607b974e54d13e7162c1c72 .)
  endif()
endfunction()

macro(quern_require_eigen)
  if(NOT TARGET Eigen3::Eigen)
    quern_missing(Eigen3 libeigen3-dev)
  endif()
endmacro()

# A header-only package: quern_require_headers(<package> <target> <Debian package> <url> <SHA-256> <include folder>)
macro(quern_require_headers package target debian url sha256 include)
  if(NOT TARGET ${target})
    find_package(${package} QUIET)
    if(NOT TARGET ${target})
      if(NOT QUERN_FETCH)
        quern_missing(${package} ${debian})
      endif()
      string(TOLOWER ${package} quern_fetch_name)
      quern_fetch_headers(${quern_fetch_name} ${target} ${url} ${sha256} ${include})
    endif()
  endif()
endmacro()

macro(quern_require_doctest)
  quern_require_headers(doctest doctest::doctest doctest-dev
                        https://github.com/doctest/doctest/archive/refs/tags/v2.4.11.tar.gz
                        632ed2c05a7f53fa961381497bf8069093f0d6628c5f26286161fbd32a560186 .)
endmacro()

macro(quern_require_json)
  quern_require_headers(nlohmann_json nlohmann_json::nlohmann_json nlohmann-json3-dev
                        https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
                        d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d include)
endmacro()

macro(quern_require_cli11)
  quern_require_headers(CLI11 CLI11::CLI11 libcli11-dev
                        https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.4.2.tar.gz
                        f2d893a65c3b1324c50d4e682c0cdc021dd0477ae2c048544f39eed6654b699a include)
endmacro()

macro(quern_require_benchmark)
  if(NOT TARGET benchmark::benchmark)
    find_package(benchmark QUIET)
    if(NOT TARGET benchmark::benchmark)
      if(NOT QUERN_FETCH)
        quern_missing("Google Benchmark" libbenchmark-dev)
      endif()
      set(BENCHMARK_ENABLE_TESTING OFF)
      set(BENCHMARK_ENABLE_INSTALL OFF)
      quern_fetch(benchmark https://github.com/google/benchmark/archive/refs/tags/v1.8.3.tar.gz
                  6bc180a57d23d4d9515519f92b0c83d61b05b5bab188961f36ac7b06b0d9e9ce)
      FetchContent_MakeAvailable(benchmark)
    endif()
  endif()
endmacro()
