# SPDX-License-Identifier: Apache-2.0
"""Preprocessed lines of each header against line_budget.txt; more than 10 % above it fails.

Lines are exact where compile times vary with the load of the machine. A header's budget is that of the first
pattern of the table that matches it; a header without one is not limited.
"""
import fnmatch
import os
from common import compile_text, eigen_flags, find_compiler, flags_of, for_each, headers, parser, report


def main():
    p = parser(__doc__)
    p.add_argument("--list", action="store_true", help="print the lines of every header")
    args = p.parse_args()
    command = [find_compiler("g++"), "-std=c++20", f"-I{args.root}/include", *eigen_flags(), "-E", "-P", "-x",
               "c++", "-"]
    with open(os.path.join(os.path.dirname(__file__), "line_budget.txt"), encoding="utf-8") as f:
        table = [line.split() for line in f if line.strip() and not line.startswith("#")]

    def measure(header):
        flags = flags_of(header, command)
        if flags is None:
            return 0
        status, text, messages = compile_text(command + flags, f"#include <{header}>\n")
        return text.count("\n") if status == 0 else messages

    found = headers(args.root, ".hpp")
    errors = []
    for header, size in zip(found, for_each(measure, found)):
        budget = next((int(b) for pattern, b in table if fnmatch.fnmatch(header, pattern)), None)
        if isinstance(size, str):
            errors.append(f"{header}: cannot be preprocessed\n{size}")
        elif budget and size > budget * 1.1:
            errors.append(f"{header}: {size} preprocessed lines; its budget is {budget} (line_budget.txt)")
        if args.list and not isinstance(size, str):
            print(f"{size:7} {budget or '-':>7}  {header}")
    report("line_budget", errors, len(found))


main()
