#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The comparison that GQSA's paper makes, with the same training for every format:

  python3 examples/gqsa.py --build build/release/examples --out build/gqsa            # embedded model, 3 seeds
  python3 examples/gqsa.py --out build/gqsa --table                                   # only print what is there

For every format and seed: one-shot, after stage 1 (compress --bqpo) and after stage 2 (--e2e), each measured with
perplexity on the held-out text. Every result is a JSON file in --out; what is there is not run again, and a run that
was interrupted goes on from its checkpoint.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
# name: (pattern, quantizer, density)
FORMATS = {
    "W4 20 % groups": ("group<16>", "affine<4,16>", 0.8),
    "W4 30 % groups": ("group<16>", "affine<4,16>", 0.7),
    "W4 40 % groups": ("group<16>", "affine<4,16>", 0.6),
    "W4 50 % groups": ("group<16>", "affine<4,16>", 0.5),
    "W2 run 16": ("dense", "affine<2,16>", 1),
    "W2 run 16 two-level": ("dense", "affine<2,16,two_level>", 1),
    "W2 run 64": ("dense", "affine<2,64>", 1),
    "W4 2:4": ("nm<2,4>", "affine<4,64>", 0.5),
    "W4 group_nm<2,4,16>": ("group_nm<2,4,16>", "affine<4,16>", 0.5),
    "W4 group_nm<3,4,16>": ("group_nm<3,4,16>", "affine<4,16>", 0.75),
    "W3 run 16 two-level": ("dense", "affine<3,16,two_level>", 1),
    "W3 run 64": ("dense", "affine<3,64>", 1),
    "W2 run 32": ("dense", "affine<2,32>", 1),
    "W3 run 16": ("dense", "affine<3,16>", 1),
    "W3 run 32": ("dense", "affine<3,32>", 1),
    "W4 bsr<16,32> 50 %": ("bsr<16,32>", "affine<4,32>", 0.5),
}
PLAIN = ["--score", "obs", "--compensate", "none", "--rounding", "rtn"]


def run(command, log):
    with open(log, "a", encoding="utf-8") as out:
        subprocess.run(command, check=True, stdout=out, stderr=out)


def stages(args, name, seed, start, options):
    """Runs one format and seed. Yields (stage, result) for what is not yet in --out."""
    pattern, quantizer, density = FORMATS[name]
    label = "".join(c if c.isalnum() else "_" for c in f"{name}_{start}_{seed}")
    base = os.path.join(args.out, label)
    common = [os.path.join(args.build, "compress"), args.model, "--text", args.text, "--pattern", pattern,
              "--quantizer", quantizer, "--density", str(density), "--windows", str(args.windows), "--seed", str(seed),
              "--threads", str(args.threads)] + options
    training = args.stage1.split() + ["--bqpo", "--checkpoint", base + ".blocks"]
    for stage, extra in (("one-shot", []), ("stage 1", training),
                         ("stage 2", training + ["--resume"] + args.stage2.split())):
        result = f"{base}.{stage.replace(' ', '')}.json"
        if os.path.exists(result):
            continue
        begin, model, notes = time.time(), base + ".safetensors", base + ".notes.json"
        resume = ["--resume"] if stage == "stage 1" and os.path.exists(base + ".blocks") else []
        run(common + extra + resume + ["-o", model, "--json", notes], base + ".log")
        minutes = (time.time() - begin) / 60
        run([os.path.join(args.build, "perplexity"), model, "--text", args.held_out, "--context", "512", "--windows",
             str(args.held_out_windows), "--threads", str(args.threads), "--json", base + ".ppl.json"], base + ".log")
        with open(notes, encoding="utf-8") as f:
            compressed = json.load(f)
        with open(base + ".ppl.json", encoding="utf-8") as f:
            measured = json.load(f)
        found = {"format": name, "start": start, "seed": seed, "stage": stage, "nll": measured["nll"],
                 "window_nll": measured["window_nll"], "bits": compressed["bits_per_weight"],
                 "weight_bytes": measured["weight_bytes"], "minutes": minutes, "peak_memory": compressed["peak_memory"]}
        with open(result + ".part", "w", encoding="utf-8") as f:
            json.dump(found, f)
        os.replace(result + ".part", result)
        print(f"{label} {stage}: nll {found['nll']:.4f}, {found['bits']:.3f} bits, {minutes:.1f} min", flush=True)


def dense_nll(args):
    path = os.path.join(args.out, "dense.json")
    if not os.path.exists(path):
        run([os.path.join(args.build, "perplexity"), args.model, "--text", args.held_out, "--context", "512",
             "--windows", str(args.held_out_windows), "--threads", str(args.threads), "--json", path],
            os.path.join(args.out, "dense.log"))
    with open(path, encoding="utf-8") as f:
        return json.load(f)["nll"]


def table(args):
    dense = dense_nll(args)
    print(f"dense: {dense:.4f} nats, perplexity {math.exp(dense):.3f}\n")
    print("| format | start | bits | seeds | one-shot | stage 1 | stage 2 | stage 1 / one-shot | stage 2 / one-shot |")
    print("|---|---|---|---|---|---|---|---|---|")
    found = [json.load(open(os.path.join(args.out, f), encoding="utf-8")) for f in sorted(os.listdir(args.out))
             if f.endswith(("one-shot.json", "stage1.json", "stage2.json"))]
    for start in ("plain", "repaired"):
        for name in FORMATS:
            rows = [r for r in found if r["format"] == name and r["start"] == start]
            mean, spread, seeds = {}, {}, 0
            for stage in ("one-shot", "stage 1", "stage 2"):
                lost = [r["nll"] - dense for r in rows if r["stage"] == stage]
                if lost:
                    mean[stage] = statistics.mean(lost)
                    spread[stage] = statistics.stdev(lost) / math.sqrt(len(lost)) if len(lost) > 1 else 0
                    seeds = len(lost)
            if not rows:
                continue
            cells = [f"{mean[s]:.4f} +- {spread[s]:.4f}" if s in mean else "-"
                     for s in ("one-shot", "stage 1", "stage 2")]
            shares = [f"{mean[s] / mean['one-shot']:.2f}" if s in mean else "-" for s in ("stage 1", "stage 2")]
            print(f"| {name} | {start} | {rows[0]['bits']:.3f} | {seeds} | {' | '.join(cells + shares)} |")


def main():
    data = os.path.join(HERE, "data")
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build/release/examples", help="folder of compress and perplexity")
    p.add_argument("--out", required=True, help="folder of the results")
    p.add_argument("--model", default=os.path.join(data, "quern-kjv-3m.safetensors"))
    p.add_argument("--text", default=os.path.join(data, "calibration.txt"))
    p.add_argument("--held-out", default=os.path.join(data, "held_out.txt"))
    p.add_argument("--held-out-windows", type=int, default=32)
    p.add_argument("--windows", type=int, default=64, help="calibration windows, the last 8 for validation")
    p.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    p.add_argument("--only", nargs="*", help="names of formats; default all")
    p.add_argument("--start", nargs="*", default=["plain"], choices=["plain", "repaired"],
                   help="one-shot without or with compensation (OBS, masked least squares, GPTQ)")
    p.add_argument("--stage1", default="--epochs 3 --batch 2")
    p.add_argument("--stage2", default="--e2e 60")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--table", action="store_true", help="only print the table")
    args = p.parse_args()
    os.makedirs(args.out, exist_ok=True)
    if not args.table:
        dense_nll(args)
        for seed in args.seeds:
            for name in args.only or FORMATS:
                for start in args.start:
                    stages(args, name, seed, start, PLAIN if start == "plain" else ["--refine", "20"])
    table(args)


main()
