#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sanitized.sh PROGRAM clean|REPORT ARGUMENTS...: the program ends well and silently, or with that report of its sanitizer.
set -uo pipefail
program=$1 expected=$2
shift 2
output=$("$program" "$@" 2>&1)
status=$?
if [[ $output == *"unexpected memory mapping"* ]]; then
  # The thread sanitizer of g++ 12 knows fewer address layouts than recent kernels draw.
  output=$(setarch -R "$program" "$@" 2>&1)
  status=$?
  if [[ $output == *"unexpected memory mapping"* || $output == *"setarch"* ]]; then
    echo "SKIPPED: the thread sanitizer cannot run on this kernel: $output"
    exit 77
  fi
fi
printf '%s\n' "$output" | tail -n 60
if [[ $output == *"test cases: 0 "* || $output == *"test cases:  0 "* ]]; then
  echo "no test ran"
  exit 1
fi
if [[ $expected == clean ]]; then exit $status; fi
[[ $output == *"$expected"* ]]
