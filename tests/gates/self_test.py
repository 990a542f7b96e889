# SPDX-License-Identifier: Apache-2.0
"""The gates themselves: each must pass a clean tree and refuse each planted error with the right sentence."""
import os
import subprocess
import sys
import tempfile

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


def run(gate, root):
    done = subprocess.run([sys.executable, os.path.join(HERE, gate + ".py"), "--root", root], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


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
    for failure in failures:
        print(failure)
    print(f"self_test: {len(plants)} planted errors, {len(failures)} failure(s)")
    sys.exit(1 if failures else 0)


main()
