# SPDX-License-Identifier: Apache-2.0
"""What the gates share: the list of headers, a compiler, and one way to report."""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def mpi_flag():
    """Where Open MPI keeps mpi.h, which is in no standard folder; the compiler's own folders elsewhere."""
    if wrapper := shutil.which("mpicxx"):
        done = subprocess.run([wrapper, "--showme:incdirs"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.split():
            return "-isystem" + done.stdout.split()[0]
    return "-pthread"


# header -> the flag that it asks for, and what must then be includable for it to be checked
FLAGS = {"quern/core/openmp.hpp": ("-fopenmp", "omp.h"), "quern/core/mpi.hpp": (mpi_flag(), "mpi.h")}
SKIP = 77  # ctest's SKIP_RETURN_CODE of all gates


def parser(doc):
    p = argparse.ArgumentParser(description=doc)
    p.add_argument("--root", default=ROOT, help="the tree to check; the self-test plants errors in a copy")
    return p


def headers(root, *endings):
    """Paths under include/ ("quern/core/error.hpp"), sorted."""
    top = os.path.join(root, "include")
    found = []
    for folder, _, names in os.walk(top):
        found += [os.path.relpath(os.path.join(folder, n), top) for n in names if n.endswith(endings)]
    return sorted(found)


def lines(root, header):
    with open(os.path.join(root, "include", header), encoding="utf-8") as f:
        return f.read().splitlines()


def includes(root, header):
    """(line number, bracket, name) of every #include."""
    for number, line in enumerate(lines(root, header), 1):
        if m := INCLUDE.match(line):
            yield number, m[1], m[2]


def find_compiler(name):
    """The compiler, or the suffixed name that Debian gives it; stops as skipped where there is none."""
    for candidate in (name, name + "-14", f"/usr/local/cuda/bin/{name}"):
        if path := shutil.which(candidate):
            return path
    print(f"SKIPPED: {name} is not installed")
    sys.exit(SKIP)


def eigen_flags():
    for folder in (os.environ.get("QUERN_EIGEN_INCLUDE"), "/usr/include/eigen3", "/usr/local/include/eigen3"):
        if folder and os.path.exists(os.path.join(folder, "Eigen/Core")):
            return ["-isystem", folder]
    return []


def compile_text(command, text):
    """Runs a compiler on a text; returns (exit status, output, messages)."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def flags_of(header, command):
    """What `command`, a compiler that reads its standard input, needs further for a header; None: not here."""
    if header not in FLAGS:
        return []
    flag, foreign = FLAGS[header]
    if compile_text([*command, flag], f"#include <{foreign}>\n")[0] == 0:
        return [flag]
    print(f"{header}: not checked; {command[0]} {flag} finds no <{foreign}>")
    return None


def for_each(function, items, jobs=2):
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, items))


def report(gate, errors, checked):
    """Prints the errors and ends the process."""
    for e in errors:
        print(e)
    print(f"{gate}: {len(errors)} error(s) in {checked} file(s)")
    sys.exit(1 if errors else 0)
