# SPDX-License-Identifier: Apache-2.0
"""Compile time and code size of one kernel each: what an engine pays for one format on one instruction set.

    python3 bench/kernel_cost.py [--compiler g++] [--json FILE]

Every row is one translation unit that includes the CPU kernels and instantiates multiply_tiles for one format, one
instruction set and one kind of activations, -O2, no -m flags. Seconds of CPU time, the smaller of two; `headers` is
the same unit without the instantiation. Bytes are those of .text.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FORMATS = [("bsr<16, 32>", "affine<4, 32>"), ("group<16>", "affine<4, 16>"), ("group_nm<2, 4, 16>", "affine<4, 16>"),
           ("nm<2, 4>", "affine<4, 32>"), ("dense", "affine<4, 32>"), ("dense", "affine<3, 16, two_level>")]
ISAS = [("avx512_vnni", "int8_groups<32>"), ("avx512_bf16", "bf16"), ("avx512", "float"),
        ("avx2", "int8_groups<32>"), ("avx2", "float")]
UNIT = """#include <quern/kernel/cpu/multiply.hpp>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
using namespace quern;
"""
KERNEL = """template <class P, class Q, class A, class I>
void use(const matrix_view<P, Q>& w, const activation_view<A>& x, span2<float> y) {{
  if constexpr (kernel<I>::template supports<P, Q, A>) kernel<I>::multiply_tiles(w, 0, 1, x, y);
}}
template void use<{p}, {q}, {a}, isa::{i}>(const matrix_view<{p}, {q}>&, const activation_view<{a}>&, span2<float>);
"""


def cost(compiler, text):
    """CPU seconds and bytes of .text."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = os.path.join(folder, "unit.cpp"), os.path.join(folder, "unit.o")
        with open(source, "w", encoding="utf-8") as f:
            f.write(text)
        seconds = []
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([compiler, "-std=c++20", "-O2", "-I", os.path.join(ROOT, "include"), "-c", source, "-o", out],
                           check=True, env={**os.environ, "CCACHE_DISABLE": "1"})
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        sizes = subprocess.run(["size", "-A", out], capture_output=True, text=True, check=True).stdout.splitlines()
        text_bytes = sum(int(line.split()[1]) for line in sizes if line.startswith(".text"))
        return min(seconds), text_bytes


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--compiler", default="g++")
    p.add_argument("--json", help="also write the rows here")
    p.add_argument("--quick", action="store_true", help="only the first format")
    args = p.parse_args()
    rows = []

    def show(label, text):
        seconds, size = cost(args.compiler, text)
        rows.append({"kernel": label, "seconds": round(seconds, 2), "bytes": size})
        print(f"{label:64} {seconds:6.2f} s {size:8} bytes", flush=True)

    show("headers", UNIT)
    for pattern, quantizer in FORMATS[:1] if args.quick else FORMATS:
        for isa, activations in ISAS:
            show(f"{pattern} {quantizer} {isa} {activations}".replace(", ", ","),
                 UNIT + KERNEL.format(p=pattern, q=quantizer, a=activations, i=isa))
    if args.json:
        with open(args.json + ".new", "w", encoding="utf-8") as f:
            json.dump(rows, f, indent=1)
        os.replace(args.json + ".new", args.json)


sys.exit(main())
