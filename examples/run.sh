#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds the programs into build/release/examples and runs `demo` with the arguments.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../cmake/run_common.sh"

quern_install ca-certificates cmake ninja-build g++ libeigen3-dev nlohmann-json3-dev libcli11-dev
quern_build release
exec "$quern_root/build/release/examples/demo" "$@"
