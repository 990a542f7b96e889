# SPDX-License-Identifier: Apache-2.0
"""Every C++ file is as clang-format 14 leaves it (other versions format differently)."""
import os
import shutil
import subprocess
import sys
from common import SKIP, for_each, headers, parser, report


def main():
    root = parser(__doc__).parse_args().root
    tool = shutil.which("clang-format-14")
    if not tool:
        print("SKIPPED: clang-format-14 is not installed")
        sys.exit(SKIP)
    git = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True, check=False)
    files = git.stdout.split("\0") if git.returncode == 0 else [f"include/{h}" for h in headers(root, "")]
    files = [os.path.join(root, f) for f in files if f.endswith((".hpp", ".inl", ".cuh", ".cpp", ".cu"))]
    files = [f for f in files if os.path.exists(f)]

    # Not --dry-run: version 14 reports the comment `// namespace quern::inline v0` and replaces it by itself.
    def check(path):
        done = subprocess.run([tool, path], capture_output=True, text=True, check=False)
        with open(path, encoding="utf-8") as f:
            if f.read() == done.stdout:
                return []
        return [f"{os.path.relpath(path, root)}: run clang-format-14 -i on it"]

    report("format", sum(for_each(check, files), []), len(files))


main()
