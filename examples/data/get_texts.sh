#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes the texts of the embedded model under build/data/ (or the folder given as $1):
#   kjv.txt        the King James Version without the held-out passages (training)
#   jargon.txt     the Jargon File (training)
#   held_out.txt   16 passages of 4,096 bytes of the King James Version, evenly spread, excluded from kjv.txt
#   calibration.txt  64 passages of 4,096 bytes of kjv.txt, evenly spread (training text: compression may see it)
# Installs the Debian packages bible-kjv, bible-kjv-text and jargon-text where they are missing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../build/data}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ ! -e /usr/lib/bible.data ] || [ ! -e /usr/share/doc/jargon-text/jargon.txt.gz ] || ! command -v bible >/dev/null; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "installing bible-kjv bible-kjv-text jargon-text"
  "${as_root[@]}" apt-get install -y -q bible-kjv bible-kjv-text jargon-text >/dev/null
fi

whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
(cd /usr/lib && bible -p . -l999 Gen1:1-Rev22:21) >"$whole"
zcat /usr/share/doc/jargon-text/jargon.txt.gz >"$out/jargon.txt"

size=$(stat -c %s "$whole")
passages=16 length=4096
: >"$out/kjv.txt"
: >"$out/held_out.txt"
at=0
for ((i = 0; i < passages; ++i)); do
  start=$((size * (2 * i + 1) / (2 * passages)))
  tail -c +$((at + 1)) "$whole" | head -c $((start - at)) >>"$out/kjv.txt" || true
  tail -c +$((start + 1)) "$whole" | head -c $length >>"$out/held_out.txt" || true
  at=$((start + length))
done
tail -c +$((at + 1)) "$whole" >>"$out/kjv.txt"

[ "$(stat -c %s "$out/kjv.txt")" = $((size - passages * length)) ] || { echo "kjv.txt is incomplete" >&2; exit 1; }
[ "$(stat -c %s "$out/held_out.txt")" = $((passages * length)) ] || { echo "held_out.txt is incomplete" >&2; exit 1; }

: >"$out/calibration.txt"
size=$(stat -c %s "$out/kjv.txt")
for ((i = 0; i < 64; ++i)); do
  tail -c +$((size * (2 * i + 1) / 128 + 1)) "$out/kjv.txt" | head -c 4096 >>"$out/calibration.txt" || true
done
(cd "$out" && sha256sum kjv.txt jargon.txt held_out.txt calibration.txt)
