# SPDX-License-Identifier: Apache-2.0
"""Times programs in turn, so that the ratios of a table come from one run on one machine.

    python3 bench/peers.py contenders.json --rounds 7 --markdown table.md --json samples.json
    python3 bench/peers.py --reference 'ggml: q4_0+' \\
        --contender ours benchmark 'build/release/bench/bench_gemv --benchmark_format=json' \\
        --contender ggml benchmark '$PEERS/ggml_multiply --benchmark_filter=/M1/'

A contender is a command that prints times. Each round runs every contender once; a round starts with the contender
after the one that the round before started with, so that nobody always runs behind the same neighbour. Every time
found is a sample; all samples are kept (--json). The table holds, for every case (shape, batch, threads):

    median, min   of all samples, in microseconds
    speed-up      median of the reference / median of this row: above 1 is faster than the reference
    by round      smallest and largest such ratio of a single round; where 1 lies between them, nothing was shown
    of stream     median of the counter of_stream: bytes/s over those of a plain read of the same memory right after

contenders.json:

    {"reference": "ggml: q4_0+",
     "contenders": [
       {"label": "ours", "format": "benchmark", "case": {"threads": 1},
        "command": "build/release/bench/bench_gemv --benchmark_format=json --benchmark_filter=dense"},
       {"label": "ggml", "format": "benchmark", "command": "$PEERS/ggml_multiply --benchmark_filter=/M1/"},
       {"label": "tool", "unit": "ms", "case": {"rows": 4096, "cols": 4096, "batch": 1, "threads": 1},
        "pattern": "^(?P<name>\\\\w+) took (?P<time>[\\\\d.]+)", "command": "./tool --repeat 5"}]}

format     `benchmark`: Google Benchmark, JSON or lines "<name> <time> <unit>", real time; of a name
           /N<rows>/K<cols>/M<batch>[/T<threads>][/cached] is its case. `speed`: the lines of examples/speed.
           `llama-bench`: those of llama.cpp's llama-bench -o jsonl.
pattern    instead of a format: a regular expression, searched in every line of the standard output. Group `time` is
           the time and `name`, if there, names the row; `unit` (ns, us, ms, s) may be a group or a key beside the
           pattern, else it is us; every other group belongs to the case.
case       what the output does not say of the case. Rows are compared where their whole cases are equal.
command    split as a shell would, without a shell; $NAME is taken from the environment and printed as $NAME, so
           that a table shows no paths of the machine.
reference  a row as the table names it, `label: name`, or a label that has one row in each case.

--contender takes a label, a format or pattern, and a command. --prefix 'COMMAND' goes before every command (a lock, a
priority). A contender that fails, or prints no time, ends the run with status 1; what was measured is still written.
--self-test checks this script on made-up output.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

MICROSECONDS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
OPTIONS = r"(?:/(?!threads:)\w+:[\d.]+|/real_time|/process_time|/manual_time)*?"
FORMATS = {
    "benchmark": r"^(?P<name>\S+?)(?:/N(?P<rows>\d+)/K(?P<cols>\d+)/M(?P<batch>\d+))?" + OPTIONS +
                 r"(?:/(?:T|threads:)(?P<threads>\d+))?(?:/(?P<weights>cached))?" + OPTIONS +
                 r"(?:_(?P<aggregate>mean|median|stddev|cv))?\s+(?P<time>\d[\d.e+-]*)\s+(?P<unit>[num]?s)(?=\s|$)",
    "speed": r"^(?P<name>\S+) threads (?P<threads>\d+) prompt (?P<prompt>\d+) tokens (?P<tokens>\d+) "
             r".*: (?P<time>[\d.]+) (?P<unit>ms),",
    "llama-bench": r'"n_threads": (?P<threads>\d+).*"n_prompt": (?P<prompt>\d+), "n_gen": (?P<tokens>\d+)'
                   r'.*"avg_(?P<unit>ns)": (?P<time>\d+)',
}


# Counters of Google Benchmark that samples keep.
COUNTERS = ("bits_per_weight", "of_stream")


class Failure(Exception):
    """A contender or a description that cannot be used; the text says which and why."""


class Contender:
    """A command and how to read what it prints."""

    def __init__(self, label, command, format=None, pattern=None, unit="us", case=None):
        if (format is None) == (pattern is None):
            raise Failure(f"{label}: give either a format or a pattern")
        if pattern is None and format not in FORMATS:
            raise Failure(f"{label}: no format {format!r}; there are {', '.join(FORMATS)}")
        try:
            self.pattern = re.compile(FORMATS[format] if pattern is None else pattern)
        except re.error as e:
            raise Failure(f"{label}: the pattern is not a regular expression: {e}") from e
        if "time" not in self.pattern.groupindex:
            raise Failure(f"{label}: the pattern has no group (?P<time>..)")
        if unit not in MICROSECONDS:
            raise Failure(f"{label}: no unit {unit!r}; there are {', '.join(MICROSECONDS)}")
        self.label, self.command, self.unit = label, command, unit
        self.is_benchmark = format == "benchmark"
        self.case = {k: str(v) for k, v in (case or {}).items()}

    def run(self, prefix):
        """The standard output of one run."""
        words = [os.path.expandvars(word) for word in shlex.split(prefix) + shlex.split(self.command)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
        except OSError as e:
            raise Failure(f"{self.label}: {e}") from e
        if done.returncode != 0:
            end = "\n".join(done.stderr.splitlines()[-5:])
            raise Failure(f"{self.label}: exit status {done.returncode}\n{end}".rstrip())
        return done.stdout

    def read(self, output):
        """[{name, case, us, COUNTERS}] of everything that the pattern finds."""
        found = []
        for line in benchmark_lines(output) if self.is_benchmark else output.splitlines():
            match = self.pattern.search(line)
            if match is None:
                continue
            groups = {k: v for k, v in match.groupdict().items() if v is not None}
            us = float(groups.pop("time")) * MICROSECONDS[groups.pop("unit", self.unit)]
            if us <= 0:
                raise Failure(f"{self.label}: a time of 0: {line.strip()}")
            name, aggregate = groups.pop("name", None), groups.pop("aggregate", None) if self.is_benchmark else None
            row = self.label if name is None else f"{self.label}: {name}"
            counters = re.findall(rf"\b({'|'.join(COUNTERS)})=([\d.]+)(?=\s|$)", line) if self.is_benchmark else []
            found.append((aggregate, {"name": row, "case": {**self.case, **groups}, "us": us,
                                      **{k: float(v) for k, v in counters}}))
        # With --benchmark_repetitions the repetitions are the samples; where they are not shown, their median is.
        plain = [sample for aggregate, sample in found if aggregate is None]
        shown = [(s["name"], s["case"]) for s in plain]
        plain += [s for aggregate, s in found if aggregate == "median" and (s["name"], s["case"]) not in shown]
        if not plain:
            raise Failure(f"{self.label}: printed no time that its pattern finds")
        return plain


def benchmark_lines(output):
    """Google Benchmark's output as `name time unit` lines, whether it is JSON or the console's table."""
    start = output.find("{")
    if start < 0 or output[:start].strip():
        return output.splitlines()
    lines = []
    for b in json.JSONDecoder().raw_decode(output[start:])[0]["benchmarks"]:
        if b.get("error_occurred") or b.get("skipped"):
            print(f"peers: skipped by the program: {b['name']}: {b.get('error_message', '')}", file=sys.stderr)
        elif b.get("aggregate_unit", "time") == "time":
            counters = "".join(f" {k}={b[k]:.6f}" for k in COUNTERS if k in b)
            lines.append(f"{b['name']} {b['real_time']:.9g} {b['time_unit']}{counters}")
    return lines


def measure(contenders, rounds, prefix, samples, check=lambda: None):
    """Appends the samples of all rounds to `samples`; `check` is called after the first round."""
    for number in range(rounds):
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            print(f"peers: round {number + 1} of {rounds}: {contender.label}", file=sys.stderr, flush=True)
            found = contender.read(contender.run(prefix))
            samples += [{"round": number, "contender": contender.label, **sample} for sample in found]
        if number == 0:
            check()


def cases(samples):
    """[(case, {row: samples})] in the order of the numbers in the cases."""
    table = {}
    for sample in samples:
        rows = table.setdefault(tuple(sorted(sample["case"].items())), {})
        rows.setdefault(sample["name"], []).append(sample)
    as_numbers = lambda case: [(k, 0, int(v), "") if v.isdigit() else (k, 1, 0, v) for k, v in case]
    return sorted(table.items(), key=lambda item: as_numbers(item[0]))


def reference_row(rows, reference):
    """The row that `reference` names in one case, or None."""
    named = [row for row, found in rows.items() if reference in (row, found[0]["contender"])]
    if len(named) > 1:
        raise Failure(f"the reference {reference!r} is {len(named)} rows of one case: {', '.join(sorted(named))}")
    return named[0] if named else None


def check_reference(samples, reference):
    rows = [reference_row(rows, reference) for _, rows in cases(samples)] if reference else [""]
    if all(row is None for row in rows):
        names = ", ".join(sorted({s["name"] for s in samples}))
        raise Failure(f"no row is the reference {reference!r}; there are: {names}")


def ratios(reference, row):
    """(median of the reference / median of the row, smallest and largest ratio of one round)."""
    median = lambda found: statistics.median(s["us"] for s in found)
    by_round = lambda found: {n: median([s for s in found if s["round"] == n]) for n in {s["round"] for s in found}}
    theirs, ours = by_round(reference), by_round(row)
    each = [theirs[n] / ours[n] for n in theirs if n in ours] or [float("nan")]
    return median(reference) / median(row), min(each), max(each)


def share(row):
    """Of a plain read, in per cent; - where that was not measured."""
    measured = [s["of_stream"] for s in row if "of_stream" in s]
    return f"{100 * statistics.median(measured):.0f} %" if measured else "-"


def cpu_model():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            found = re.search(r"^(?:model name|Model|cpu)\s*:\s*(.+)$", f.read(), re.M)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def load_average():
    return [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None


def markdown(head, samples):
    """The table of all cases below the lines that say how it was measured."""
    threads = sorted({s["case"]["threads"] for s in samples if "threads" in s["case"]})
    text = [f"- date: {head['date']}", f"- CPU: {head['cpu']}, {head['cores']} cores ({head['usable']} usable)",
            f"- threads: {', '.join(threads) or 'not given'}",
            f"- rounds: {head['rounds']}, one burst of each contender per round; load average {head['load_before']}"
            f" before, {head['load_after']} after"]
    if head["prefix"]:
        text.append(f"- before every command: `{head['prefix']}`")
    text += [f"- {c['label']}: `{c['command']}`" for c in head["contenders"]]
    for case, rows in cases(samples):
        text += ["", "### " + (", ".join(f"{k} {v}" for k, v in case) or "all"), ""]
        base = reference_row(rows, head["reference"]) if head["reference"] else None
        text += [f"| | samples | median us | min us | speed-up over {base or 'none'} | by round | of stream |",
                 "|---|---|---|---|---|---|---|"]
        for row, found in sorted(rows.items(), key=lambda item: statistics.median(s["us"] for s in item[1])):
            us = [s["us"] for s in found]
            ratio = "- | -"
            if base:
                middle, low, high = ratios(rows[base], found)
                ratio = f"{middle:.2f} | {low:.2f} .. {high:.2f}"
            text.append(f"| {row} | {len(us)} | {statistics.median(us):.2f} | {min(us):.2f} | {ratio} | {share(found)} |")
    return "\n".join(text) + "\n"


def write(path, text):
    if path is None:
        sys.stdout.write(text)
    else:
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


def described(args):
    """(contenders, reference) of the file and the command line."""
    contenders, reference = [], None
    if args.contenders:
        with open(args.contenders, encoding="utf-8") as f:
            text = json.load(f)
        reference = text.get("reference")
        for entry in text.get("contenders", []):
            try:
                contenders.append(Contender(**entry))
            except TypeError as e:
                raise Failure(f"{args.contenders}: {entry}: {e}") from e
    for label, how, command in args.contender:
        contenders.append(Contender(label, command, **{"format" if how in FORMATS else "pattern": how}))
    labels = [c.label for c in contenders]
    if not contenders or len(set(labels)) != len(labels):
        raise Failure("give contenders, each with a label of its own")
    return contenders, args.reference or reference


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("contenders", nargs="?", help="JSON file, see above")
    p.add_argument("--contender", nargs=3, action="append", default=[], metavar=("LABEL", "FORMAT", "COMMAND"))
    p.add_argument("--reference", help="the row that the others are compared with")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--prefix", default="", help="put before every command")
    p.add_argument("--markdown", help="the table goes here instead of the standard output")
    p.add_argument("--json", help="all samples go here")
    p.add_argument("--self-test", action="store_true")
    args = p.parse_args(arguments)
    if args.self_test:
        return self_test()
    samples, failure = [], None
    try:
        contenders, reference = described(args)
        head = {"date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "cpu": cpu_model(),
                "cores": os.cpu_count(), "load_before": load_average(), "rounds": args.rounds, "prefix": args.prefix,
                "reference": reference,
                "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                "contenders": [{"label": c.label, "command": c.command, "pattern": c.pattern.pattern, "unit": c.unit,
                                "case": c.case} for c in contenders]}
        measure(contenders, args.rounds, args.prefix, samples, lambda: check_reference(samples, reference))
    except KeyboardInterrupt:
        failure = "interrupted"
    except (Failure, OSError, json.JSONDecodeError) as e:
        failure = e
    if samples:
        head["load_after"] = load_average()
        if args.json:
            write(args.json, json.dumps({**head, "samples": samples}, indent=1) + "\n")
        try:
            write(args.markdown, markdown(head, samples))
        except Failure as e:
            failure = failure or e
    if failure:
        print(f"peers: {failure}", file=sys.stderr)
    return 1 if failure else 0


def self_test():
    """Reads made-up output of every kind, then runs two made-up contenders against each other."""
    shape = {"threads": "1", "rows": "4096", "cols": "4096", "batch": "1"}

    def expect(what, got, wanted):
        if got != wanted:
            raise SystemExit(f"self-test: {what}\n  got    {got}\n  wanted {wanted}")

    def read(text, **how):
        return [(s["name"], s["case"], round(s["us"], 6)) for s in Contender("p", "-", **how).read(text)]

    def refused(what, part, call):
        try:
            call()
        except Failure as e:
            expect(what, part in str(e), True)
        else:
            raise SystemExit(f"self-test: {what} was not refused")

    expect("a line", read("OpenBLAS: something else\nq4_0+/N4096/K4096/M1/T1 512.25 us\n", format="benchmark"),
           [("p: q4_0+", shape, 512.25)])
    expect("in the cache", read("q4_0+/N4096/K4096/M1/T1/cached/manual_time 9 us\n", format="benchmark"),
           [("p: q4_0+", {**shape, "weights": "cached"}, 9.0)])
    console = ("gemv/dense/affine<4,32>/avx512/N4096/K4096/M1     594821 ns     594793 ns     1176 bytes=13G/s\n"
               "gemv/eigen/N4096/K4096/M1/min_time:0.2/real_time/threads:2  1.5e+06 ns 1 ns 9\n"
               "stream/read     21.5 ms     21.4 ms     32\n"
               "gemv/scalar/N1/K1/M1   ERROR OCCURRED: 'no'\n")
    in_order = {"rows": "4096", "cols": "4096", "batch": "1"}
    expect("console", read(console, format="benchmark", case={"threads": 1}),
           [("p: gemv/dense/affine<4,32>/avx512", {"threads": "1", **in_order}, 594.821),
            ("p: gemv/eigen", {"threads": "2", **in_order}, 1500.0), ("p: stream/read", {"threads": "1"}, 21500.0)])
    entry = lambda name, time, **more: {"name": name, "real_time": time, "cpu_time": 1.0, "time_unit": "ms", **more}
    text = json.dumps({"context": {}, "benchmarks": [
        entry("a/N2/K3/M4/T2", 0.5), entry("a/N2/K3/M4/T2", 0.25), entry("a/N2/K3/M4/T2_median", 7.0),
        entry("b_mean", 3.0), entry("b_median", 2.0), entry("b_cv", 0.1, aggregate_unit="percentage"),
        entry("c", 0.0, error_occurred=True, error_message="made up"), entry("d", 4.0, of_stream=0.5, peak=3)]})
    of_a = {"rows": "2", "cols": "3", "batch": "4", "threads": "2"}
    expect("JSON", read(text, format="benchmark"),
           [("p: a", of_a, 500.0), ("p: a", of_a, 250.0), ("p: d", {}, 4000.0), ("p: b", {}, 2000.0)])
    counters = lambda text: [s.get("of_stream") for s in Contender("p", "-", format="benchmark").read(text)]
    expect("counters of JSON", counters(text), [None, None, 0.5, None])
    expect("counters of a console", counters("d 4 ms 4 ms 9 of_stream=0.25 stream=3.5\n"), [0.25])
    expect("shares", [share([{"of_stream": v} for v in (.25, .75, .5)]), share([{}])], ["50 %", "-"])
    expect("pattern", read("x\npp512 t2 1500000\n", pattern=r"^pp(?P<batch>\d+) t(?P<threads>\d+) (?P<time>\d+)",
                           unit="ns"), [("p", {"batch": "512", "threads": "2"}, 1500.0)])
    of_model = {"threads": "2", "prompt": "0", "tokens": "128"}
    expect("speed", read("dense_affine<4,32> threads 2 prompt 0 tokens 128 weights 9 bytes: 1.500 ms, 85333.3 tokens/s\n",
                         format="speed"), [("p: dense_affine<4,32>", of_model, 1500.0)])
    expect("llama-bench", read('{"n_batch": 9, "n_threads": 2, "n_prompt": 0, "n_gen": 128, "avg_ns": 1500000}\n',
                               format="llama-bench"), [("p", of_model, 1500.0)])
    refused("no time", "no time", lambda: read("nothing\n", format="benchmark"))
    refused("a time of 0", "time of 0", lambda: read("t 0\n", pattern=r"t (?P<time>\d+)"))
    refused("a reference of two rows", "2 rows", lambda: reference_row({n: [{"contender": "p"}] for n in "ab"}, "p"))
    refused("a pattern without time", "(?P<time>", lambda: Contender("p", "-", pattern="x"))
    refused("a format that is none", "no format", lambda: Contender("p", "-", format="csv"))
    refused("a command that fails", "status 3", lambda: Contender("p", f"{shlex.quote(sys.executable)} -c 'exit(3)'",
                                                                   format="benchmark").run(""))
    with tempfile.TemporaryDirectory() as folder:
        # Each contender writes its letter into a file (the order is the test) and prints its next time.
        program = ("import os,sys; f = open(sys.argv[1], 'a'); f.write(sys.argv[2]); f.close(); "
                   "n = open(sys.argv[1]).read().count(sys.argv[2]); print('time', sys.argv[2 + n])")
        log, table, data = (os.path.join(folder, n) for n in ("log", "table", "data"))
        os.environ["PEERS_SELF_TEST"] = log
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} $PEERS_SELF_TEST"
        arguments = ["--rounds", "3", "--markdown", table, "--json", data]
        for label, times in (("a", "4 8 12"), ("b", "8 24 30")):
            arguments += ["--contender", label, r"time (?P<time>\d+)", f"{command} {label} {times}"]
        expect("status", main([*arguments, "--reference", "b"]), 0)
        with open(log, encoding="utf-8") as f:
            expect("order of the bursts", f.read(), "abbaab")
        with open(data, encoding="utf-8") as f:
            got = json.load(f)
        expect("samples", [s["us"] for s in got["samples"]], [4.0, 8.0, 24.0, 8.0, 12.0, 30.0])
        with open(table, encoding="utf-8") as f:
            rows = f.read()
        expect("row", "| a | 3 | 8.00 | 4.00 | 3.00 | 2.00 .. 3.00 | - |" in rows, True)
        expect("row of the reference", "| b | 3 | 24.00 | 8.00 | 1.00 | 1.00 .. 1.00 | - |" in rows, True)
        expect("no paths", folder in rows, False)
        os.remove(log)
        expect("a reference that is none", main([*arguments, "--reference", "c"]), 1)
    print("self-test passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
