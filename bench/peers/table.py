# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/results/cpu_kernels.md from samples of bench/peers.py: median / minimum in microseconds, and in
brackets how many times as fast as the reference, by medians. With two threads, where all wait for memory, also what each
takes of a plain read, and what its bits alone would give: the reference's bits over them.

    python3 bench/peers/table.py gemv.json gemm.json
"""
import json
import re
import statistics
import sys

ACTIVATIONS = {"avx512vnni": "int8", "avx512vnni/int24": "int24", "avx512vnni-token": "int8 per token", "avx512": "fp32", "avx512bf16": "bf16"}
NAMES = {"llama.cpp: q4_0+": "llama.cpp Q4_0 repacked", "ONNX Runtime: onnxruntime": "ONNX Runtime MatMulNBits 4 bits",
         "oneDNN (torch): onednn": "oneDNN dynamic int8 (torch)", "OpenVINO: openvino": "OpenVINO u4, group 32, dynamic int8"}


def title(row):
    ours = re.match(r"quern: gem[vm]/([^/]+)/([^/]+)/(\S+)", row)
    return f"`{ours[1]}` `{ours[2]}` {ACTIVATIONS[ours[3]]}" if ours else NAMES.get(row, row)


def number(us):
    return f"{us:,.0f}" if us >= 1000 else f"{us:.4g}"


def table(rows, reference, columns):
    """Rows in the order of the first column; columns: [(title, case)]."""
    print("| | " + " | ".join(text for text, _ in columns) + " |\n|" + "---|" * (len(columns) + 1))
    cases = [case for _, case in columns]
    first = lambda row: statistics.median(rows[row].get(cases[0], [float("inf")]))
    for row in sorted((r for r in rows if any(c in rows[r] for c in cases)), key=first):
        cells = []
        for case in cases:
            us, base = rows[row].get(case), rows[reference].get(case)
            middle = statistics.median(us) if us else 0
            cells.append(f"{number(middle)} / {number(min(us))} ({statistics.median(base) / middle:.2f}x)" if us else "")
        print(f"| {title(row)} | " + " | ".join(cells) + " |")
    print()


def roof(samples, rows, reference, case):
    """What memory leaves of the ratios of one case."""
    measured = {}
    for s in samples:
        if case_of(s) == case and "of_stream" in s:
            measured.setdefault(s["name"], []).append((s["of_stream"], s["bits_per_weight"]))
    if reference not in measured:
        return
    bits = {row: of[0][1] for row, of in measured.items()}
    share = {row: statistics.median(of for of, _ in of) for row, of in measured.items()}
    base = statistics.median(rows[reference][case])
    print("| | us, median / minimum | over the reference | bits | of a plain read | by bits |\n" + "|---" * 6 + "|")
    for row in sorted(measured, key=lambda r: statistics.median(rows[r][case])):
        us = rows[row][case]
        middle = statistics.median(us)
        print(f"| {title(row)} | {number(middle)} / {number(min(us))} | {base / middle:.2f} | {bits[row]:.2f} | "
              f"{100 * share[row]:.0f} % | {bits[reference] / bits[row]:.2f} |")
    print()


def case_of(sample):
    c = sample["case"]
    return (int(c["rows"]), int(c["cols"]), int(c["batch"]), int(c["threads"]), c.get("weights", "cold"))


def main():
    rows, reference, samples = {}, None, []
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as f:
            found = json.load(f)
        reference = found["reference"]
        samples += found["samples"]
        for s in found["samples"]:
            rows.setdefault(s["name"], {}).setdefault(case_of(s), []).append(s["us"])
    text = {1: "1 thread", 2: "2 threads"}
    for shapes, weights in (((4096, 4096), (11008, 4096)), "cold"), (((576, 576), (1536, 576)), "cold"), \
                           (((576, 576), (1536, 576)), "cached"):
        table(rows, reference, [(f"{n} x {k}, {text[t]}", (n, k, 1, t, weights)) for n, k in shapes for t in text])
    for shape in ((4096, 4096), (11008, 4096)):
        roof(samples, rows, reference, (*shape, 1, 2, "cold"))
    for threads in text:
        table(rows, reference, [(f"M = {m}, {text[threads]}", (4096, 4096, m, threads, "cold")) for m in (4, 16, 64, 512)])


if __name__ == "__main__":
    main()
