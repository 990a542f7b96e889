# SPDX-License-Identifier: Apache-2.0
# What examples/run.sh, tests/run.sh, bench/run.sh and bench/peers/get.sh share; sourced by them.
#   quern_install PACKAGE...    makes sure that these Debian packages (or what they provide) are there
#   quern_install_optional PACKAGE...   the same, but goes on without them
#   quern_build PRESET          configures and builds a preset of CMakePresets.json
quern_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
quern_cmake_arguments=()

quern_say() { printf '== %s\n' "$*"; }
quern_stop() {
  printf 'quern: %s\n' "$*" >&2
  exit 2
}

# Is what the package provides on this machine, however it came here?
quern_has() {
  case $1 in
    cmake) command -v cmake && printf '3.21\n%s\n' "$(cmake --version | sed -n '1s/[^0-9]*//p')" | sort -CV ;;
    ninja-build) command -v ninja ;;
    g++) command -v g++ && g++ -std=c++20 -fsyntax-only -x c++ - <<< '#include <concepts>' ;;
    clang) command -v clang++ || command -v clang++-14 ;;
    clang-format-14 | python3 | git | binutils) command -v "${1/binutils/objdump}" ;;
    ca-certificates) [ -e /etc/ssl/certs/ca-certificates.crt ] ;;
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    libeigen3-dev) [ -e /usr/include/eigen3/Eigen/Core ] || [ -e /usr/local/include/eigen3/Eigen/Core ] ;;
    doctest-dev) quern_has_header doctest/doctest.h ;;
    nlohmann-json3-dev) quern_has_header nlohmann/json.hpp ;;
    libcli11-dev) quern_has_header CLI/CLI.hpp ;;
    libbenchmark-dev) quern_has_header benchmark/benchmark.h ;;
    libomp-dev) compgen -G '/usr/lib/llvm-*/lib/clang/*/include/omp.h' ;;
    g++-aarch64-linux-gnu) [ "$(uname -m)" = aarch64 ] || command -v aarch64-linux-gnu-g++ ||
      command -v aarch64-linux-gnu-g++-12 ;;
    qemu-user-static) [ "$(uname -m)" = aarch64 ] || command -v qemu-aarch64-static || command -v qemu-aarch64 ;;
    libopenmpi-dev) command -v mpicxx ;;
    openmpi-bin) command -v mpirun ;;
    *) return 1 ;;
  esac > /dev/null 2>&1
}
quern_has_header() { [ -e "/usr/include/$1" ] || [ -e "/usr/local/include/$1" ]; }

# Those of the packages that are not there, into the caller's array `missing`.
quern_find_missing() {
  local package
  for package in "$@"; do quern_has "$package" || missing+=("$package"); done
}

# Installs packages with apt-get, or says why not.
quern_apt_install() {
  local as_root=()
  if command -v apt-get > /dev/null; then
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
    if [ ${#as_root[@]} -eq 0 ] || command -v sudo > /dev/null; then
      quern_say "installing with apt-get: $*"
      if quern_apt update && quern_apt install -y --no-install-recommends "$@"; then return; fi
      quern_say "apt-get could not install them (is there a network, and are you allowed to?)"
    else
      quern_say "missing: $*; this user is not root and has no sudo"
    fi
  else
    quern_say "missing: $*; there is no apt-get here"
  fi
  return 1
}

quern_install() {
  local package missing=()
  quern_find_missing "$@"
  if [ ${#missing[@]} -eq 0 ]; then
    quern_say "nothing to install"
    return
  fi
  if quern_apt_install "${missing[@]}"; then return; fi
  # Tools cannot be downloaded by CMake, the header libraries can.
  for package in cmake ninja-build g++; do
    quern_has "$package" || quern_stop "needs $package: install it and run this script again"
  done
  quern_say "CMake will download the missing libraries (QUERN_FETCH=ON)"
  quern_cmake_arguments+=(-DQUERN_FETCH=ON)
}

quern_install_optional() {
  local missing=()
  quern_find_missing "$@"
  if [ ${#missing[@]} -eq 0 ] || quern_apt_install "${missing[@]}"; then return; fi
  quern_say "what needs them will be skipped"
}

# Output goes to a log: a fresh machine prints hundreds of lines that say nothing.
quern_apt() {
  local log
  log=$(mktemp)
  if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 "$@" > "$log" 2>&1; then
    rm -f "$log"
    return
  fi
  tail -n 5 "$log" >&2
  rm -f "$log"
  return 1
}

quern_build() {
  local preset=$1 log
  shift
  cd "$quern_root"
  quern_say "configuring (cmake --preset $preset)"
  log=$(mktemp)
  if ! cmake --preset "$preset" "${quern_cmake_arguments[@]}" > "$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    quern_stop "cannot configure; the message above says why. A missing library means no network: install it by hand"
  fi
  rm -f "$log"
  quern_say "building with $(nproc) processes"
  cmake --build --preset "$preset" -j "$(nproc)" "$@" || quern_stop "the build failed; the first error above says why"
}
