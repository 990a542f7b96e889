# SPDX-License-Identifier: Apache-2.0
"""An object built without -m flags: wider instructions lie in the namespace of their instruction set, nowhere else.

Also sees that the instruction a kernel is made of is there: vpdpbusd in cpu_avx512_vnni, and so on.
"""
import platform
import re
import subprocess
import sys
from common import SKIP, parser, report

NAMESPACE = re.compile(r"cpu_(avx512|avx512_vnni|avx512_bf16|avx_vnni|avx2)\b")
VECTOR = re.compile(r"\bv[a-z0-9]+\s.*%[xyz]mm|\bk(?:mov|or|and|xor|not|test|shift|ortest|unpck)[a-z]*\s+%")
EVEX = re.compile(r"%zmm|%[xy]mm(?:1[6-9]|2\d|3[01])\b|%k[0-7]\b")
WANTED = {"avx512_vnni": "vpdpbusd", "avx512_bf16": "vdpbf16ps", "avx512": "vfmadd", "avx2": "vpmaddubsw",
          "avx_vnni": "vpdpbusd"}
NOT_VECTOR = re.compile(r"\bver[rw]\s")


def main():
    p = parser(__doc__)
    p.add_argument("objects", nargs="+")
    args = p.parse_args()
    if platform.machine() not in ("x86_64", "AMD64"):
        print("SKIPPED: the rule is about x86-64")
        sys.exit(SKIP)
    errors, seen = [], {}
    functions = 0
    for path in args.objects:
        text = subprocess.run(["objdump", "-d", "-C", "--no-show-raw-insn", "-w", path], capture_output=True,
                              text=True, check=True).stdout
        for part in re.split(r"\n(?=[0-9a-f]+ <)", text):
            m = re.match(r"[0-9a-f]+ <(.*)>:\n", part)
            if not m:
                continue
            functions += 1
            body = [line for line in part[m.end():].splitlines() if not NOT_VECTOR.search(line)]
            owners = set(NAMESPACE.findall(m[1]))
            for owner in owners:
                found = seen.setdefault(owner, False)
                seen[owner] = found or any(WANTED[owner] in line for line in body)
            wide = [line for line in body if VECTOR.search(line) or EVEX.search(line)]
            if wide and not owners:
                errors.append(f"{m[1][:200]}\n  needs {wide[0].split(':', 1)[1].strip()}, but is code for any CPU")
            narrow = owners and not any(o.startswith("avx512") for o in owners)
            evex = [line for line in body if EVEX.search(line)]
            if narrow and evex:
                errors.append(f"{m[1][:200]}\n  has {evex[0].split(':', 1)[1].strip()}, which AVX2 does not know")
    for owner, found in sorted(seen.items()):
        print(f"cpu_{owner}: {WANTED[owner]} {'found' if found else 'missing'}")
        if not found:
            errors.append(f"cpu_{owner}: no {WANTED[owner]} in any of its functions")
    if "avx512_vnni" not in seen:
        errors.append("no function of cpu_avx512_vnni: the object must multiply with int8 activations")
    report("isa_code", errors, functions)


main()
