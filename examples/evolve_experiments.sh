#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The searches that docs/results/evopress.md reports:
#   bash examples/evolve_experiments.sh [FOLDER_OF_PROGRAMS] [OUT]
# One JSON file and one log per search in OUT (build/evolve); searches whose JSON is there are not done again, so that
# the script can be interrupted and goes on. Needs the texts of examples/data/get_texts.sh. From the environment:
# SEEDS; JOBS, searches at a time with one thread each; ONLY, a pattern of names. SmolLM2-135M is searched with all
# cores where SMOL names its GGUF file, and VALID and TEST the texts of WikiText-2.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=${1:-$here/../build/release/examples}
out=${2:-$here/../build/evolve}
texts=${TEXTS:-$here/../build/data}
seeds=${SEEDS:-1 2 3} jobs=${JOBS:-2} only=${ONLY:-.}
first=${seeds%% *}
[ -s "$texts/kjv.txt" ] || { echo "evolve_experiments: '$texts/kjv.txt' is missing; run examples/data/get_texts.sh" >&2; exit 2; }
mkdir -p "$out"

# one NAME SEED MODEL OPTIONS...
one() {
  local name=$1 seed=$2 model=$3 to="$out/$1.$2"
  shift 3
  [[ $name =~ $only ]] && [ ! -s "$to.json" ] || return 0
  "$programs/evolve" "$model" --seed "$seed" --json "$to.json" "$@" >"$to.out" 2>"$to.err" ||
    { echo "evolve_experiments: $name, seed $seed: $(tail -n 1 "$to.err")" >&2; return 1; }
}
# The bits per weight that the search $1 stored; the embedded model is fp32 once it is read.
stored_bits() { python3 -c 'import json, sys
t = {r["name"]: r["block_bytes"] for r in json.load(open(sys.argv[1]))["table"]}
print(t["search"] / t["as it is"] * 32)' "$out/$1.$first.json"; }
export -f one stored_bits
export out programs only first

# The embedded model has 8 halves, too few subsets for a question; this one has 16.
mini=$out/mini.safetensors
if [ ! -s "$mini" ]; then
  "$programs/train" --text "$texts/kjv.txt" --width 96 --layers 8 --ffn 256 --heads 4 --kv-heads 4 --head-dim 24 \
    --context 256 --batch 8 --lanes 2 --steps 600 --warmup 30 -o "$mini" >"$out/mini.log" 2>&1
fi

[ -s "$out/spread.txt" ] || python3 -c 'import sys
text = open(sys.argv[1], "rb").read()
open(sys.argv[2], "wb").write(b"".join(text[i * (len(text) // 256):][:4096] for i in range(256)))' "$texts/kjv.txt" "$out/spread.txt"

embedded() {  # SEED
  local model=$here/data/quern-kjv-3m.safetensors seed=$1
  local text=(--text "$here/data/calibration.txt" --held-out "$here/data/held_out.txt" --held-out-windows 0 --threads 1
    --context 256 --calibration-windows 256 --text-tokens 131072)
  local long=(--generations 40 --offspring 24 --survivors 4,2,1 --tokens 1024,4096,16384)
  local whole=(--generations 20 --offspring 16 --survivors 2,1 --tokens 1024,16384)
  one bits3_run64 "$seed" "$model" "${text[@]}" "${long[@]}" --task bits --run 64 --target 3 --db "$out/levels_run64" \
    --baselines
  one bits3 "$seed" "$model" "${text[@]}" "${long[@]}" --task bits --target 3 --db "$out/levels_bits" --baselines
  one bits2.5 "$seed" "$model" "${text[@]}" "${long[@]}" --task bits --target 2.5 --db "$out/levels_bits" --baselines \
    --best-of 32
  one sparsity "$seed" "$model" "${text[@]}" --task sparsity --target 0.7 --delta 2048 --db "$out/levels_70" --baselines \
    --generations 80 --offspring 16 --survivors 4,2,1 --tokens 1024,4096,8192 --config "$out/sparsity.$seed.txt"
  # On from there, with twice the levels to either side, as some layers were at the end of theirs, and more tokens.
  local more=("${text[@]/131072/262144}" --task sparsity --target 0.7 --delta 2048 --steps 16 --db "$out/levels_70_16"
    --offspring 16 --survivors 4,2,1)
  one sparsity_on "$seed" "$model" "${more[@]}" --start "$out/sparsity.$seed.txt" --generations 60 \
    --tokens 2048,8192,32768 --config "$out/sparsity_on.$seed.txt"
  one sparsity_last "$seed" "$model" "${more[@]}" --start "$out/sparsity_on.$seed.txt" --generations 40 \
    --tokens 2048,8192,65536
  # From the start with four times the text: 256 passages of 4,096 bytes, evenly spread over the training text.
  local spread=(--text "$out/spread.txt" --text-tokens 1048576 --calibration-windows 1024 --context 256 --threads 1
    --held-out "$here/data/held_out.txt" --held-out-windows 0 --task sparsity --target 0.7 --offspring 16
    --survivors 4,2,1)
  local whole_steps=(--delta 2048 --steps 16 --db "$out/levels_70_spread")
  one sparsity_spread "$seed" "$model" "${spread[@]}" "${whole_steps[@]}" --baselines --reach 2 --generations 70 \
    --tokens 1024,4096,8192 --config "$out/sparsity_spread.$seed.txt"
  one sparsity_spread_on "$seed" "$model" "${spread[@]}" "${whole_steps[@]}" --start "$out/sparsity_spread.$seed.txt" \
    --generations 60 --tokens 2048,8192,32768 --config "$out/sparsity_spread_on.$seed.txt"
  one sparsity_spread_ce "$seed" "$model" "${spread[@]}" "${whole_steps[@]}" --start "$out/sparsity_spread_on.$seed.txt" \
    --generations 40 --tokens 4096,16384,65536 --fitness ppl
  # From there with levels half as far apart: every level has twice its number.
  [ ! -s "$out/sparsity_spread_on.$seed.txt" ] ||
    awk -F': ' '{ print $1 ": " 2 * $2 }' "$out/sparsity_spread_on.$seed.txt" >"$out/sparsity_spread_half.$seed.txt"
  one sparsity_spread_half "$seed" "$model" "${spread[@]}" --delta 1024 --steps 32 --db "$out/levels_70_half" \
    --start "$out/sparsity_spread_half.$seed.txt" --reach 2 --generations 60 --tokens 2048,8192,32768
  one groups "$seed" "$model" "${text[@]}" --task groups --target 0.7 --delta 2048 --steps 16 --db "$out/levels_groups" \
    --baselines --generations 60 --offspring 16 --survivors 4,2,1 --tokens 1024,4096,8192
  one depth "$seed" "$model" "${text[@]}" "${whole[@]}" --task depth --attn 1 --ffn 1 --baselines
  one depth50 "$seed" "$model" "${text[@]}" "${whole[@]}" --task depth --attn 2 --ffn 2 --baselines
  one mini_depth "$seed" "$mini" "${text[@]}" "${whole[@]}" --task depth --attn 2 --ffn 2 --baselines
  one bits2.25 "$seed" "$model" "${text[@]}" "${long[@]}" --task bits --target 2.25 --db "$out/levels_bits" --baselines \
    --best-of 32
  one joint_as_bits2.25 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target "$(stored_bits bits2.25)" \
    --db "$out/levels_joint"
  one joint2.2 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target 2.2 --db "$out/levels_joint"
  one joint_as_bits2.5 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target "$(stored_bits bits2.5)" \
    --db "$out/levels_joint"
  # Single axes at the bytes of the joint searches: bits with either scales, the density of fixed bits.
  one bytes_as_bits2.5 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target "$(stored_bits bits2.5)" \
    --db "$out/levels_joint" --keep-halves --only 2 --only 3 --only 4 --only 5 --only 6 --only 7 --only 8
  one run64_as_bits2.5 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target "$(stored_bits bits2.5)" \
    --db "$out/levels_joint" --keep-halves --only "2 run 64" --only "3 run 64" --only "4 run 64"
  for bits in 2 3; do
    one "density2.2_of_$bits" "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target 2.2 --db "$out/levels_joint" \
      --keep-halves --only "$bits" --only "$bits nm<2,4>" --only "$bits group_nm<2,4,16>" --only "$bits group_nm<3,4,16>"
  done
  one joint1.8 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target 1.8 --db "$out/levels_joint"
  one density1.8_of_2 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target 1.8 --db "$out/levels_joint" \
    --keep-halves --only 2 --only "2 nm<2,4>" --only "2 group_nm<2,4,16>" --only "2 group_nm<3,4,16>"
  for bits in 2 3; do
    one "drops1.8_of_$bits" "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target 1.8 --db "$out/levels_joint" \
      --only "$bits"
  done
  one joint_as_bits3 "$seed" "$model" "${text[@]}" "${long[@]}" --task joint --target "$(stored_bits bits3)" \
    --db "$out/levels_joint"
}
brute() {  # SEED; the optimum of 70 * 70 subsets, and searches that stop after 20 generations
  local text=(--text "$here/data/calibration.txt" --threads 1 --context 256 --text-tokens 8192 --task depth --attn 4)
  if [ "$1" = "$first" ]; then
    one brute "$1" "$mini" "${text[@]}" --ffn 4 --brute-force 5000
    one brute_more "$1" "$mini" "${text[@]}" --ffn 5 --brute-force 5000
  fi
  local short=(--ffn 4 --generations 20 --offspring 32 --tokens 2048,8192)
  one brute_search "$1" "$mini" "${text[@]}" "${short[@]}" --survivors 2,1
  one brute_pair "$1" "$mini" "${text[@]}" "${short[@]}" --survivors 4,2
}
export -f embedded brute
export here mini

embedded "$first"  # alone: it makes the levels that the other seeds share
printf '%s\n' $seeds | tail -n +2 | xargs -P "$jobs" -I{} bash -c 'embedded {}'
seq 1 10 | xargs -P "$jobs" -I{} bash -c 'brute {}'

if [ -n "${SMOL:-}" ]; then
  smol=(--text "$VALID" --held-out "$TEST" --held-out-windows 32 --held-out-context 512 --calibration-windows 32)
  one smol_bits3 1 "$SMOL" "${smol[@]}" --text-tokens 32768 --task bits --target 3 --db "$out/smol_bits" --baselines \
    --generations 20 --offspring 16 --survivors 4,2,1 --tokens 512,2048,4096 -o "$out/smol_bits3.safetensors" \
    --config "$out/smol_bits3.txt" --svg "$out/smol_bits3"
  one smol_depth 1 "$SMOL" "${smol[@]}" --text-tokens 32768 --task depth --attn 5 --ffn 5 --baselines \
    --generations 20 --offspring 16 --survivors 2,1 --tokens 1024,4096
  one smol_greedy 11 "$SMOL" "${smol[@]}" --text-tokens 65536 --task depth --attn 5 --ffn 5 --packed --greedy \
    --generations 1 --offspring 32 --survivors 8,4,2 --tokens 512,2048,8192
  for bits in 3.52 3 2.5 4; do
    one "smol_joint$bits" 1 "$SMOL" "${smol[@]}" --text-tokens 32768 --task joint --target "$bits" --baselines \
      --db "$out/smol_joint" --generations 12 --offspring 16 --survivors 4,2,1 --tokens 512,2048,4096 \
      -o "$out/smol_joint$bits.safetensors" --config "$out/smol_joint$bits.txt" --svg "$out/smol_joint$bits"
  done
fi
python3 "$here/evolve_table.py" "$out"
