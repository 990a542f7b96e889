# SPDX-License-Identifier: Apache-2.0
"""A misuse must be refused by the compiler with the library's own sentence, in at most 40 lines.

A case is a .cpp whose line `// expect: <sentence>` says what the compiler must print.
"""
import sys
from common import compile_text, eigen_flags, find_compiler, parser

LONGEST = 40


def main():
    p = parser(__doc__)
    p.add_argument("case")
    p.add_argument("--compiler", default="g++")
    args = p.parse_args()
    with open(args.case, encoding="utf-8") as f:
        text = f.read()
    expected = [line.split("// expect:", 1)[1].strip() for line in text.splitlines() if "// expect:" in line]
    if not expected:
        sys.exit(f"{args.case}: has no line '// expect: <sentence>'")
    command = [find_compiler(args.compiler), "-std=c++20", f"-I{args.root}/include", *eigen_flags(), "-fsyntax-only",
               "-x", "c++", "-"]
    status, _, messages = compile_text(command, text)
    count = len(messages.splitlines())
    failures = [f"the compiler does not say '{e}'" for e in expected if e not in messages]
    if status == 0:
        failures = ["it compiles"]
    elif count > LONGEST:
        failures.append(f"the message has {count} lines; {LONGEST} at most")
    if failures:
        print(messages)
        sys.exit(f"{args.case}: " + "; ".join(failures))
    print(f"refused in {count} lines: {expected[0]}")


main()
