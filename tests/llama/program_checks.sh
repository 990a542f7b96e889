# SPDX-License-Identifier: Apache-2.0
# What the tests of whole programs share; sourced with the folder of the built programs as first argument. Goes to a
# new folder, which is gone afterwards.
set -u
export LC_ALL=C
programs=${1:?usage: $0 FOLDER_OF_PROGRAMS}
programs=$(cd "$programs" 2>/dev/null && pwd) || { echo "SKIP: no folder of built programs"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0 checks=0

# needs PROGRAM..: the test is skipped where one is not built.
needs() {
  local p
  for p in "$@"; do [ -x "$programs/$p" ] || { echo "SKIP: $p is not built"; exit 77; }; done
}
fail() {
  failures=$((failures + 1))
  echo "FAILED: $1"
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@"
}
# Names and checksums of all files but the logs of this test.
state() { find . -type f ! -name 'log.*' -exec cksum {} + | sort; }

# good PROGRAM ARGUMENTS..: status 0.
good() {
  local program=$1 status
  shift
  checks=$((checks + 1))
  "$programs/$program" "$@" >log.out 2>log.err
  status=$?
  [ $status -eq 0 ] || fail "$program $*: status $status instead of 0" "$(head -c 600 log.err)"
}
# bad PATTERN PROGRAM ARGUMENTS..: status 2, PATTERN on stderr, files as they were.
bad() {
  local pattern=$1 program=$2 before status
  shift 2
  checks=$((checks + 1))
  before=$(state)
  "$programs/$program" "$@" >log.out 2>log.err
  status=$?
  [ $status -eq 2 ] || fail "$program $*: status $status instead of 2" "$(head -c 600 log.err)"
  grep -Eq -- "$pattern" log.err || fail "$program $*: stderr lacks '$pattern'" "$(head -c 600 log.err)"
  [ "$(state)" = "$before" ] || fail "$program $*: files were made or changed" "$(state)"
}
# interrupted PATTERN TEST FILE PROGRAM ARGUMENTS..: Ctrl-C once FILE is there (-e) or has something in it (-s) gives
# status 1 and PATTERN on stderr.
interrupted() {
  local pattern=$1 when=$2 file=$3 program=$4 status
  shift 4
  checks=$((checks + 1))
  : >log.err
  "$programs/$program" "$@" >log.out 2>log.err &
  for i in $(seq 1 3000); do
    [ "$when" "$file" ] && break
    sleep 0.02
  done
  kill -INT $!
  wait $!
  status=$?
  [ $status -eq 1 ] && grep -Eq -- "$pattern" log.err ||
    fail "$program $*, interrupted: status $status instead of 1, or no '$pattern'" "$(tail -c 600 log.err)"
}
# is_json FILE PYTHON_CONDITION: FILE parses as d, and the condition holds.
is_json() {
  [ -n "$python" ] || return 0
  checks=$((checks + 1))
  "$python" -c "import json,sys; d=json.load(open('$1')); sys.exit(0 if ($2) else 1)" 2>log.err ||
    fail "$1: does not parse, or not ($2)" "$(head -c 600 "$1")" "$(tail -n 1 log.err)"
}
# The last line of a test: no unfinished files, and the number of runs.
finish() {
  [ -z "$(find . -name '*.part*')" ] || fail 'unfinished files are left' "$(find . -name '*.part*')"
  echo "$checks runs, $failures failures"
  [ "$failures" -eq 0 ]
}

python=$(command -v python3) || echo "note: without python3, damaged weights and JSON are not looked at"

# A text, and the options of `train` for a tiny model of it.
for i in $(seq 1 200); do echo "$i: In the beginning was the word, and the word was $((i * 7919 % 1000))."; done >text
tiny=(--text text --width 32 --layers 1 --ffn 48 --heads 2 --kv-heads 1 --head-dim 16 --context 64 --batch 2
  --lanes 2 --threads 1)
