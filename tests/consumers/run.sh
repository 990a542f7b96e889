#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the consumers one way:
#   run.sh find_package WORK CXX GENERATOR BUILD    of the tree that `cmake --install BUILD` makes
#   run.sh add_subdirectory WORK CXX GENERATOR
#   run.sh plain WORK CXX                           g++ -std=c++20 -I include, with and without exceptions
set -euo pipefail
way=$1 work=$2 cxx=$3 generator=${4:-Ninja}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
rm -rf "$work"
mkdir -p "$work"

build_project() {
  cmake -G "$generator" -S "$here/project" -B "$work/build" -DCMAKE_CXX_COMPILER="$cxx" "$@"
  cmake --build "$work/build"
  "$work/build/consumer"
  "$work/build/consumer_eigen"
}

case $way in
  find_package)
    cmake --install "$5" --prefix "$work/prefix" > "$work/install.log"
    # A copy elsewhere must work too: no path of this machine may be inside.
    mv "$work/prefix" "$work/moved"
    if grep -rlF -e "$root" "$work/moved"; then
      echo "consumers: the installed files above name a folder of this machine" >&2
      exit 1
    fi
    (cd "$root/include" && find quern -type f | sort) > "$work/headers"
    (cd "$work/moved/include" && find quern -type f | sort) | diff "$work/headers" -
    build_project -DCMAKE_PREFIX_PATH="$work/moved"
    ;;
  add_subdirectory)
    build_project -DQUERN_TREE="$root"
    ;;
  plain)
    "$cxx" -std=c++20 -I "$root/include" "$here/main.cpp" -o "$work/consumer"
    "$work/consumer"
    "$cxx" -std=c++20 -fno-exceptions -fno-rtti -I "$root/include" "$here/main.cpp" -o "$work/consumer_nothrow"
    "$work/consumer_nothrow"
    ;;
  *)
    echo "consumers: no way named '$way'" >&2
    exit 2
    ;;
esac
