# SPDX-License-Identifier: Apache-2.0
"""The dependency table: which folder may include which, and what each may take from outside.

The table is the design (docs/design.md draws it); a new arrow is a design decision, made here.
"""
import os
from common import headers, includes, lines, parser, report

VOCABULARY = {"core", "pattern", "quant", "format"}
# folder -> (folders it may include besides itself, third-party header families)
TABLE = {
    "core": (set(), set()),
    "pattern": ({"core"}, set()),
    "quant": ({"core"}, set()),
    "format": ({"core", "pattern", "quant"}, set()),
    "kernel/cpu": (VOCABULARY, {"simd"}),
    "kernel/cuda": (VOCABULARY, {"cuda"}),
    "io": (VOCABULARY, {"system"}),
    "dense": ({"core"}, {"eigen"}),
    "metric": ({"core", "dense"}, {"eigen"}),
    "calib": ({"core", "dense"}, {"eigen"}),
    "compress": (VOCABULARY | {"dense", "calib"}, {"eigen"}),
    "train": ({"core", "pattern", "quant", "dense", "metric"}, {"eigen"}),
    "search": ({"core"}, set()),
}
# header -> (folders, umbrellas, third-party): the umbrellas, and single headers that take what the rest
# of their folder does without
INFERENCE = VOCABULARY | {"kernel/cpu", "io"}
SINGLE = {
    "quern/quern.hpp": (INFERENCE, set(), set()),
    "quern/cuda.cuh": (INFERENCE | {"kernel/cuda"}, {"quern/quern.hpp"}, {"cuda"}),
    "quern/eigen.hpp": (INFERENCE | {"dense"}, {"quern/quern.hpp"}, {"eigen"}),
    "quern/offline.hpp": (INFERENCE | {"dense", "metric", "calib", "compress", "train", "search"},
                          {"quern/quern.hpp", "quern/eigen.hpp"}, set()),
    "quern/core/isa.hpp": (set(), set(), {"system"}),
    "quern/core/buffer.hpp": (set(), set(), {"system"}),
    "quern/core/openmp.hpp": (set(), set(), {"openmp"}),
    "quern/core/mpi.hpp": (set(), set(), {"mpi"}),
    "quern/kernel/cpu/eigen.hpp": (VOCABULARY | {"kernel/cpu"}, set(), {"eigen"}),
}
FAMILIES = {
    "eigen": ("Eigen/", "unsupported/Eigen/"),
    "simd": ("immintrin.h", "arm_neon.h"),
    "cuda": ("cuda", "cub/", "mma.h", "vector_types.h", "cooperative_groups"),
    "openmp": ("omp.h",),
    "mpi": ("mpi.h",),
    "system": ("cpuid.h", "sys/", "fcntl.h", "unistd.h", "windows.h", "io.h"),
}
# Too heavy for the headers that every user compiles; the line budget says the same in numbers.
HEAVY = {"iostream", "memory", "ranges", "functional", "random", "regex", "stdexcept", "filesystem"}
STANDARD = set("""algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv chrono
cinttypes climits clocale cmath codecvt compare complex concepts condition_variable coroutine csetjmp csignal
cstdarg cstddef cstdint cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem
format forward_list fstream functional future initializer_list iomanip ios iosfwd iostream istream iterator latch
limits list locale map memory memory_resource mutex new numbers numeric optional ostream queue random ranges ratio
regex scoped_allocator semaphore set shared_mutex source_location span sstream stack stdexcept stop_token
streambuf string string_view syncstream system_error thread tuple type_traits typeindex typeinfo unordered_map
unordered_set utility valarray variant vector version""".split())


def folder_of(header):
    """"quern/kernel/cpu/isa/avx2.hpp" -> "kernel/cpu"; an umbrella has none."""
    parts = header.split("/")[1:-1]
    return "/".join(parts[:2] if parts[:1] == ["kernel"] else parts[:1])


def check_one(root, header, allowed):
    folders, umbrellas, families = allowed
    own = folder_of(header)
    for number, bracket, name in includes(root, header):
        where = f"include/{header}:{number}: "
        if bracket == '"':
            yield where + f'write <quern/...> instead of "{name}"'
        elif name.startswith("quern/"):
            to = folder_of(name)
            if not os.path.exists(os.path.join(root, "include", name)):
                yield where + f"<{name}> does not exist"
            elif not to and name not in umbrellas:
                yield where + f"must not include the umbrella <{name}>"
            elif to and to != own and to not in folders:
                yield where + f"{own or header} must not include {to} (<{name}>)"
            elif name.endswith(".inl") and to != own:
                yield where + f"<{name}> belongs to {to}"
        elif name in STANDARD:
            if own in VOCABULARY and name in HEAVY:
                yield where + f"<{name}> is too heavy for the vocabulary folder {own}"
        elif not any(name.startswith(FAMILIES[f]) for f in families):
            yield where + f"{own or header} must not include <{name}>"


def check_target_regions(root, header):
    inside = False
    for number, line in enumerate(lines(root, header), 1):
        if line.startswith("QUERN_TARGET_BEGIN"):
            inside = True
        elif line.startswith("QUERN_TARGET_END"):
            inside = False
        elif inside and line.lstrip().startswith("#include") and ".inl>" not in line:
            yield f"include/{header}:{number}: only an .inl may be included inside a target region"


def reached(root, start):
    seen, todo = set(), [start]
    while todo:
        header = todo.pop()
        if header in seen or not os.path.exists(os.path.join(root, "include", header)):
            continue
        seen.add(header)
        todo += [name for _, _, name in includes(root, header) if name.startswith("quern/")]
    return seen


def main():
    root = parser(__doc__).parse_args().root
    found = headers(root, ".hpp", ".inl", ".cuh")
    errors = []
    for header in found:
        allowed = SINGLE.get(header)
        if not allowed:
            if folder_of(header) not in TABLE:
                errors.append(f"include/{header}: its folder is not in the table of tests/gates/include_table.py")
                continue
            folders, families = TABLE[folder_of(header)]
            allowed = folders, set(), families
        errors += check_one(root, header, allowed)
        errors += check_target_regions(root, header)
    # An engine that only multiplies must not pay for Eigen, through whichever header.
    for header in sorted(reached(root, "quern/quern.hpp")):
        for number, _, name in includes(root, header):
            if name.startswith(FAMILIES["eigen"]):
                errors.append(f"include/{header}:{number}: <quern/quern.hpp> reaches <{name}>")
    report("include_table", errors, len(found))


main()
