#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What becomes of retrained models in 4 bits: a file of each for `generate`, its bits, bytes and perplexity.

  bash examples/retrain_experiments.sh build/release/examples build/retrain
  python3 examples/retrain_files.py build/retrain --build build/release/examples

Takes the runs of that script that are there: dense (trained on as long), 2:4 (annealed, KL), 2:4 with side weights (SLoRB).
Each is rounded to nearest, by GPTQ, and by GPTQ with the second stage of GQSA after it (not beside side weights); masks stay
(`compress --choose given`). A result that is there is not made again; the files stay in the folder.
"""
import argparse
import json
import math
import os
import statistics
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
RUNS = {"dense_ce": "dense", "annealed_kl": "nm<2,4>", "slorb_kl": "nm<2,4>"}
WAYS = {"rtn": ["--rounding", "rtn"], "gptq": [], "stage 2": ["--e2e", "60", "--kl", "1"]}


def run(command, log):
    with open(log, "a", encoding="utf-8") as out:
        subprocess.run(command, check=True, stdout=out, stderr=out)


def read(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def perplexity(args, base):
    """What perplexity says of base.safetensors; its JSON is there only when it has finished."""
    to = base + ".ppl"
    if not os.path.exists(to):
        run([os.path.join(args.build, "perplexity"), base + ".safetensors", "--text", os.path.join(HERE, "data/held_out.txt"),
             "--context", "256", "--windows", "128", "--threads", str(args.threads), "--json", to], to + ".log")
    return read(to)


def in_4_bits(args, name, seed, way):
    """Bits per weight of the linears, and what perplexity says."""
    base = os.path.join(args.folder, f"{name}.{seed}")
    to = f"{base}.w4.{way.replace(' ', '')}"
    if not os.path.exists(to + ".ppl"):
        choose = [] if RUNS[name] == "dense" else ["--choose", "given", "--compensate", "none"]
        run([os.path.join(args.build, "compress"), base + ".safetensors", "--text", os.path.join(HERE, "data/calibration.txt"),
             "--context", "256", "--windows", "128", "--seed", str(seed), "--pattern", RUNS[name], "--quantizer", "affine<4,64>",
             "--threads", str(args.threads), "-o", to + ".safetensors", "--json", to + ".notes", *choose, *WAYS[way]],
            to + ".log")
    found = perplexity(args, to)
    return read(to + ".notes")["bits_per_weight"], found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="where retrain_experiments.sh left its models")
    p.add_argument("--build", default="build/release/examples", help="folder of compress and perplexity")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    print("| run | 4 bits by | seeds | bits per weight | bytes of weights | perplexity before | perplexity |")
    print("|---|---|---|---|---|---|---|")
    for name in RUNS:
        seeds = [s for s in range(1, 100) if os.path.exists(os.path.join(args.folder, f"{name}.{s}.safetensors"))]
        before = [perplexity(args, os.path.join(args.folder, f"{name}.{s}"))["nll"] for s in seeds]
        for way in WAYS if name != "slorb_kl" else list(WAYS)[:2]:
            found = [in_4_bits(args, name, s, way) for s in seeds]
            if found:
                print(f"| {name} | {way} | {len(seeds)} | {found[0][0]:.3f} | {found[0][1]['weight_bytes']:,} | "
                      f"{math.exp(statistics.mean(before)):.4f} | "
                      f"{math.exp(statistics.mean(f['nll'] for _, f in found)):.4f} |", flush=True)


main()
