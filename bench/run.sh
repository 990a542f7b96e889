#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds the benchmarks and writes build/release/bench/results.json.
#   bash bench/run.sh                               everything, 5 repetitions of each, in random order
#   bash bench/run.sh --quick                       the main formats once each, in less than 3 minutes
#   bash bench/run.sh --benchmark_filter=group      other arguments go to Google Benchmark
set -euo pipefail
cost=()
source "$(dirname "${BASH_SOURCE[0]}")/../cmake/run_common.sh"

options=(--benchmark_enable_random_interleaving=true --benchmark_repetitions=5
  --benchmark_report_aggregates_only=true --benchmark_min_time=0.2)
if [ "${1:-}" = --quick ]; then
  shift
  options=(--benchmark_enable_random_interleaving=true --benchmark_min_time=0.01
    '--benchmark_filter=(bsr<16,32>|group<16>/affine|nm<2,4>|dense/affine<4,32>/|eigen).*/N(576|4096)/K.*/M(1|96)/T1')
  cost=(--quick)
fi

quern_install ca-certificates cmake ninja-build g++ binutils python3 libeigen3-dev nlohmann-json3-dev libcli11-dev \
  libbenchmark-dev
quern_build bench
cd "$quern_root/build/release/bench"
parts=()
for source in "$quern_root"/bench/*.cpp; do
  program=bench_$(basename "$source" .cpp)
  [ -x "$program" ] || continue
  quern_say "$program"
  "./$program" "${options[@]}" --benchmark_out="$program.json" --benchmark_out_format=json "$@"
  parts+=("$program.json")
done
[ ${#parts[@]} -gt 0 ] || quern_stop "there is no benchmark in bench/"
python3 - results.json "${parts[@]}" <<'PYTHON'
import json
import os
import sys

merged = {"context": None, "benchmarks": []}
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if text:  # a filter that matches nothing leaves an empty file
        part = json.loads(text)
        merged["context"] = merged["context"] or part["context"]
        merged["benchmarks"] += part["benchmarks"]
with open(sys.argv[1] + ".new", "w", encoding="utf-8") as f:
    json.dump(merged, f, indent=1)
os.replace(sys.argv[1] + ".new", sys.argv[1])
PYTHON
quern_say "compile time and code size of single kernels"
python3 "$quern_root/bench/kernel_cost.py" "${cost[@]}" --json kernel_cost.json
quern_say "wrote build/release/bench/results.json and kernel_cost.json"
