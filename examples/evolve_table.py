# SPDX-License-Identifier: Apache-2.0
"""The tables of examples/evolve_experiments.sh as Markdown: per search what every method chose, means over the seeds."""
import collections
import glob
import json
import math
import os
import sys


def supersets(subsets, larger):
    """Of the pairs where the second drops what the first drops and one half more: how many are better for it."""
    fitness = {tuple(r["levels"]): r["fitness"] for r in larger}
    better, pairs, best = 0, 0, None
    for r in subsets:
        for unit, kept in enumerate(r["levels"]):
            more = tuple(r["levels"][:unit] + [0] + r["levels"][unit + 1:]) if kept else None
            if more not in fitness:
                continue
            pairs += 1
            better += fitness[more] < r["fitness"]
            if fitness[more] < r["fitness"] and (best is None or fitness[more] < best[1]):
                best = (r["fitness"], fitness[more], [i for i, k in enumerate(r["levels"]) if not k], unit)
    print(f"\n{better} of {pairs} pairs are better with one half more dropped", end="")
    print(f"; the best of them: {best[0]:.5f} without units {best[2]}, {best[1]:.5f} also without {best[3]}"
          if best else "")


def main():
    runs = collections.defaultdict(list)
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
        with open(path, encoding="utf-8") as f:
            runs[os.path.basename(path).rsplit(".", 2)[0]].append(json.load(f))
    brute = runs.pop("brute", None)
    searches = {name: runs.pop(name) for name in ("brute_search", "brute_pair") if name in runs}
    more = runs.pop("brute_more", None)
    for name, found in runs.items():
        print(f"\n### {name}, {len(found)} seed{'s' * (len(found) > 1)}\n")
        print("| method | bytes | calibration KL | layer errors | held-out nats | perplexity | dlog |")
        print("|---|---|---|---|---|---|---|")
        dense = found[0]["table"][0]["held_out_nll"]
        names = [r["name"] for r in found[0]["table"]]
        for method in names:
            rows = [next(r for r in f["table"] if r["name"] == method) for f in found]
            mean = lambda key: sum(r[key] for r in rows) / len(rows)
            nll = [r["held_out_nll"] for r in rows]
            spread = f" ({min(nll):.4f} to {max(nll):.4f})" if max(nll) - min(nll) > 5e-5 else ""
            print(f"| {method} | {mean('block_bytes'):,.0f} | {mean('fitness'):.5f} | {mean('summed_error'):.4f} | "
                  f"{mean('held_out_nll'):.4f}{spread} | {math.exp(mean('held_out_nll')):.4f} | "
                  f"{mean('held_out_nll') - dense:.4f} |")
        mean = lambda key: sum(f[key] for f in found) / len(found)
        print(f"\n{found[0]['generations']} generations of {found[0]['offspring']}, {mean('seconds'):.0f} s a search, "
              f"{sum(f['candidates'] / f['seconds'] for f in found) / len(found):.2f} candidates/s, "
              f"{mean('share_in_linears'):.0%} of the time in linears, {mean('share_of_halves_run'):.0%} of the halves run; "
              f"memory {mean('memory') / 1e6:.1f} MB of {mean('predicted_memory') / 1e6:.1f} predicted, levels "
              f"{mean('database') / 1e6:.1f} MB of {mean('predicted_database') / 1e6:.1f}.")
    for name, found in searches.items() if brute else ():
        optimum = brute[0]["all"][0]
        hits = [next((h[0] for h in f["history"] if abs(h[1] - optimum["fitness"]) < 1e-6), None) for f in found]
        print(f"\n### {name}\n\noptimum of {len(brute[0]['all'])}: {optimum['fitness']:.5f}; reached by "
              f"{sum(h is not None for h in hits)} of {len(hits)} searches, in generation "
              f"{', '.join(str(h) for h in hits)}")
    if brute and more:
        supersets(brute[0]["all"], more[0]["all"])


main()
