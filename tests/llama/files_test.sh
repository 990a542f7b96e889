#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The files that programs read and write: none is lost, what cannot be written is found before the work, and runs go
# on with their own texts and models only. First argument: the folder of the built programs.
source "$(dirname "${BASH_SOURCE[0]}")/program_checks.sh"
needs train perplexity generate explain

good train "${tiny[@]}" --steps 2 -o model.safetensors
good train "${tiny[@]}" --steps 2 --seed 2 -o other.safetensors # of the same shape
tr a-z A-Z <text >TEXT                                          # of the same length
ln -s model.safetensors link.safetensors
ln model.safetensors hard.safetensors
: >empty
echo 'of a run of hours' >there

# Names that cannot be written are found before `early` is: the checkpoint of a run that began.
t=("${tiny[@]}" --steps 2 --checkpoint train.state)
good train "${t[@]}" -o out.safetensors
good train "${t[@]}" --resume -o out.safetensors
bad 'another run.*texts' train "${t[@]/#text/TEXT}" --resume -o out
bad 'another run.*texts' train "${t[@]}" --text TEXT --resume -o out
bad 'there already.*--resume' train "${t[@]}" -o out
bad 'out.*--checkpoint.*--output' train "${tiny[@]}" --steps 2 -o out --checkpoint ./out
bad 'text.*--output.*--text' train "${tiny[@]}" --steps 2 -o text
bad 'text.*--json.*--text' train "${tiny[@]}" --steps 2 -o out --json text
bad '--output.*cannot create' train "${tiny[@]}" --steps 2 --checkpoint early -o absent/out
bad '--output.*folder' train "${tiny[@]}" --steps 2 --checkpoint early -o "$work"
bad '--json.*cannot create' train "${tiny[@]}" --steps 2 --checkpoint early -o out --json absent/out

bad '--json.*MODEL' generate model.safetensors --prompt a -n 1 --json model.safetensors
bad '--json.*--text' perplexity model.safetensors --text text --context 32 --windows 1 --json ./text
bad '--json.*cannot create' perplexity model.safetensors --text text --context 32 --windows 1 --json absent/out
[ ! -s log.out ] || fail 'perplexity: measured first, looked at --json then'
bad '--json.*folder' explain --bandwidth 1 --json .
bad '--json.*too long; check the name' explain --bandwidth 1 --json "$(printf 'n%.0s' $(seq 300))"
good explain --bandwidth 1 --json /dev/null
[ -c /dev/null ] || fail 'explain: /dev/null is a file now'

if [ -x "$programs/speed" ]; then
  bad '--json.*MODEL' speed model.safetensors --prompt 2 -n 0 --threads 1 --repeat 1 --json model.safetensors
fi

if [ -x "$programs/compress" ]; then
  c=(--text text --windows 2 --context 32 --threads 1)
  good compress model.safetensors "${c[@]}" -o small.safetensors --checkpoint blocks
  good compress model.safetensors "${c[@]}" -o small.safetensors --checkpoint blocks --resume
  bad 'there already.*--resume' compress model.safetensors "${c[@]}" -o out --checkpoint blocks
  bad 'another run.*weights' compress other.safetensors "${c[@]}" -o out --checkpoint blocks --resume
  bad 'another run.*ids' compress model.safetensors "${c[@]/#text/TEXT}" -o out --checkpoint blocks --resume
  # The expression is longer than any buffer was.
  keep="blk.0.attn_q$(printf '|x%.0s' $(seq 700))"
  good compress model.safetensors "${c[@]}" -o small.safetensors --keep-dense "$keep" --checkpoint long
  bad 'another run.*weights' compress other.safetensors "${c[@]}" -o out --keep-dense "$keep" --checkpoint long --resume
  if [ -n "$python" ]; then
    # One weight of a row that is not the first, or of a norm.
    for name in blk.0.attn_q.weight blk.0.ffn_norm.weight; do
      "$python" - $name <<'END'
import json, struct, sys
b = bytearray(open("model.safetensors", "rb").read())
n = struct.unpack("<Q", b[:8])[0]
end = json.loads(b[8:8 + n])[sys.argv[1]]["data_offsets"][1]
b[8 + n + end - 2] ^= 1
open("changed", "wb").write(b)
END
      bad 'another run.*weights' compress changed "${c[@]}" -o out --checkpoint blocks --resume
    done
  fi
  good compress model.safetensors "${c[@]}" -o small.safetensors --e2e 2 --checkpoint two
  rm two
  bad 'two\.e2e.*there already' compress model.safetensors "${c[@]}" -o out --e2e 2 --checkpoint two
  bad '--json.*--out' compress model.safetensors "${c[@]}" -o out --json out
  bad '--out.*--text' compress model.safetensors "${c[@]}" -o text
  bad '--out.*model' compress model.safetensors "${c[@]}" -o link.safetensors
  bad '--out.*model' compress model.safetensors "${c[@]}" -o hard.safetensors
  bad '--out.*model' compress model.safetensors "${c[@]}" -o "$work/./model.safetensors"
  bad '--checkpoint.*--out' compress model.safetensors "${c[@]}" -o out --checkpoint out
  bad '--out.*cannot create' compress model.safetensors "${c[@]}" -o absent/out --checkpoint early
  bad '--out.*folder' compress model.safetensors "${c[@]}" -o . --checkpoint early
fi

if [ -x "$programs/retrain" ]; then
  r=(model.safetensors --text text --held-out text --context 32 --batch 2 --lanes 1 --steps 4 --update 2 --every 2
    --windows 2 --final-windows 2 --threads 1)
  good retrain "${r[@]}" --checkpoint run.state --save-every 2 --log run.jsonl -o sparse.safetensors
  cp run.jsonl whole.jsonl
  good retrain "${r[@]}" --checkpoint run.state --resume --log run.jsonl --svg run
  cmp -s run.jsonl whole.jsonl || fail 'retrain: a resumed run changed the lines of its log' "$(head -c 600 run.jsonl)"
  : >fresh.jsonl
  good retrain "${r[@]}" --log fresh.jsonl
  cmp -s fresh.jsonl whole.jsonl || fail 'retrain: an empty log was not filled'
  bad 'another run.*texts' retrain "${r[@]}" --text TEXT --checkpoint run.state --resume
  bad 'another run.*texts' retrain model.safetensors --text TEXT "${r[@]:3}" --checkpoint run.state --resume
  bad 'another run.*held_out' retrain "${r[@]:0:4}" TEXT "${r[@]:5}" --checkpoint run.state --resume
  bad 'another run.*start' retrain other.safetensors "${r[@]:1}" --checkpoint run.state --resume
  bad 'another run.*of ' retrain "${r[@]}" --teacher other.safetensors --checkpoint run.state --resume
  bad 'run\.state.*there already.*--resume' retrain "${r[@]}" --checkpoint run.state
  bad 'run\.jsonl.*there already.*--resume' retrain "${r[@]}" --log run.jsonl
  bad 'there.*there already' retrain "${r[@]}" --log there
  bad '--log.*MODEL' retrain "${r[@]}" --log model.safetensors
  bad '--output.*MODEL' retrain "${r[@]}" -o link.safetensors
  bad '--best.*--output' retrain "${r[@]}" -o out --best out
  bad '--best.*--teacher' retrain "${r[@]}" --teacher other.safetensors --best other.safetensors
  bad '--json.*--svg' retrain "${r[@]}" --svg chart --json chart.flips.svg
  for option in -o --best --json --svg; do
    bad 'cannot create' retrain "${r[@]}" --checkpoint early $option absent/out
  done
  # Logs that are none.
  lines() { printf '%s\n' "$@" >bad.jsonl; }
  resumed=("${r[@]}" --checkpoint run.state --resume --log bad.jsonl --svg run)
  lines '{"step":2,"flips":"x","drift":0}' '{"step":3,"loss":1}'
  bad 'line 1.*"flips"' retrain "${resumed[@]}"
  lines '{"step":2,"flips":[1],"drift":[0]}' '{"step":3,"loss":null}'
  good retrain "${resumed[@]}"
  deep=$(printf '[%.0s' $(seq 300000)) end=$(printf ']%.0s' $(seq 300000))
  lines "{\"step\":2,\"layers\":$deep$end}" '{"step":3,"loss":1}'
  good retrain "${resumed[@]}"
  lines "{\"step\":2,\"layers\":$deep$deep$end$end}" '{"step":3,"loss":1}'
  bad 'line 1.*longer' retrain "${resumed[@]}"
  lines '{"step":1,"loss":1}' '{"step":2,"lo'
  good retrain "${resumed[@]}"
  [ "$(cat bad.jsonl)" = '{"step":1,"loss":1}' ] || fail 'retrain: a line that is cut off stays' "$(cat bad.jsonl)"
fi

if [ -x "$programs/evolve" ]; then
  deep=(--text text --width 32 --layers 4 --ffn 48 --heads 2 --kv-heads 1 --head-dim 16 --context 64 --batch 2
    --lanes 2 --threads 1)
  good train "${deep[@]}" --steps 2 -o deep.safetensors
  good train "${deep[@]}" --steps 2 --seed 2 -o deep2.safetensors
  e=(deep.safetensors --text text --context 32 --text-tokens 2048 --calibration-windows 8 --threads 1 --offspring 4
    --survivors 2,1 --tokens 64,256 --task depth --target 0.25)
  good evolve "${e[@]}" --generations 2 --checkpoint st
  good evolve "${e[@]}" --generations 3 --checkpoint st --resume --config depth.txt
  bad 'st.*there already.*--resume' evolve "${e[@]}" --generations 2 --checkpoint st
  bad 'generation 3, behind the last one, 2' evolve "${e[@]}" --generations 2 --checkpoint st --resume
  bad 'another search' evolve "${e[@]/#text/TEXT}" --generations 3 --checkpoint st --resume
  bad '--config.*--start' evolve "${e[@]}" --generations 1 --start depth.txt --config depth.txt
  bad '--json.*--svg' evolve "${e[@]}" --generations 1 --svg chart --json chart-levels.svg
  bad '--tensor-types.*--config' evolve "${e[@]}" --generations 1 --config out --tensor-types out
  for option in --out --svg --json --config --tensor-types; do
    bad 'cannot create' evolve "${e[@]}" --generations 1 --checkpoint early $option absent/out
  done
  # A file that is too large for the disk costs the model, not the figures: a quota of 16 KB stands for it.
  (trap '' XFSZ; ulimit -f 16; "$programs/evolve" "${e[@]}" --generations 2 -o large.safetensors --json figures.json) \
    >log.out 2>log.err
  [ $? -eq 2 ] && grep -q 'free space' log.err || fail 'evolve: a full disk is not reported' "$(head -c 600 log.err)"
  is_json figures.json 'len(d["history"]) == 2'
  cp deep2.safetensors deep.safetensors # another model under the name of the first
  bad 'another search' evolve "${e[@]}" --generations 3 --checkpoint st --resume
fi

[ "$(cat there)" = 'of a run of hours' ] || fail 'a file of others was changed'
finish
