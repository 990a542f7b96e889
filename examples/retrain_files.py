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


def measure(args, model, to):
    run([os.path.join(args.build, "perplexity"), model, "--text", os.path.join(HERE, "data/held_out.txt"), "--context", "256",
         "--windows", "128", "--threads", str(args.threads), "--json", to], to + ".log")
    with open(to, encoding="utf-8") as f:
        return json.load(f)


def one(args, name, seed, way):
    base = os.path.join(args.folder, f"{name}.{seed}")
    to = f"{base}.w4.{way.replace(' ', '')}"
    result = to + ".json"
    if not os.path.exists(result):
        choose = [] if RUNS[name] == "dense" else ["--choose", "given", "--compensate", "none"]
        run([os.path.join(args.build, "compress"), base + ".safetensors", "--text", os.path.join(HERE, "data/calibration.txt"),
             "--context", "256", "--windows", "128", "--seed", str(seed), "--pattern", RUNS[name], "--quantizer", args.quantizer,
             "--threads", str(args.threads), "-o", to + ".safetensors", "--json", to + ".notes", *choose, *WAYS[way]],
            to + ".log")
        with open(to + ".notes", encoding="utf-8") as f:
            bits = json.load(f)["bits_per_weight"]
        found = measure(args, to + ".safetensors", to + ".ppl")
        with open(result + ".part", "w", encoding="utf-8") as f:
            json.dump({"bits": bits, "bytes": found["weight_bytes"], "nll": found["nll"]}, f)
        os.replace(result + ".part", result)
    with open(result, encoding="utf-8") as f:
        return json.load(f)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="where retrain_experiments.sh left its models")
    p.add_argument("--build", default="build/release/examples", help="folder of compress and perplexity")
    p.add_argument("--quantizer", default="affine<4,64>")
    p.add_argument("--threads", type=int, default=1)
    args = p.parse_args()
    print("| run | 4 bits by | seeds | bits per weight | bytes of weights | perplexity before | perplexity |")
    print("|---|---|---|---|---|---|---|")
    for name in RUNS:
        seeds = [s for s in range(1, 100) if os.path.exists(os.path.join(args.folder, f"{name}.{s}.safetensors"))]
        before = [measure(args, os.path.join(args.folder, f"{name}.{s}.safetensors"),
                          os.path.join(args.folder, f"{name}.{s}.ppl"))["nll"] for s in seeds]
        for way in WAYS if name != "slorb_kl" else list(WAYS)[:2]:
            found = [one(args, name, s, way) for s in seeds]
            if found:
                print(f"| {name} | {way} | {len(seeds)} | {found[0]['bits']:.3f} | {found[0]['bytes']:,} | "
                      f"{math.exp(statistics.mean(before)):.4f} | "
                      f"{math.exp(statistics.mean(f['nll'] for f in found)):.4f} |", flush=True)


main()
