# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone and twice in one translation unit, without a warning."""
from common import compile_text, eigen_flags, find_compiler, flags_of, for_each, headers, parser, report

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]


def main():
    p = parser(__doc__)
    p.add_argument("--compiler", default="g++", help="g++, clang++ or nvcc (which checks the .cuh headers)")
    args = p.parse_args()
    compiler = find_compiler(args.compiler)
    command = [compiler, "-std=c++20", f"-I{args.root}/include"]
    if args.compiler == "nvcc":
        command += ["--expt-relaxed-constexpr", "-diag-suppress", "1675,2810"]
        found = headers(args.root, ".cuh")
        command += ["-x", "cu", "-arch=sm_80", "-ptx", "-o", "/dev/null", "-"]
    else:
        found = headers(args.root, ".hpp")
        command += WARNINGS + eigen_flags() + ["-fsyntax-only", "-x", "c++", "-"]

    def check(header):
        flags = flags_of(header, command)
        if flags is None:
            return []
        status, _, messages = compile_text(command + flags, f"#include <{header}>\n" * 2)
        return [] if status == 0 else [f"{header}: does not compile alone with {args.compiler}\n{messages}"]

    report("self_contained", sum(for_each(check, found), []), len(found))


main()
