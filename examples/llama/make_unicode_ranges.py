#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes unicode_ranges.inl, the letters and numbers of Unicode, from Python's unicodedata.

    python3 make_unicode_ranges.py        # Python 3.11: Unicode 14.0
"""
import pathlib
import unicodedata


def ranges(category):
    out, first = [], None
    for c in range(0x110001):
        inside = c < 0x110000 and unicodedata.category(chr(c))[0] == category
        if inside and first is None:
            first = c
        if not inside and first is not None:
            out.append((first, c - 1))
            first = None
    return out


def table(name, what, category):
    rows = ranges(category)
    lines = [f"// {what}, first and last code point of each run.", f"constexpr code_point_range {name}[{len(rows)}] = {{"]
    for i in range(0, len(rows), 6):
        lines.append("    " + " ".join(f"{{0x{a:x}, 0x{b:x}}}," for a, b in rows[i : i + 6]))
    return lines + ["};"]


text = ["// SPDX-License-Identifier: Apache-2.0",
        f"// Made by make_unicode_ranges.py from Unicode {unicodedata.unidata_version}; included by split_gpt2.cpp only.",
        "// clang-format off"]
text += table("letters", "General categories L*", "L") + table("numbers", "General categories N*", "N")
text += ["// clang-format on"]
(pathlib.Path(__file__).resolve().parent / "unicode_ranges.inl").write_text("\n".join(text) + "\n")
