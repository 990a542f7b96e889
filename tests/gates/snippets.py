# SPDX-License-Identifier: Apache-2.0
"""Every C++ block of README.md and docs/*.md is a region of a compiled file, letter by letter.

    <!-- snippet: tests/readme_test.cpp [pack] -->      in the Markdown, on the line before ```cpp
    //! [pack] ... //! [pack]                           around the region in that file

--write puts the regions into the Markdown.
"""
import glob
import os
import re
import textwrap
from common import parser, report

BLOCK = re.compile(r"(?P<head>[^\n]*)\n(?P<open>```(?:cpp|c\+\+|cuda)\n)(?P<body>.*?)^```$", re.M | re.S)
HEAD = re.compile(r"<!-- snippet: (\S+) \[(\w+)\] -->$")


def region(root, path, name):
    """The text between the two marks, without its common indentation; None where there is none."""
    try:
        with open(os.path.join(root, path), encoding="utf-8") as f:
            parts = re.split(rf"^[ \t]*//! \[{name}\]\n", f.read(), flags=re.M)
    except FileNotFoundError:
        return None
    return textwrap.dedent(parts[1]) if len(parts) == 3 else None


def main():
    p = parser(__doc__)
    p.add_argument("--write", action="store_true")
    args = p.parse_args()
    errors = []
    files = sorted(glob.glob(f"{args.root}/README.md") + glob.glob(f"{args.root}/docs/**/*.md", recursive=True))
    for path in files:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        name = os.path.relpath(path, args.root)

        def check(block):
            line = f"{name}:{text[:block.start('open')].count(chr(10)) + 1}: "
            head = HEAD.match(block["head"].strip())
            if not head:
                errors.append(line + "say which compiled text this is: <!-- snippet: FILE [REGION] -->")
                return block[0]
            source = region(args.root, head[1], head[2])
            if source is None:
                errors.append(line + f"{head[1]} has no region between two lines //! [{head[2]}]")
            elif source != block["body"]:
                if args.write:
                    return block["head"] + "\n" + block["open"] + source + "```"
                errors.append(line + f"differs from [{head[2]}] of {head[1]}; run tests/gates/snippets.py --write")
            return block[0]

        new = BLOCK.sub(check, text)
        if args.write and new != text:
            with open(path, "w", encoding="utf-8") as f:
                f.write(new)
    report("snippets", errors, len(files))


main()
