#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds everything into build/tests and runs all tests. Arguments go to ctest:
#   bash tests/run.sh                 all
#   bash tests/run.sh -R format/      those whose name matches
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../cmake/run_common.sh"

quern_install ca-certificates cmake ninja-build g++ binutils clang clang-format-14 git python3 libeigen3-dev \
  doctest-dev nlohmann-json3-dev libcli11-dev
quern_install_optional libomp-dev g++-aarch64-linux-gnu qemu-user-static libopenmpi-dev openmpi-bin
quern_build tests
exec ctest --test-dir "$quern_root/build/tests" --output-on-failure -j2 "$@"
