# SPDX-License-Identifier: Apache-2.0
"""The table of examples/retrain_experiments.sh as Markdown: one row per variant, means over the seeds."""
import collections
import glob
import json
import math
import os
import sys


def main():
    runs = collections.defaultdict(list)
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
        with open(path, encoding="utf-8") as f:
            runs[os.path.basename(path).split(".")[0]].append(json.load(f))
    print("| run | pattern | variant | loss | SLoRB k | seeds | one-shot ppl | ppl | spread | early flips | final flips | drift |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, found in runs.items():
        nll = [r["nll"] for r in found]
        mean = sum(nll) / len(nll)
        starts = [r["start_nll"] for r in found if r["start_nll"] is not None]  # resumed runs do not know theirs
        start = f"{math.exp(sum(starts) / len(starts)):.4f}" if starts else "-"
        spread = f"{math.exp(max(nll) - min(nll)) - 1:.2%}" if len(nll) > 1 else "-"
        average = lambda key: sum(r[key] for r in found) / len(found)
        r = found[0]
        print(f"| {name} | {r['pattern']} | {r['variant']} | {r['loss']} | {r['slorb'] or '-'} | {len(found)} | "
              f"{start} | {math.exp(mean):.4f} | {spread} | "
              f"{average('early_flips'):.5f} | {average('final_flips'):.5f} | {average('drift'):.4f} |")


main()
