#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/peers.py on made-up output, and the tables of cpu_kernels.md from made-up samples.
set -eu
command -v python3 >/dev/null || { echo "SKIP: python3 is missing"; exit 77; }
python3 bench/peers.py --self-test
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/samples.json" <<'JSON'
{"reference": "llama.cpp: q4_0+", "samples": [
 {"name": "quern: gemv/dense/affine<4,32>/avx512vnni", "us": 3, "case": {"rows": "576", "cols": "576", "batch": "1", "threads": "1"}},
 {"name": "quern: gemv/dense/affine<4,32>/avx512vnni", "us": 5, "case": {"rows": "576", "cols": "576", "batch": "1", "threads": "1"}},
 {"name": "llama.cpp: q4_0+", "us": 12, "case": {"rows": "576", "cols": "576", "batch": "1", "threads": "1"}},
 {"name": "llama.cpp: q4_0+", "us": 9, "case": {"rows": "576", "cols": "576", "batch": "1", "threads": "1", "weights": "cached"}}]}
JSON
python3 bench/peers/table.py "$work/samples.json" >"$work/table.md"
for line in '| `dense` `affine<4,32>` int8 | 4 / 3 (3.00x) |  |  |  |' '| llama.cpp Q4_0 repacked | 12 / 12 (1.00x) |  |  |  |' \
  '| llama.cpp Q4_0 repacked | 9 / 9 (1.00x) |  |  |  |'; do
  grep -qxF -- "$line" "$work/table.md" || { echo "peers_test: no line '$line' in" && cat "$work/table.md" && exit 1; }
done
echo "tables passed"
