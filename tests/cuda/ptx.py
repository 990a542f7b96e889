# SPDX-License-Identifier: Apache-2.0
"""Executes the PTX of every kernel of tests/cuda/table.hpp on a CPU and compares with the scalar oracle.

ptxsim (a numpy interpreter of PTX, not part of this project) is looked for in $QUERN_PTXSIM and in shared/tools/ptxsim
beside the project's folder or one of its parents. Besides results it must report nothing: no access out of bounds, no race in
shared memory, no copy read before its wait, no missing lane. With --table FILE the counts are written as a table.
"""
import argparse
import os
import subprocess
import sys
from cuda_tools import ROOT, compile_cu, find_nvcc, numpy_or_skip, skip

ARCHITECTURES = ("sm_80", "sm_90")
# GEMV kernels of these patterns have no excuse for a bank conflict (kernel/cuda/gemv.hpp says who has).
SHARED_COLUMNS = ("gemv_bsr16", "gemv_bsr32", "gemv_dense")


def find_ptxsim():
    places = [os.environ.get("QUERN_PTXSIM", "")]
    folder = ROOT
    while folder != os.path.dirname(folder):
        places.append(os.path.join(folder, "shared", "tools", "ptxsim"))
        folder = os.path.dirname(folder)
    for place in places:
        if place and os.path.exists(os.path.join(place, "ptxsim.py")):
            return place
    skip("ptxsim was not found (QUERN_PTXSIM names its folder)")


def read_cases(folder):
    """{kernel: fields} of cases.txt; the words after a name up to the next name are its values."""
    cases = {}
    with open(os.path.join(folder, "cases.txt"), encoding="utf-8") as f:
        for line in f:
            words = line.split()
            fields, key = {}, None
            for word in words[1:]:
                if word.isalpha():
                    key = word
                    fields[key] = []
                else:
                    fields[key].append(word)
            cases[words[0]] = fields
    return cases


def add_sparse_bytes(ptxsim, np):
    """mma.sp.m16n8k64 of signed bytes, which ptxsim lacks. Metadata as the PTX ISA draws it: of the four lanes of a group,
    0 and 1 have columns 0-31 of rows g and g + 8, lanes 2 and 3 columns 32-63."""
    original = ptxsim.Exec.i_mma

    def i_mma(ex, op, operands, active):
        if op[-4:] != ["s32", "s8", "s8", "s32"] or not any(o.startswith("sp") for o in op):
            return original(ex, op, operands, active)
        lanes = ex.full_warps(active)
        warps, warp = len(lanes), np.arange(len(lanes))
        group, in_group = np.arange(32) // 4, np.arange(32) % 4

        def registers(operand):
            return [ex.v(r, "b32")[lanes] for r in ptxsim.split(operand[1:-1])]

        def as_bytes(words):
            return np.ascontiguousarray(words).view(np.int8).reshape(warps, 32, 4).astype(np.int64)

        kept, a, b = (np.zeros((warps, *shape), np.int64) for shape in ((16, 32), (16, 64), (64, 8)))
        for i, words in enumerate(registers(operands[1])):
            for e in range(4):
                kept[:, group + 8 * (i % 2), i // 2 * 16 + in_group * 4 + e] = as_bytes(words)[:, :, e]
        for i, words in enumerate(registers(operands[2])):
            for e in range(4):
                b[:, i * 16 + in_group * 4 + e, group] = as_bytes(words)[:, :, e]
        metadata = ex.v(operands[4], "b32")[lanes]
        for row in range(16):
            for window in range(16):
                lane = 4 * (row % 8) + row // 8 + 2 * (window // 8)
                pair = metadata[:, lane] >> np.uint32(4 * (window % 8)) & np.uint32(15)
                first, second = (pair & 3).astype(int), (pair >> 2).astype(int)
                if (first >= second).any():
                    ex.report("MMA.SP METADATA", "indices not increasing")
                a[warp, row, window * 4 + first] += kept[:, row, 2 * window]
                a[warp, row, window * 4 + second] += kept[:, row, 2 * window + 1]
        sums = a @ b
        for i, (target, source) in enumerate(zip(ptxsim.split(operands[0][1:-1]), registers(operands[3]))):
            out = np.zeros(ex.N, np.int32)
            place = sums[:, group + 8 * (i // 2), 2 * in_group + i % 2]
            out[lanes] = (place + source.view(np.int32)).astype(np.int32)
            ex.set(target, out, active)
        return None

    ptxsim.Exec.i_mma = i_mma


class Counter:
    """Wraps ptxsim's memory accesses: sectors of the copies of weights, which are those without a size operand."""

    def __init__(self, ptxsim, np):
        self.np, self.requests, self.sectors, self.ideal = np, 0, 0, 0
        original = ptxsim.Exec.access
        counter = self

        def access(ex, space, address, index, n, write):
            if space == "global" and ex.txt.startswith("cp.async") and n == 16 and len(index):
                for warp in np.unique(ex.warp[index]):
                    lanes = index[ex.warp[index] == warp]
                    counter.requests += 1
                    counter.sectors += len(np.unique(address[lanes] // np.uint64(32)))
                    counter.ideal += (len(lanes) + 1) // 2
            return original(ex, space, address, index, n, write)

        ptxsim.Exec.access = access

    def reset(self):
        self.requests = self.sectors = self.ideal = 0


def run_case(ptxsim, np, module, folder, name, case):
    """(reports, largest error in units of the bound, profile)"""
    gpu = ptxsim.GPU()
    with open(os.path.join(folder, name + ".bin"), "rb") as f:
        argument = bytearray(f.read(int(case["argument"][0])))
        memory = [np.frombuffer(f.read(int(n)), np.uint8) for n in case["memory"]]
        result, count = map(int, case["result"])
        expected = np.frombuffer(f.read(8 * count))
        bound = np.frombuffer(f.read(8 * count))
        exact = {int(m): f.read(len(memory[int(m)])) for m in case["exact"]}
    addresses = [gpu.alloc(m.copy(), f"memory {i}") for i, m in enumerate(memory)]
    for place in case["places"]:
        at, which = map(int, place.split(":"))
        argument[at:at + 8] = int(addresses[which]).to_bytes(8, "little")
    grid = tuple(map(int, case["grid"]))
    reports = gpu.launch(module, name, grid, (int(case["threads"][0]),), [np.void(bytes(argument))],
                         dyn=int(case["shared"][0]))
    for which, wanted in exact.items():
        if gpu.read(addresses[which], memory[which]).tobytes() != wanted:
            reports[f"memory {which} differs from what the CPU writes"] += 1
    y = gpu.read(addresses[result], np.zeros(count, np.float32)).astype(np.float64)
    ratio = np.where(np.abs(y - expected) <= bound, np.abs(y - expected) / np.maximum(bound, 1e-300), np.inf)
    return reports, float(np.max(ratio, initial=0.0)), gpu.prof


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--export", required=True, help="the program that writes the cases")
    p.add_argument("--work", required=True, help="a folder for PTX and cases")
    p.add_argument("--table", help="write the counts to this file")
    p.add_argument("--only", default="", help="kernels whose name contains this")
    args = p.parse_args()
    nvcc = find_nvcc()
    place = find_ptxsim()
    np = numpy_or_skip(args.work)
    sys.path.insert(0, place)
    import ptxsim  # pylint: disable=import-error,import-outside-toplevel
    os.makedirs(args.work, exist_ok=True)
    subprocess.run([args.export, args.work], check=True)
    cases = read_cases(args.work)
    add_sparse_bytes(ptxsim, np)
    counter = Counter(ptxsim, np)
    failures, rows, seen = [], [], 0
    for arch in ARCHITECTURES:
        modules = [ptxsim.Module(compile_cu(nvcc, source, arch, "-ptx", args.work)) for source in sources()]
        for name, case in cases.items():
            if args.only not in name:
                continue
            module = next((m for m in modules if name in m.kernels), None)
            if module is None:
                failures.append(f"{arch} {name}: no such kernel in the PTX")
                continue
            counter.reset()
            reports, error, profile = run_case(ptxsim, np, module, args.work, name, case)
            seen += 1
            if reports:
                failures.append(f"{arch} {name}: {dict(reports)}")
            if error > 1:
                failures.append(f"{arch} {name}: differs from the oracle by more than its bound")
            conflict = profile["smem_wavefronts"] / max(1, profile["smem_ideal"])
            if counter.sectors > counter.ideal:
                failures.append(f"{arch} {name}: copies of weights touch {counter.sectors} sectors where {counter.ideal} "
                                "would do")
            if "gemm" not in name and any(p in name for p in SHARED_COLUMNS) and conflict > 1.005:
                failures.append(f"{arch} {name}: bank conflicts, factor {conflict:.2f}, where all rows share columns")
            per_weight = 32 * profile["issues"] / int(case["weights"][0])
            rows.append(f"| {name} | {arch} | {counter.sectors / max(1, counter.requests):.2f} | "
                        f"{counter.ideal / max(1, counter.requests):.2f} | {conflict:.2f} | {per_weight:.1f} | {error:.2f} |")
            print(rows[-1], flush=True)
    if args.table:
        with open(args.table, "w", encoding="utf-8") as f:
            f.write("\n".join(rows) + "\n")
    for failure in failures:
        print(failure)
    print(f"{seen} launches, {len(failures)} failure(s)")
    sys.exit(1 if failures or seen == 0 else 0)


def sources():
    folder = os.path.join(ROOT, "tests", "cuda", "ptx")
    # api.cu has host code, and CUB's kernels.
    return sorted(os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".cu") and n != "api.cu")


main()
