#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The programs on bad input: exit status 2, a sentence on stderr that names the problem, and no file made or
# changed. Then the good path on a tiny model. First argument: the folder of the built programs.
source "$(dirname "${BASH_SOURCE[0]}")/program_checks.sh"
needs train perplexity generate explain

for p in train perplexity generate explain compress retrain demo evolve speed; do
  [ -x "$programs/$p" ] || continue
  good "$p" --help
  [ -s log.out ] || fail "$p --help prints nothing"
  bad 'no-such-option|required' "$p" --no-such-option
done

# A tiny model: the same command gives the same bytes.
good train "${tiny[@]}" --steps 3 -o model.safetensors --json train.json
good train "${tiny[@]}" --steps 3 -o again.safetensors
cmp -s model.safetensors again.safetensors || fail "train: two equal runs wrote different files"
is_json train.json 'len(d) > 0'

good perplexity model.safetensors --text text --context 32 --windows 4 --json perplexity.json
is_json perplexity.json '0 < d["nll"] < 7 and d["windows"] == 4 and len(d["window_nll"]) == 4'
for i in 1 2; do
  good generate model.safetensors --prompt 'In the' -n 12 --json "greedy$i.json"
  good generate model.safetensors --prompt 'In the' -n 12 --temperature 1 --seed 5 --json "drawn$i.json"
done
is_json greedy1.json 'len(d["ids"]) == 12 and d["ids"] == json.load(open("greedy2.json"))["ids"]'
is_json drawn1.json 'd["ids"] == json.load(open("drawn2.json"))["ids"]'
if [ -x "$programs/speed" ]; then
  good speed model.safetensors --prompt 9 -n 3 --threads 1 2 --repeat 2 --format group_nm\<2,4,16\> affine\<4,16\> --json speed.json
  is_json speed.json 'len(d) == 8 and all(len(r["seconds"]) == 2 for r in d) and d[0]["name"] == "as-is"'
  bad 'not compiled into' speed model.safetensors --prompt 9 -n 0 --only-formats --format nm\<2,4\> affine\<9,16\>
fi
for a in f32 int24 bf16 int8 int8_token; do
  good perplexity model.safetensors --text text --context 32 --windows 1 --activations $a --json "$a.json"
  is_json "$a.json" "d['activations'] == '$a'"
done
bad 'activations' generate model.safetensors --prompt a --activations int7
good explain --bandwidth 20 --json explain.json
is_json explain.json 'sum(s["bytes"] for s in d["streams"]) == d["bytes"] and 2.6 < d["bits_per_weight"] < 2.8'
good explain --list --json list.json
is_json list.json 'all(0 < f["bits_per_weight"] < 33 for f in d)'
good explain --pattern dense --quantizer 'symmetric<4,32>' --shape 1x1 --bandwidth 1
good explain --pattern dense --quantizer 'affine<4,128>' --bandwidth 1 # no program is compiled for it
grep -q 'closest' log.out || fail 'explain: names no closest format'

# Models that are no models.
head -c 1 model.safetensors >one_byte
head -c 100 model.safetensors >cut_header
head -c $(($(wc -c <model.safetensors) - 10)) model.safetensors >cut_data
: >empty
printf 'GGUF\3\0\0\0' >cut.gguf
printf 'GGUF\3\0\0\0\377\377\377\377\377\377\377\177\1\0\0\0\0\0\0\0' >many.gguf
sed 's/"llama.feed_forward_length":"48"/"llama.feed_forward_length":"47"/' model.safetensors >shapes
sed 's/"llama.block_count":"1"/"llama.block_count":"9"/' model.safetensors >layers
damaged=(one_byte cut_header cut_data empty cut.gguf many.gguf shapes layers)
for m in absent "${damaged[@]}"; do
  bad "$m" perplexity "$m" --text text --context 32 --json out.json
  bad "$m" generate "$m" --prompt a --json out.json
done
bad 'config asks for|not a whole' generate shapes --prompt a
bad "no tensor 'blk\.1" generate layers --prompt a
if [ -n "$python" ]; then
  "$python" - <<'END'
import json, struct
b = bytearray(open("model.safetensors", "rb").read())
n = struct.unpack("<Q", b[:8])[0]
begin = json.loads(b[8:8 + n])["blk.0.ffn_up.weight"]["data_offsets"][0]
b[8 + n + begin + 66:8 + n + begin + 68] = b"\xc0\x7f"  # row 1 column 1: NaN as bf16
open("nan", "wb").write(b)
END
  bad "blk\.0\.ffn_up\.weight'\): row 1 column 1" perplexity nan --text text --context 32
  bad "blk\.0\.ffn_up\.weight'\): row 1 column 1" generate nan --prompt a
fi

# A GGUF file of the same model, as it is and with one thing that makes it another model.
if [ -n "$python" ] && [ -x "$programs/speed" ]; then
  "$python" - <<'END'
import json, struct
b = open("model.safetensors", "rb").read()
n = struct.unpack("<Q", b[:8])[0]
header = json.loads(b[8:8 + n])
meta = header.pop("__metadata__")
text = lambda s: struct.pack("<Q", len(s.encode())) + s.encode()
shown = [c for c in range(256) if 33 <= c <= 126 or 161 <= c <= 172 or c >= 174]
hidden = [c for c in range(256) if c not in shown]
letters = [chr(c) if c in shown else chr(256 + hidden.index(c)) for c in range(256)]

def write(name, tokens=letters, more=()):
    kv = [text(k) + struct.pack("<I", 8) + text(v) for k, v in (("general.architecture", "llama"),
          ("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "gpt-2"))]
    for k in ("embedding_length", "block_count", "feed_forward_length", "attention.head_count",
              "attention.head_count_kv", "context_length"):
        kv.append(text("llama." + k) + struct.pack("<II", 4, int(meta["llama." + k])))
    kv.append(text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5))
    for k, v in (("tokens", tokens), ("merges", [])):
        kv.append(text("tokenizer.ggml." + k) + struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(text, v)))
    tensors, data = [], b""
    for k, t in list(header.items()) + [(k, header["output_norm.weight"]) for k in more]:
        first, end = (8 + n + o for o in t["data_offsets"])
        values = b"".join(b"\0\0" + b[i:i + 2] for i in range(first, end, 2))  # bf16 as fp32
        shape = t["shape"][::-1]
        tensors.append(text(k) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", s) for s in shape) +
                       struct.pack("<IQ", 0, len(data)))
        data += values + b"\0" * (-len(values) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kv)) + b"".join(kv) + b"".join(tensors)
    open(name, "wb").write(head + b"\0" * (-len(head) % 32) + data)

write("plain.gguf")
write("rotary.gguf", more=["blk.0.attn_rot_embd.weight"])
write("bias.gguf", more=["blk.0.attn_q.bias"])
write("norm.gguf", more=["token_embd_norm.weight"])
write("one.gguf", tokens=letters[:1])
write("more.gguf", tokens=letters + ["ab"])
write("lacks_z.gguf", tokens=["ab" if t == "z" else t for t in letters])
END
  for m in plain rotary; do
    good speed $m.gguf --prompt 4 -n 0 --threads 1 --repeat 1
    good perplexity $m.gguf --text text --context 32 --windows 2
  done
  bad "bias\.gguf' has a tensor 'blk\.0\.attn_q\.bias'" speed bias.gguf --prompt 4 -n 0 --threads 1
  bad "norm\.gguf' has a tensor 'token_embd_norm\.weight'" perplexity norm.gguf --text text --context 32
  bad "one\.gguf' has a tokenizer of 1 tokens and an embedding of 256" generate one.gguf --prompt a
  bad "more\.gguf' has a tokenizer of 257 tokens and an embedding of 256" perplexity more.gguf --text text --context 32
  (cat text; echo z) >with_z
  good perplexity lacks_z.gguf --text text --context 32 --windows 2
  bad "with_z' offset [0-9]+: the model's vocabulary lacks byte 122" perplexity lacks_z.gguf --text with_z --context 32
  bad "prompt' offset 1: the model's vocabulary lacks byte 122" generate lacks_z.gguf --prompt az
fi

# Every option that takes a number: what is none, is negative or does not fit is refused by name, before any work.
before=$(state)
for p in train perplexity generate explain compress retrain demo evolve speed; do
  [ -x "$programs/$p" ] || continue
  numbers=$("$programs/$p" --help | grep -oE -- '--[a-z0-9-]+ (UINT|INT|FLOAT)' | sort)
  [ "$(wc -l <<<"$numbers")" -ge 2 ] || fail "$p --help: where are its numbers?"
  while read -r option kind; do
    values=(nan inf -1 1e300 010x)
    [ "$kind" = FLOAT ] || values+=(18446744073709551616 010 0.5)
    for v in "${values[@]}"; do
      checks=$((checks + 1))
      "$programs/$p" $option=$v >log.out 2>log.err
      status=$?
      [ $status -eq 2 ] && grep -Eq -- "$option: '$v' is not a (whole )?number [0-9]" log.err ||
        fail "$p $option=$v: status $status" "$(head -c 300 log.err)"
    done
  done <<<"$numbers"
  [ "$p" = explain ] || bad "threads: '100000' is not" "$p" --threads 100000
done
[ "$(state)" = "$before" ] || fail 'options that are refused changed files' "$(state)"

# Texts, sizes and places.
mkdir folder
head -c 20 text >short
bad 'absent' perplexity model.safetensors --text absent
bad 'window|tokens' perplexity model.safetensors --text short --context 64
bad 'window|tokens' perplexity model.safetensors --text empty --context 64
bad 'context' perplexity model.safetensors --text text --context 0
bad 'context|capacity|positions' perplexity model.safetensors --text text --context 4096
bad 'windows' perplexity model.safetensors --text text --context 32 --windows -1
bad "folder' cannot be read" perplexity model.safetensors --text folder
bad "folder' cannot be read" train "${tiny[@]}" --text folder --steps 1 -o out
bad "folder' cannot be read" train "${tiny[@]}" --held-out folder --steps 1 -o out
bad 'out\.json' perplexity model.safetensors --text text --context 32 --windows 1 --json absent/out.json
bad 'prompt|token' generate model.safetensors --prompt ''
bad 'context|positions' generate model.safetensors --prompt a -n 100000
bad 'temperature' generate model.safetensors --prompt a -n 4 --temperature -1
bad 'temperature' generate model.safetensors --prompt a -n 4 --temperature nan
good generate model.safetensors --prompt a -n 0 --json none.json
grep -Eq 'inf|nan' log.err && fail 'generate -n 0: a rate of nothing' "$(cat log.err)"
is_json none.json 'd["prefill_tokens_per_second"] == 0 and d["decode_tokens_per_second"] == 0'
bad 'top_p|top-p' generate model.safetensors --prompt a -n 4 --temperature 1 --top-p 0
bad 'absent' train "${tiny[@]}" --text absent --steps 1 -o out
bad 'short|context|bytes' train --text short --context 64 --steps 1 -o out
bad 'short' train "${tiny[@]}" --held-out short --steps 1 -o out
bad 'absent' train "${tiny[@]}" --steps 1 --checkpoint absent --resume -o out
bad 'model' train "${tiny[@]}" --steps 1 --checkpoint model.safetensors --resume -o out
bad 'steps' train "${tiny[@]}" --steps 0 -o out
bad 'kv_heads' train --text text --context 64 --heads 2 --kv-heads 3 --steps 1 -o out
bad 'absent/out' train "${tiny[@]}" --steps 1 -o absent/out
# A step that makes weights infinite: its own loss is still a number.
wild=("${tiny[@]}" --steps 1 --rate 1e30 --decay 1e30 --warmup 0)
bad "out' is not written: tensor 'token_embd.weight'" train "${wild[@]}" -o out
bad "state' is not written: tensor 'token_embd.weight'" train "${wild[@]}" --checkpoint state -o out
bad 'absent/train\.json' train "${tiny[@]}" --steps 1 -o out --json absent/train.json

bad "no pattern 'gruop<16>'" explain --pattern 'gruop<16>'
bad 'N NONZERO of M' explain --pattern 'nm<4,2>' --quantizer 'real<f32>'
bad 'bits must be' explain --quantizer 'affine<9,16>'
bad "no quantizer ''" explain --quantizer ''
bad 'impossible.*run must divide' explain --pattern 'group<16>' --quantizer 'affine<4,64>'
for s in '' 4096 0x16 16x 16x-1 16x16x16 99999999999999999999x1 axb; do bad 'shape' explain --shape "$s"; done
for d in -0.1 1.5 nan; do bad 'density' explain --density "$d"; done
for b in -1 nan inf; do bad 'bandwidth' explain --bandwidth "$b"; done
bad 'out\.json' explain --bandwidth 1 --json absent/out.json

if [ -x "$programs/compress" ]; then
  c=(--text text --windows 2 --context 32 -o out)
  bad 'absent' compress absent "${c[@]}"
  for m in "${damaged[@]}"; do bad "$m" compress "$m" "${c[@]}"; done
  bad 'gruop<16>' compress model.safetensors "${c[@]}" --pattern 'gruop<16>'
  bad 'affine<4,999>' compress model.safetensors "${c[@]}" --quantizer 'affine<4,999>'
  bad 'absent' compress model.safetensors --text absent -o out
  bad 'window|tokens' compress model.safetensors --text short --windows 2 --context 64 -o out
  bad 'absent/out' compress model.safetensors --text text --windows 2 --context 32 -o absent/out
  bad 'affine<4,999>' compress model.safetensors "${c[@]}" --head 'affine<4,999>'
  bad 'density' compress model.safetensors "${c[@]}" --density 1.5
  bad "folder' cannot be read" compress model.safetensors --text folder -o out
  long=$(printf 'a%.0s' $(seq 300))
  bad 'cannot be looked for' compress model.safetensors "${c[@]}" --checkpoint "$long" --resume
  bad 'order' compress model.safetensors "${c[@]}" --order rows
  [ -z "$python" ] || bad 'row 1 column 1' compress nan "${c[@]}"
  good compress model.safetensors --text text --windows 2 --context 32 -o small.safetensors
  good perplexity small.safetensors --text text --context 32 --windows 4 --json small.json
  is_json small.json '0 < d["nll"] < 7 and d["weight_bytes"] < json.load(open("perplexity.json"))["weight_bytes"]'
  good perplexity small.safetensors --text text --context 32 --windows 4 --mapped --json mapped.json
  is_json mapped.json 'd["nll"] == json.load(open("small.json"))["nll"]'
  good generate small.safetensors --prompt 'In the' -n 4
  good compress model.safetensors --text text --windows 2 --context 32 --head 'affine<4,16>' -o head.safetensors
  good perplexity head.safetensors --text text --context 32 --windows 4 --json head.json
  is_json head.json '0 < d["nll"] < 7 and d["weight_bytes"] < json.load(open("small.json"))["weight_bytes"]'
  good compress model.safetensors --text text --windows 2 --context 32 --pattern 'bsr<16,16>' --order all \
    --head 'affine<4,16>' -o ordered.safetensors --json ordered.json
  is_json ordered.json 'len(d["orders"]) == 3 and all(o["taken"] == (o["error_after"] < o["error_before"]) for o in d["orders"])'
  good perplexity ordered.safetensors --text text --context 32 --windows 4
fi

if [ -x "$programs/evolve" ]; then
  good train --text text --width 32 --layers 4 --ffn 48 --heads 2 --kv-heads 1 --head-dim 16 --context 64 --batch 2 \
    --lanes 2 --threads 1 --steps 3 -o deep.safetensors
  e=(--text text --context 32 --text-tokens 2048 --calibration-windows 8 --threads 1 --offspring 6 --survivors 2,1
    --tokens 64,256)
  # Bits: the whole way, and the file runs. The budget is 3 bits for every weight; bytes may differ by what completes
  # streams this small to 64.
  good evolve deep.safetensors "${e[@]}" --task bits --target 3 --db levels --generations 4 --baselines --best-of 4 \
    --held-out text --held-out-windows 4 -o evolved.safetensors --config bits.txt --tensor-types types.txt --svg chart \
    --json evolve.json
  grep -q 'search: 4 generations of 6 offspring, survivors@tokens 2@64 1@256' log.err ||
    fail 'evolve: does not say what it runs' "$(cat log.err)"
  is_json evolve.json '(lambda t: abs(t["search"]["block_bytes"] / t["uniform"]["block_bytes"] - 1) < .02 and len(t) == 5 and abs(d["memory"] / d["predicted_memory"] - 1) < .1 and abs(d["database"] / d["predicted_database"] - 1) < .1 and d["share_of_halves_run"] < 1)({r["name"]: r for r in d["table"]})'
  awk -F'[ .:]+' '{ n = $3 ~ /ffn/ ? 1536 : $3 ~ /attn_[kv]/ ? 512 : 1024; sum += n * $4; all += 3 * n }
    END { exit sum != all }' bits.txt || fail 'evolve: the search left its budget' "$(cat bits.txt)"
  [ "$(wc -l <bits.txt)" -eq 28 ] && [ "$(wc -l <types.txt)" -eq 28 ] || fail 'evolve: bits.txt or types.txt'
  grep -q '<svg' chart-convergence.svg chart-levels.svg || fail 'evolve: no charts'
  good generate evolved.safetensors --prompt 'In the' -n 4
  # Depth: dropped halves are not in the file.
  good evolve deep.safetensors "${e[@]}" --task depth --target 0.25 --generations 3 --baselines -o cut.safetensors \
    --config depth.txt
  [ "$(grep -cE 'attn' depth.txt)" -eq 1 ] && [ "$(grep -cE 'mlp' depth.txt)" -eq 1 ] || fail 'evolve: depth.txt'
  good perplexity cut.safetensors --text text --context 32 --windows 4
  [ "$(wc -c <cut.safetensors)" -lt "$(wc -c <deep.safetensors)" ] || fail 'evolve: nothing was dropped from the file'
  good evolve evolved.safetensors "${e[@]}" --task depth --target 0.25 --generations 1 -o codes.safetensors
  [ "$(wc -c <codes.safetensors)" -lt "$(wc -c <evolved.safetensors)" ] || fail 'evolve: codes were not kept'
  bad '--packed belongs to --task depth' evolve deep.safetensors "${e[@]}" --packed --task bits --target 3 --db levels
  good evolve deep.safetensors "${e[@]}" --task depth --attn 1 --ffn 1 --brute-force 16 --json all.json
  is_json all.json 'len(d["all"]) == 16'
  # From the best baseline, measured on the whole text: what is found cannot be worse.
  for seed in 1 2 3 4; do
    good evolve deep.safetensors --text text --context 32 --text-tokens 256 --threads 1 --offspring 1 --survivors 1 --tokens 256 \
      --task depth --attn 2 --ffn 2 --generations 1 --baselines --from-best --seed $seed --json from.json
    is_json from.json '(lambda f: f["search"] <= min(f.values()))({r["name"]: r["fitness"] for r in d["table"][1:]})'
  done
  # One drop at a time, measured on the whole text: the first is the best single one.
  w=(--text text --context 32 --text-tokens 256 --threads 1 --offspring 1 --survivors 1 --tokens 256 --task depth --attn 1 --ffn 0)
  good evolve deep.safetensors "${w[@]}" --brute-force 4 --json all.json
  good evolve deep.safetensors "${w[@]}" --generations 1 --greedy --json one.json
  is_json one.json '(lambda f: f["greedy"] == min(r["fitness"] for r in json.load(open("all.json"))["all"]))({r["name"]: r["fitness"] for r in d["table"]})'
  bad 'needs --start' evolve deep.safetensors "${e[@]}" --task depth --target 0.25 --from-best
  good evolve deep.safetensors "${e[@]}" --task sparsity --target 0.5 --db sparse --generations 2 --baselines --top 16
  good evolve deep.safetensors "${e[@]}" --task groups --target 0.5 --delta 32 --db groups --generations 2 --fitness ppl
  good evolve deep.safetensors "${e[@]}" --task joint --target 3.5 --db joint --generations 3 -o joint.safetensors
  good generate joint.safetensors --prompt 'In the' -n 4
  bad 'takes an exact budget' evolve deep.safetensors "${e[@]}" --task joint --target 3.5 --db absent --greedy
  bad 'takes an exact budget' evolve deep.safetensors "${e[@]}" --task bits --target 3 --group none --db absent --greedy
  bad 'stage 0 must have survivors' evolve deep.safetensors "${e[@]/2,1/0,0}" --task depth --attn 1 --ffn 1 --greedy
  # A search goes on from what another wrote, with minibatches of its own.
  good evolve deep.safetensors "${e[@]}" --task bits --target 3 --db levels --generations 2 --start bits.txt --json more.json
  is_json more.json '"start" in {r["name"] for r in d["table"]}'
  bad '/dev/null.*(no line for|lines for)' evolve deep.safetensors "${e[@]}" --task bits --target 3 --db levels --start /dev/null
  bad 'has no level .9.' evolve deep.safetensors "${e[@]}" --task bits --target 3 --db levels --start <(sed '5s/: ./: 9/' bits.txt)
  bad 'keep the budget' evolve deep.safetensors "${e[@]}" --task bits --target 4 --db levels --start bits.txt
  # Costs are measured once, so that a search in time can be resumed.
  t=(deep.safetensors "${e[@]}" --task joint --time --target 0.9 --db joint --generations 2 --checkpoint time.state)
  good evolve "${t[@]}"
  grep -q "decode times: measured, kept in 'joint/decode_times" log.err || fail 'evolve: --time' "$(cat log.err)"
  good evolve "${t[@]}" --resume
  grep -q "decode times: those of 'joint/decode_times" log.err || fail 'evolve: --time again' "$(cat log.err)"
  good evolve deep.safetensors "${e[@]}" --task joint --target 6 --db joint --generations 2 --config axis.txt --keep-halves \
    --only 4 --only '4 group_nm<2,4,16>'
  grep -vqE ': 4( group_nm<2,4,16>)?$' axis.txt && fail 'evolve: --only' "$(cat axis.txt)"
  bad "no level '9'; there are '2'" evolve deep.safetensors "${e[@]}" --task joint --target 4 --db joint --only 9
  bad 'belong to --task joint' evolve deep.safetensors "${e[@]}" --task bits --target 3 --db levels --only 4

  # Processes: the first makes levels and times, the others wait for it. Each has a folder of its own here, to see who made
  # what and when; the one of the second is made after all of the first, and holds no times.
  if command -v mpirun >/dev/null && ! "$programs/evolve" deep.safetensors --text text --mpi --task depth --attn 99 2>&1 |
    grep -q 'without MPI'; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm_rsh_agent=
    p=("$programs/evolve" deep.safetensors "${e[@]}" --mpi --task joint --time --target 0.9 --generations 1)
    checks=$((checks + 1))
    timeout 120 mpirun --oversubscribe -n 1 "${p[@]}" --db first --config first.txt : -n 1 "${p[@]}" --db second \
      >log.out 2>log.err || fail 'evolve: mpirun' "$(cat log.err)"
    [ second/blk.0.safetensors -nt first/blk.3.safetensors ] || fail 'evolve: two processes made levels at once'
    [ -s first.txt ] && ls first/decode_times.*.json >/dev/null 2>&1 && ! ls second/decode_times.* >/dev/null 2>&1 ||
      fail 'evolve: each process measured times of its own'
    checks=$((checks + 1))
    timeout 60 mpirun --oversubscribe -n 2 "${p[@]}" --db /dev/null/levels >log.out 2>log.err
    # Whether the second comes to say that the first failed depends on when mpirun ends it.
    [ $? -eq 2 ] && grep -q 'cannot be made' log.err || fail 'evolve: a failure of the first process' "$(cat log.err)"
  fi

  # A preset that is scaled says so.
  good evolve deep.safetensors --text text --context 32 --text-tokens 2048 --threads 1 --task depth --attn 1 --ffn 1 \
    --preset paper --generations 1 --offspring 2
  grep -q 'preset paper: tokens are 0.0625 times its own, which end with 32768; the text has 2048' log.err &&
    grep -q 'survivors@tokens 2@128 1@2048' log.err || fail 'evolve: a scaled preset is silent' "$(cat log.err)"

  # A search that is killed goes on to the same winner, bit for bit.
  k=(deep.safetensors "${e[@]}" --task bits --target 3 --db levels --generations 40)
  good evolve "${k[@]}" --checkpoint whole.state --config whole.txt
  "$programs/evolve" "${k[@]}" --checkpoint part.state --config part.txt >log.out 2>log.err &
  victim=$!
  for i in $(seq 1 600); do [ -s part.state ] && break; sleep 0.02; done
  kill -9 $victim 2>/dev/null
  wait $victim 2>/dev/null
  [ -s part.state ] || fail 'evolve: no checkpoint was written'
  rm -f part.state.part* # what a kill in the middle of a write leaves
  [ -e part.txt ] && echo 'note: the search was over before it could be killed'
  good evolve "${k[@]}" --checkpoint part.state --config part.txt --resume
  cmp -s whole.state part.state && cmp -s whole.txt part.txt || fail 'evolve: a resumed search found something else'
  good evolve "${k[@]}" --checkpoint whole.state --resume --json end.json # nothing is left to do
  grep -q 'nan' log.out && fail 'evolve: shares of nothing' "$(cat log.out)"
  is_json end.json 'd["share_in_linears"] == 0 and d["share_of_halves_run"] == 0'
  # Ctrl-C: status 1, while levels are made and while generations run.
  interrupted 'interrupted; .*stopped' -e stop/blk.0.safetensors evolve deep.safetensors "${e[@]/#8/256}" \
    --task joint --target 3.5 --db stop
  interrupted 'nothing but the levels is kept without --checkpoint' -s log.err evolve "${k[@]/#40/100000}"
  interrupted 'continue with --resume' -s stop.state evolve "${k[@]/#40/100000}" --checkpoint stop.state
  head -c 100 whole.state >cut.state
  bad 'cut\.state.*(cut off|missing)' evolve "${k[@]}" --checkpoint cut.state --resume
  bad 'another search' evolve "${k[@]}" --seed 2 --checkpoint whole.state --resume
  bad 'absent' evolve "${k[@]}" --checkpoint absent --resume

  bad 'nearest possible: 3 or 3\.125' evolve deep.safetensors "${e[@]}" --task bits --target 3.1 --db levels
  bad 'nearest possible: 1' evolve deep.safetensors "${e[@]}" --task depth --target 0.1
  bad 'nearest possible' evolve deep.safetensors "${e[@]}" --task joint --target 0.5 --keep-halves --db joint
  for n in 0 1; do bad "context: '$n' is not" evolve deep.safetensors "${e[@]/#32/$n}" --task depth --target 0.25; done
  bad "folder' cannot be read" evolve deep.safetensors "${e[@]/#text/folder}" --task depth --target 0.25
  bad "folder' cannot be read" evolve deep.safetensors "${e[@]}" --task depth --target 0.25 --start folder
  bad "folder' .*is a folder" evolve deep.safetensors "${e[@]}" --task depth --target 0.25 \
    --checkpoint folder --resume
  bad 'share removed' evolve deep.safetensors "${e[@]}" --task sparsity --target 1.5 --db sparse
  bad 'minibatch|windows' evolve deep.safetensors --text text --context 32 --text-tokens 64 --task depth --target 0.25 \
    --survivors 1 --tokens 4096
  bad 'another model' evolve deep.safetensors "${e[@]}" --task bits --target 3 --db joint
  head -c 3000 levels/blk.2.safetensors >half && cp half levels/blk.2.safetensors
  bad 'levels/blk\.2\.safetensors' evolve deep.safetensors "${e[@]}" --task bits --target 3 --db levels
fi

if [ -x "$programs/retrain" ]; then
  r=(model.safetensors --text text --held-out text --context 32 --batch 2 --lanes 1 --steps 4 --update 2 --every 2
    --windows 2 --final-windows 2 --threads 1 --slorb 16)
  good retrain "${r[@]}" -o sparse.safetensors --best best.safetensors --checkpoint run.state --save-every 2 \
    --log run.jsonl --svg run --json retrain.json
  is_json retrain.json '0 < d["nll"] < 7 and d["start_nll"] > 0 and d["early_flips"] >= 0 and d["best_step"] in (2, 4)'
  [ "$(grep -c '"loss"' run.jsonl)" = 4 ] || fail 'retrain: the log lacks steps' "$(head -c 600 run.jsonl)"
  grep -q '</svg>' run.loss.svg && grep -q '</svg>' run.flips.svg || fail 'retrain: charts are not whole'
  good retrain "${r[@]}" -o again.safetensors
  cmp -s sparse.safetensors again.safetensors || fail 'retrain: two equal runs wrote different files'
  good retrain "${r[@]}" --checkpoint run.state --resume -o again.safetensors --json resumed.json
  is_json resumed.json 'd["start_nll"] is None'
  cmp -s sparse.safetensors again.safetensors || fail 'retrain: a resumed run ended differently'
  good train --text text --width 16 --layers 1 --ffn 32 --heads 2 --kv-heads 1 --head-dim 8 --context 64 --batch 2 \
    --lanes 1 --threads 1 --steps 1 -o narrow.safetensors
  bad 'absent' retrain absent "${r[@]:1}"
  for m in "${damaged[@]}"; do bad "$m" retrain "$m" "${r[@]:1}"; done
  [ -z "$python" ] || bad 'row 1 column 1' retrain nan "${r[@]:1}"
  bad 'absent' retrain "${r[@]}" --text absent
  bad 'short' retrain model.safetensors --text short --held-out text --context 32
  bad 'window' retrain model.safetensors --text text --held-out short --context 32
  bad 'context' retrain model.safetensors --text text --held-out text --context 4096
  bad "no pattern 'gruop<16>'" retrain "${r[@]}" --pattern 'gruop<16>'
  bad 'N NONZERO of M' retrain "${r[@]}" --pattern 'nm<4,2>'
  bad 'side-format|affine<4,999>' retrain "${r[@]}" --side-format 'affine<4,999>'
  bad 'hidden states' retrain "${r[@]}" --loss tinybert --teacher narrow.safetensors
  bad 'absent' retrain "${r[@]}" --teacher absent
  bad 'absent' retrain "${r[@]}" --checkpoint absent --resume
  bad 'another run' retrain "${r[@]}" --seed 9 --checkpoint run.state --resume
  bad 'not a checkpoint' retrain "${r[@]}" --checkpoint narrow.safetensors --resume
  bad 'run.state' retrain "${r[@]}" --top-k 3 --teacher-cache run.state
  r2=(model.safetensors --held-out text --context 32 --lanes 1 --windows 2 --final-windows 2)
  bad 'top-k is 257; the vocabulary has 256' retrain "${r2[@]}" --text text --top-k 257 --threads 2
  bad 'top-k is 257; the vocabulary has 256' retrain "${r2[@]}" --text text --top-k 257 --teacher-cache out
  bad 'the cache would hold' retrain "${r2[@]}" --text text --steps 1000000000 --batch 65536 --top-k 3 --teacher-cache out
  bad 'cannot be looked for' retrain "${r[@]}" --top-k 3 --teacher-cache "$(printf 'a%.0s' $(seq 300))"
  bad "folder' cannot be read" retrain "${r[@]}" --text folder
  bad "folder' cannot be read" retrain "${r2[@]/#text/folder}" --text text
  interrupted 'stopped' -s log.err retrain "${r2[@]}" --text text --steps 100000 --top-k 3 --teacher-cache out
  [ -e out ] && fail 'retrain: half a cache was written'
  bad 'absent/out' retrain "${r[@]}" -o absent/out
  bad 'absent/log' retrain "${r[@]}" --log absent/log
  bad 'learning rate' retrain "${r[@]}" --rate 1e30 --warmup 0 --checkpoint other.state --save-every 100
  # A quota of 8 KB for files stands for a full disk.
  before=$(state)
  (trap '' XFSZ; ulimit -f 8; "$programs/retrain" "${r[@]}" --checkpoint full.state --save-every 1) >log.out 2>log.err
  [ $? -eq 2 ] && grep -q 'free space' log.err || fail 'retrain: a full disk is not reported' "$(head -c 600 log.err)"
  [ "$(state)" = "$before" ] || fail 'retrain: a full disk changed files' "$(state)"
  if [ -x "$programs/compress" ]; then
    c=(--text text --windows 2 --context 32 --pattern 'nm<2,4>' --quantizer 'affine<4,16>')
    good compress sparse.safetensors "${c[@]}" --choose given -o sparse4.safetensors
    good perplexity sparse4.safetensors --text text --context 32 --windows 4 --json sparse4.json
    is_json sparse4.json '0 < d["nll"] < 7 and d["weight_bytes"] < json.load(open("perplexity.json"))["weight_bytes"]'
    good generate sparse4.safetensors --prompt 'In the' -n 4
    bad 'not pruned to this pattern' compress model.safetensors "${c[@]}" --choose given -o out
  fi
fi

if [ -x "$programs/demo" ]; then
  bad 'absent' demo --data absent --out demo_out
  bad 'tokens' demo --tokens 0 --out demo_out
  bad '^demo: .*text/out' demo --data folder --out text/out # what the system says, as one sentence
  # Its table, of a tiny model: every method, each from a file of its own.
  mkdir -p data
  good train --text text --width 64 --layers 2 --ffn 128 --heads 2 --kv-heads 1 --head-dim 32 --context 512 --batch 2 \
    --lanes 2 --threads 1 --steps 3 -o data/quern-kjv-3m.safetensors
  cp text data/calibration.txt && cp text data/held_out.txt
  good demo --data data --out demo_out --windows 2 --calibration 2 --tokens 4 --epochs 1 --e2e 2 --steps 2 --generations 1
  is_json demo_out/demo.json 'len(d) == 12 and len({r["label"] for r in d}) == 12 and all(0 < r["nats_per_byte"] < 7 and
    r["file_bytes"] > r["linear_bytes"] > 0 for r in d) and {"GQSA", "AST", "EvoPress"} <= {r["method"] for r in d}'
  [ "$(ls demo_out/*.safetensors | wc -l)" -eq 12 ] || fail 'demo: not one file a row' "$(ls demo_out)"
fi

if [ -x "$programs/embed_in_engine" ]; then
  good embed_in_engine engine.safetensors 3  # fails where its result is not what doubles give
  bad 'usage' embed_in_engine
  bad 'free space' embed_in_engine absent/engine.safetensors
fi

finish
