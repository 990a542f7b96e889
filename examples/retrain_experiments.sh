#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Retrains the embedded model in every variant that docs/results/ast.md compares, and prints its table:
#   bash examples/retrain_experiments.sh [FOLDER_OF_PROGRAMS] [OUT]
# One JSON file and one log per run in OUT (build/retrain); runs whose JSON is there are not done again, so that the
# script can be interrupted and goes on. Needs the texts of examples/data/get_texts.sh. STEPS, SEEDS and JOBS (runs at
# a time, one thread each) come from the environment.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=${1:-$here/../build/release/examples}
out=${2:-$here/../build/retrain}
text=${TEXT:-$here/../build/data/kjv.txt}
steps=${STEPS:-150} seeds=${SEEDS:-1 2 3} jobs=${JOBS:-2}
[ -s "$text" ] || { echo "retrain_experiments: '$text' is missing; run examples/data/get_texts.sh" >&2; exit 2; }
mkdir -p "$out"

# name pattern variant loss and further options; seeds: all, or the first only.
all=(
  "dense_ce       nm<2,4> dense    ce"
  "annealed_kl    nm<2,4> annealed kl"
  "static_kl      nm<2,4> static   kl"
  "none_kl        nm<2,4> none     kl"
  "annealed_ce    nm<2,4> annealed ce"
  "q_annealed_kl  nm<1,4> annealed kl"
  "q_slorb_kl     nm<1,4> annealed kl --slorb 16"
)
more=(
  "q_fixed_kl     nm<1,4> fixed    kl"
  "q_static_kl    nm<1,4> static   kl"
  "q_none_kl      nm<1,4> none     kl"
  "q_slorb_fixed  nm<1,4> fixed    kl --slorb 16"
  "q_slorb_static nm<1,4> static   kl --slorb 16"
  "q_slorb_none   nm<1,4> none     kl --slorb 16"
)
once=(
  "fixed_kl       nm<2,4> fixed     kl"
  "slorb_kl       nm<2,4> annealed  kl --slorb 16"
  "sparsegpt_kl   nm<2,4> annealed  kl --start sparsegpt"
  "group_nm_kl    group_nm<2,4,16> annealed kl"
  "bsr16_kl       bsr<16,16> annealed kl"
  "bsr32_kl       bsr<16,32> annealed kl"
  "gradual_kl     nm<2,4> gradual   kl"
  "iterative_kl   nm<2,4> iterative kl"
  "cast_kl        nm<2,4> cast      kl --temperature 1 --kl-weight 0.3333"
  "reverse_kl     nm<2,4> annealed  reverse_kl"
  "squarehead     nm<2,4> annealed  squarehead"
  "tinybert       nm<2,4> annealed  tinybert"
  "topk_kl        nm<2,4> annealed  kl --top-k 32"
  "group_nm_gpt   group_nm<2,4,16> annealed kl --start sparsegpt"
  "bsr16_gpt      bsr<16,16> annealed kl --start sparsegpt"
  "bsr32_gpt      bsr<16,32> annealed kl --start sparsegpt"
  "q_slorb8_kl    nm<1,4> annealed  kl --slorb 8"
  "q_slorbx_kl    nm<1,4> annealed  kl --slorb 16 --train-projection"
)

one() {
  local name=$1 pattern=$2 variant=$3 loss=$4 seed=$5
  shift 5
  local to="$out/$name.$seed"
  [ -s "$to.json" ] && return 0
  rm -f "$to.jsonl"  # of a run that was interrupted
  "$programs/retrain" "$here/data/quern-kjv-3m.safetensors" --text "$text" --held-out "$here/data/held_out.txt" \
    --pattern "$pattern" --variant "$variant" --loss "$loss" --seed "$seed" --steps "$steps" --batch 4 --lanes 2 \
    --context 256 --rate 5e-4 --floor 5e-6 --warmup 10 --lambda 6e-3 --update 10 --every 50 --windows 16 \
    --final-windows 128 --threads 1 --log "$to.jsonl" --json "$to.json" -o "$to.safetensors" "$@" \
    >"$to.out" 2>"$to.err" || { echo "retrain_experiments: $name, seed $seed: $(tail -n 1 "$to.err")" >&2; return 1; }
}
export -f one
export programs out text steps here

list() {
  local seed line
  for seed in $seeds; do for line in "${all[@]}"; do echo "$line" "$seed"; done; done
  for seed in $seeds; do for line in "${more[@]}"; do echo "$line" "$seed"; done; done
  for line in "${once[@]}"; do echo "$line" "${seeds%% *}"; done
}
# The seed is last in a line: name pattern variant loss [options] seed.
list | xargs -P "$jobs" -d '\n' -I{} bash -c \
  'set -f; a=($1); n=${#a[@]}; one "${a[@]:0:4}" "${a[n-1]}" "${a[@]:4:n-5}"' _ {}
python3 "$here/retrain_table.py" "$out"
