# SPDX-License-Identifier: Apache-2.0
"""What ptxas and the disassembler say of every kernel of tests/cuda/ptx/*.cu, for sm_80 and sm_90.

No spills, no stack; registers that leave the theoretical occupancy asked for; weights copied 16 bytes at a time; tensor
core instructions where a kernel is made of them. With --table FILE the figures are written as a table.
"""
import argparse
import os
import re
import subprocess
import sys
from cuda_tools import ROOT, compile_cu, find_cuobjdump, find_nvcc

ARCHITECTURES = ("sm_80", "sm_90")
# first word of a kernel's name -> (most registers, what its code must contain, what it must not)
LIMITS = {
    # 64 registers: 1024 threads of 2048, half of what fits a multiprocessor
    "gemv": (64, r"LDGSTS\.E\.BYPASS\.\S*128", r"HMMA|LDL|STL"),
    # GEMM blocks are small and wide: 255 is the most there is; what counts is that nothing spills
    "gemm": (255, r"LDGSTS\.E\.BYPASS\.\S*128", r"LDL|STL"),
    "sparse": (255, r"LDGSTS\.E\.BYPASS\.\S*128", r"LDL|STL"),
    "pack": (64, None, r"LDL|STL"),
    "pool": (64, None, r"LDL|STL"),
    "quantize": (64, None, r"LDL|STL"),
    "count": (64, None, r"LDL|STL"),
    "select": (64, None, r"LDL|STL"),
    # what host code instantiates
    "template": (255, None, r"LDL|STL"),
}


def parse_ptxas(text):
    """{kernel: (registers, stack, spill stores, spill loads)}"""
    found, name, stack = {}, None, None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)'", line):
            name = m[1]
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack = tuple(map(int, m.groups()))
        elif (m := re.search(r"Used (\d+) registers", line)) and name:
            found[name] = (int(m[1]), *stack)
            name = None
    return found


def parse_sass(text):
    """{kernel: its instructions}"""
    found, name = {}, None
    for line in text.splitlines():
        if m := re.search(r"Function : (\S+)", line):
            name = m[1]
            found[name] = []
        elif name and (m := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?);", line)):
            found[name].append(m[1])
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--work", required=True, help="a folder for what is compiled")
    p.add_argument("--table", help="write the figures to this file")
    args = p.parse_args()
    nvcc = find_nvcc()
    os.makedirs(args.work, exist_ok=True)
    cuobjdump = find_cuobjdump(args.work)
    if cuobjdump is None:
        print("cuobjdump was not found, and pip cannot get it: SASS is not looked at")
    folder = os.path.join(ROOT, "tests", "cuda", "ptx")
    failures, rows = [], []
    for source in sorted(n for n in os.listdir(folder) if n.endswith(".cu")):
        for arch in ARCHITECTURES:
            kernels = parse_ptxas(compile_cu(nvcc, os.path.join(folder, source), arch, "-cubin", args.work))
            sass = {}
            if cuobjdump:
                cubin = os.path.join(args.work, f"{source[:-3]}.{arch}.cubin")
                environment = dict(os.environ)
                environment["PATH"] = os.path.dirname(cuobjdump) + os.pathsep + environment["PATH"]
                disassembly = subprocess.run([cuobjdump, "-sass", cubin], capture_output=True, text=True, check=False,
                                             env=environment)
                if disassembly.returncode != 0:
                    failures.append(f"{source} {arch}: cuobjdump: {disassembly.stderr.strip()}")
                sass = parse_sass(disassembly.stdout)
            if not kernels:
                failures.append(f"{source} {arch}: ptxas names no kernel")
            for name, (registers, stack, stores, loads) in sorted(kernels.items()):
                if name.startswith("_Z") and "N3cub" in name:  # CUB's, as pack.cuh instantiates it
                    if stores or loads:
                        failures.append(f"{arch} {name}: {stores + loads} bytes of spills; call CUB otherwise")
                    continue
                kind = "template" if name.startswith("_Z") else name.split("_")[0]
                if kind not in LIMITS:
                    failures.append(f"{name}: tests/cuda/static_gate.py has no limits for '{kind}'")
                    continue
                most, wanted, unwanted = LIMITS[kind]
                code = sass.get(name, [])
                count = lambda pattern, lines=code: sum(1 for line in lines if re.search(pattern, line))
                where = f"{arch} {name}: "
                if stack or stores or loads:
                    failures.append(where + f"{stack} bytes of stack, {stores + loads} bytes of spills")
                if registers > most:
                    failures.append(where + f"{registers} registers; {most} at most")
                if code and wanted and not count(wanted):
                    failures.append(where + f"no instruction matches {wanted}")
                if code and unwanted and count(unwanted):
                    failures.append(where + f"has instructions that match {unwanted}")
                if code and kind in ("gemm", "sparse") and not count(r"^(@\S+ )?(HMMA|IMMA)"):
                    failures.append(where + "has no tensor core instruction")
                copies, loads16, products = count("LDGSTS.*128"), count(r"LDG\.E.*128"), count("HMMA|IMMA")
                rows.append(f"| {name} | {arch} | {registers} | {copies} | {loads16} | {products} | {len(code)} |")
                print(rows[-1])
    if args.table:
        with open(args.table, "w", encoding="utf-8") as f:
            f.write("\n".join(rows) + "\n")
    for failure in failures:
        print(failure)
    print(f"{len(rows)} kernels, {len(failures)} failure(s)")
    sys.exit(1 if failures or not rows else 0)


main()
