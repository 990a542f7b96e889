# SPDX-License-Identifier: Apache-2.0
"""The gates themselves: each must pass a clean tree and refuse each planted error with the right sentence."""
import os
import platform
import subprocess
import sys
import tempfile
from common import SKIP

HERE = os.path.dirname(os.path.abspath(__file__))
CLEAN = {
    "include/quern/core/a.hpp": "#include <cstddef>\n",
    "include/quern/pattern/p.hpp": "#include <quern/core/a.hpp>\n",
    "include/quern/kernel/cpu/eigen.hpp": "",
    "include/quern/quern.hpp": "#include <quern/pattern/p.hpp>\n",
}
LONG = "\n".join(f"struct s{i} {{}};" for i in range(401))
MANY = "".join(f"struct t{i} {{}};\n#define L{i} struct u{i} {{}};\nL{i}\n" for i in range(4000))
# gate, file, text after the two first lines, sentence
PLANTED = [
    ("include_table", "include/quern/quant/q.hpp", "#include <quern/pattern/p.hpp>", "quant must not include pattern"),
    ("include_table", "include/quern/core/b.hpp", "#include <quern/pattern/p.hpp>", "core must not include pattern"),
    ("include_table", "include/quern/search/s.hpp", "#include <Eigen/Core>", "search must not include <Eigen/Core>"),
    ("include_table", "include/quern/kernel/cpu/k.hpp", "#include <Eigen/Core>", "must not include <Eigen/Core>"),
    ("include_table", "include/quern/format/f.hpp", "#include <immintrin.h>", "must not include <immintrin.h>"),
    ("include_table", "include/quern/format/f.hpp", "#include <memory>", "<memory> is too heavy"),
    ("include_table", "include/quern/core/b.hpp", "# include <iostream>", "<iostream> is too heavy"),
    ("include_table", "include/quern/core/b.hpp", "#include <omp.h>", "core must not include <omp.h>"),
    ("include_table", "include/quern/pattern/r.hpp", '#include "p.hpp"', 'instead of "p.hpp"'),
    ("include_table", "include/quern/io/i.hpp", "#include <nlohmann/json.hpp>", "must not include <nlohmann/json.hpp>"),
    ("include_table", "include/quern/format/f.hpp", "#include <quern/quern.hpp>", "the umbrella <quern/quern.hpp>"),
    ("include_table", "include/quern/format/f.hpp", "#include <quern/core/gone.hpp>", "does not exist"),
    ("include_table", "include/quern/other/o.hpp", "", "its folder is not in the table"),
    ("include_table", "include/quern/quern.hpp", "#include <quern/kernel/cpu/eigen.hpp>\n",
     "<quern/quern.hpp> reaches <Eigen/Core>"),
    ("include_table", "include/quern/kernel/cpu/k.hpp",
     'QUERN_TARGET_BEGIN("avx2")\n#include <cstddef>\nQUERN_TARGET_END', "inside a target region"),
    ("self_contained", "include/quern/core/b.hpp", "inline std::size_t f() { return 0; }", "does not compile alone"),
    ("self_contained", "include/quern/core/b.hpp", "inline int f(long x) { return x; }", "-Werror=conversion"),
    ("style", "include/quern/core/b.hpp", LONG, "403 lines; split it"),
    ("style", "include/quern/core/b.hpp", "// TODO later", "needs its issue number"),
    ("line_budget", "include/quern/pattern/r.hpp", MANY, "its budget is 6000"),
]


def write(root, name, text, head="// SPDX-License-Identifier: Apache-2.0\n#pragma once\n"):
    path = os.path.join(root, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(head + text)


def run(gate, root, *arguments):
    done = subprocess.run([sys.executable, os.path.join(HERE, gate + ".py"), "--root", root, *arguments], text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def expect(what, outcome, status, sentence=""):
    """[] if the gate ended with this status (or was skipped) and said this sentence, else the failure."""
    if outcome[0] == SKIP or (outcome[0] == status and sentence in outcome[1]):
        return []
    return [f"{what}: status {outcome[0]} instead of {status}, or without '{sentence}':\n{outcome[1][-2000:]}"]


def snippets():
    with tempfile.TemporaryDirectory() as root:
        write(root, "a.cpp", "  //! [one]\n  int x;\n    int y;\n  //! [one]\n", "")
        block = "<!-- snippet: a.cpp [one] -->\n```cpp\nint x;\n  int y;\n```\n"
        write(root, "README.md", "# A\n" + block, "")
        failures = expect("snippets, clean", run("snippets", root), 0)
        for text, sentence in [(block.replace("int x", "int z"), "README.md:3: differs from [one] of a.cpp"),
                               (block.replace("[one]", "[two]"), "no region"),
                               (block.split("\n", 1)[1], "say which compiled text")]:
            write(root, "README.md", "# A\n" + text, "")
            failures += expect("snippets", run("snippets", root), 1, sentence)
        write(root, "README.md", "# A\n" + block.replace("int x", "int z"), "")
        run("snippets", root, "--write")
        return failures + expect("snippets --write", run("snippets", root), 0)


def compile_fail():
    failures = []
    with tempfile.TemporaryDirectory() as root:
        case = os.path.join(root, "case.cpp")
        long = "".join(f"int a{i} = b{i};\n" for i in range(41))
        for text, status, sentence in [('static_assert(false, "nope");', 0, "refused"),
                                       ("int x;", 1, "it compiles"),
                                       ("int x = y;", 1, "does not say 'nope'"),
                                       ('static_assert(false, "nope");\n' + long, 1, "40 at most")]:
            write(root, "case.cpp", "// expect: nope\n" + text + "\n", "")
            failures += expect(f"compile_fail, {text[:30]}", run("compile_fail", root, case), status, sentence)
        write(root, "case.cpp", "int x = y;\n", "")
        return failures + expect("compile_fail", run("compile_fail", root, case), 1, "has no line")


def shared_code():
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    text = """namespace quern { __attribute__((noinline)) inline float f(float* x, float* y) { return *x + *y; }
              __attribute__((noinline)) inline int g() { return 1; } }
              float NAME(float* x) { return quern::f(x, x) + quern::g(); }"""
    failures = []
    with tempfile.TemporaryDirectory() as root:
        for inside, status, sentence in [(False, 1, "quern::f(float*, float*)"), (True, 0, "1 shared functions")]:
            objects = []
            for name, flags in [("wide", ["-mavx2"]), ("base", [])]:
                objects.append(os.path.join(root, name + ".o"))
                part = text.replace("NAME", name)
                if inside:  # as QUERN_BUILD does: the name of the function tells the flags
                    part = part.replace("namespace quern {", f"namespace quern {{ inline namespace {name}_build {{", 1)
                    part = part.replace("return *x + *y; }", "return *x + *y; } }")
                subprocess.run(["g++", "-O1", *flags, "-c", "-x", "c++", "-", "-o", objects[-1]], input=part, text=True,
                               check=True)
            failures += expect("shared_code", run("shared_code", root, *objects), status, sentence)
    return failures


def format_check():
    with tempfile.TemporaryDirectory() as root:
        write(root, ".clang-format", "BasedOnStyle: Google\n", "")
        write(root, "include/quern/a.hpp", "int x;\n", "")
        failures = expect("format, clean", run("format", root), 0)
        write(root, "include/quern/a.hpp", "int  x;\n", "")
        return failures + expect("format", run("format", root), 1, "run clang-format-14")


def main():
    failures = []
    plants = [(g, f, t, s, None) for g, f, t, s in PLANTED]
    plants.append(("style", "include/quern/core/b.hpp", "", "must be the SPDX line", "// Copyright\n#pragma once\n"))
    plants.append(("style", "include/quern/core/b.hpp", "", "must be #pragma once",
                   "// SPDX-License-Identifier: Apache-2.0\n#ifndef X\n#define X\n#endif\n"))
    for gate in sorted({p[0] for p in plants}):
        with tempfile.TemporaryDirectory() as root:
            for name, text in CLEAN.items():
                write(root, name, text)
            status, output = run(gate, root)
            if status != 0:
                failures.append(f"{gate} refuses a clean tree:\n{output}")
    for gate, name, text, sentence, head in plants:
        with tempfile.TemporaryDirectory() as root:
            for clean, clean_text in CLEAN.items():
                write(root, clean, clean_text)
            if name == "include/quern/quern.hpp":
                write(root, "include/quern/kernel/cpu/eigen.hpp", "#include <Eigen/Core>\n")
            write(root, name, text + "\n", **({"head": head} if head else {}))
            status, output = run(gate, root)
            if status != 1 or sentence not in output:
                failures.append(f"{gate} does not refuse {name} with '{sentence}':\n{output[-2000:]}")
    others = [snippets, compile_fail, shared_code, format_check]
    for check in others:
        failures += check()
    for failure in failures:
        print(failure)
    print(f"self_test: {len(plants)} planted errors, {len(others)} further gates, {len(failures)} failure(s)")
    sys.exit(1 if failures else 0)


main()
