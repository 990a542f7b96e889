# SPDX-License-Identifier: Apache-2.0
"""Two objects with different -m flags: no function of quern that both define may need the wider set.

The linker keeps one body of an inline function. If it keeps the one of the wider object, the other object's
callers die of an illegal instruction on an older CPU. (Bodies inside a target region differ in name. Templates of std
are not looked at: std::vector<float> is one body for all units of any program.)
"""
import re
import subprocess
import sys
from common import parser, report

SYMBOL = re.compile(r"^[0-9a-f]+ [WVu] (_ZN[KVRO]*5quern\S*)$")
# What x86-64 without extensions does not have: VEX and EVEX encodings (v...), BMI and the like.
BEYOND_BASE = re.compile(r"\b(v[a-z0-9]+|andn|bextr|bls[irm]+k?|bzhi|pdep|pext|mulx|rorx|sarx|shlx|shrx|lzcnt|"
                         r"tzcnt|popcnt|movbe|k(?:mov|or|and|xor|not|test|shift)[a-z]*)\s")
NOT_WIDER = re.compile(r"\bver[rw]\s")


def symbols(path):
    text = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    return {m[1] for line in text.splitlines() if (m := SYMBOL.match(line))}


def bodies(path):
    """symbol -> its instructions"""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-w", path], capture_output=True, text=True,
                          check=True).stdout
    for part in re.split(r"\n(?=[0-9a-f]+ <)", text):
        if m := re.match(r"[0-9a-f]+ <([^>]+)>:\n", part):
            yield m[1], part[m.end():]


def main():
    p = parser(__doc__)
    p.add_argument("objects", nargs=2, help="the object with the wider instruction set first")
    args = p.parse_args()
    shared = symbols(args.objects[0]) & symbols(args.objects[1])
    errors = []
    for name, body in bodies(args.objects[0]):
        wide = [line for line in body.splitlines() if BEYOND_BASE.search(line) and not NOT_WIDER.search(line)]
        if name in shared and wide:
            pretty = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
            errors.append(f"{pretty}\n  is defined by both objects and needs {wide[0].split(':', 1)[1].strip()}: put "
                          "it into the inline namespace QUERN_BUILD")
    print(f"{len(shared)} shared functions of quern")
    if not shared:
        print("nothing was compared: the two objects must use the same parts of quern")
        sys.exit(1)
    report("shared_code", errors, 2)


main()
