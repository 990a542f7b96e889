#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the kernel tests for aarch64 and runs them in qemu's user mode:
#   run.sh COMPILER WORK DOCTEST
#     COMPILER  clang++ or g++ (of which the cross compiler is searched for)
#     WORK      a folder for what is built
#     DOCTEST   the folder that has doctest/doctest.h
# The formats of the vector kernels are shared out: two thirds for clang++, the rest for the slower g++
# (QUERN_TEST_PART).
# Status 77 where something is missing; the message names it. No -march: kernels choose when they run.
set -euo pipefail
compiler=$1 work=$2 doctest=$3
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
shopt -s nullglob
sources=("$tests"/main.cpp "$tests"/kernel/multiply_test.cpp "$tests"/kernel/neon*_test.cpp)
# Everything optional; dot products without i8mm; neither.
cpus=(max neoverse-n1 cortex-a53)

skip() {
  echo "SKIPPED: $*"
  exit 77
}
first_of() {
  local name
  for name in "$@"; do
    if command -v "$name"; then return; fi
  done
  return 1
}

case $(uname -m) in
  aarch64 | arm64) skip "this machine is one; the other tests have run on it" ;;
esac
qemu=$(first_of qemu-aarch64-static qemu-aarch64) || skip "there is no qemu-aarch64 (Debian: qemu-user-static)"
case $compiler in
  clang++)
    part=0
    cxx=("$(first_of clang++ clang++-14)" --target=aarch64-linux-gnu) || skip "there is no clang++"
    ;;
  *)
    part=1
    cxx=("$(first_of aarch64-linux-gnu-g++ aarch64-linux-gnu-g++-12)") ||
      skip "there is no aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu)"
    ;;
esac
mkdir -p "$work/include"
printf '#include <vector>\nint main() {}\n' | "${cxx[@]}" -std=c++20 -static -x c++ - -o "$work/probe" ||
  skip "there is no C++ library for aarch64 (Debian: g++-aarch64-linux-gnu)"
if command -v ccache > /dev/null; then cxx=(ccache "${cxx[@]}"); fi

# Through a link, because /usr/include as an -isystem folder would come before the cross headers.
ln -sfn "$(cd "$doctest/doctest" && pwd)" "$work/include/doctest"
objects=()
for source in "${sources[@]}"; do
  object=$work/$(basename "$source" .cpp).o
  "${cxx[@]}" -std=c++20 -O2 -Wall -Wextra -Wconversion -Wshadow -Werror -I "$tests/../include" \
    -isystem "$work/include" -DQUERN_TEST_PART="$part" -c "$source" -o "$object"
  objects+=("$object")
done
"${cxx[@]}" -static "${objects[@]}" -o "$work/test_kernel"

for cpu in "${cpus[@]}"; do
  echo "== $compiler, $(basename "$qemu") -cpu $cpu"
  "$qemu" -cpu "$cpu" "$work/test_kernel"
done
