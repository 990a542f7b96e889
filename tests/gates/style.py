# SPDX-License-Identifier: Apache-2.0
"""SPDX line first, then #pragma once; at most 400 lines a header; no TODO without an issue; no machine paths."""
import os
import re
import subprocess
from common import headers, lines, parser, report

SPDX = "SPDX-License-Identifier: Apache-2.0"
LONGEST = 400
LICENSED = (".hpp", ".inl", ".cuh", ".cpp", ".cu", ".py", ".sh", ".cmake", "CMakeLists.txt", ".in")
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")


def tracked(root):
    """Files that git knows, or every file where the tree is no checkout."""
    git = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if git.returncode == 0:
        return [n for n in git.stdout.split("\0") if n]
    return [os.path.relpath(os.path.join(d, n), root) for d, _, names in os.walk(root) for n in names]


def main():
    root = parser(__doc__).parse_args().root
    errors = []
    found = headers(root, ".hpp", ".inl", ".cuh")
    for header in found:
        text = lines(root, header)
        where = f"include/{header}"
        if len(text) > LONGEST:
            errors.append(f"{where}: {len(text)} lines; split it ({LONGEST} at most)")
        if not header.endswith(".inl") and text[1:2] != ["#pragma once"]:
            errors.append(f"{where}:2: must be #pragma once")
    files = [f for f in tracked(root) if f.endswith(LICENSED) and os.path.exists(os.path.join(root, f))]
    files += [f"include/{h}" for h in found if f"include/{h}" not in files]
    for name in files:
        with open(os.path.join(root, name), encoding="utf-8") as f:
            text = f.read().splitlines()
        first = text[1:2] if text[:1] and text[0].startswith("#!") else text[:1]
        if not first or SPDX not in first[0]:
            errors.append(f"{name}:1: must be the SPDX line ({SPDX})")
        for number, line in enumerate(text, 1):
            if TODO.search(line) and not name.startswith("tests/gates/"):
                errors.append(f"{name}:{number}: a TODO needs its issue number, as in TODO(#12)")
    report("style", errors, len(files))


main()
