# SPDX-License-Identifier: Apache-2.0
"""Compiles and links what needs nvcc, and runs it: the device test, the example, the benchmark.

Without a device each must print SKIPPED and end with status 77; with one, the device test and a short benchmark must
pass. The example is then asked for its usage.
"""
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from cuda_tools import ROOT, SKIP, find_nvcc, nvcc_command

# source, libraries, headers without which it is left out, arguments where there is a device, status expected there
PROGRAMS = [
    ("tests/cuda/gpu/device.cu", [], [], [], 0),
    ("examples/gpu/multiply.cu", [], [], [], 2),
    ("bench/gpu/multiply.cu", ["-lcublas", "-lbenchmark", "-lpthread"], ["benchmark/benchmark.h", "cublas_v2.h"],
     ["--benchmark_filter=group.*N4096/K4096/M1$", "--benchmark_min_time=0.01"], 0),
]


def has(nvcc, header):
    done = subprocess.run([nvcc, "-x", "cu", "-E", "-", "-o", os.devnull], input=f"#include <{header}>\n", text=True,
                          capture_output=True, check=False)
    return done.returncode == 0


def check(nvcc, work, source, libraries, headers, arguments, status):
    missing = [h for h in headers if not has(nvcc, h)]
    if missing:
        return f"{source}: not built; {missing[0]} is not installed", None
    program = os.path.join(work, source.replace("/", "_")[:-3])
    done = subprocess.run([*nvcc_command(nvcc, "sm_80"), "-O1", os.path.join(ROOT, source), "-o", program, *libraries],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"{source}: does not compile\n{done.stderr}", False
    environment = dict(os.environ)
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(nvcc))), "lib64")
    environment["LD_LIBRARY_PATH"] = folder + os.pathsep + environment.get("LD_LIBRARY_PATH", "")
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=environment)
    skipped = ran.returncode == SKIP and "SKIPPED" in ran.stdout
    return f"{source}: built; {ran.stdout.strip()} {ran.stderr.strip()}", skipped or ran.returncode == status


def main():
    nvcc = find_nvcc()
    work = sys.argv[1]
    os.makedirs(work, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda program: check(nvcc, work, *program), PROGRAMS))
    for text, _ in results:
        print(text)
    sys.exit(1 if any(ok is False for _, ok in results) else 0)


main()
