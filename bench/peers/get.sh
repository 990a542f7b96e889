#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gets the engines that quern is measured against, from PyPI, into one folder (build/peers), and builds llama.cpp for this
# machine (about 15 minutes on 2 cores); installs what that needs:
#   bash bench/peers/get.sh [FOLDER]
#   PEERS=build/peers python3 bench/peers.py bench/peers/gemv.json --rounds 3 --json gemv.json
#   PEERS=build/peers python3 bench/peers.py bench/peers/gemm.json --rounds 3 --json gemm.json
#   python3 bench/peers/table.py gemv.json gemm.json
# FOLDER/ggml_multiply times llama.cpp's kernels, FOLDER/bin/llama-bench its models (bench/model.json), and FOLDER/venv
# has the libraries that bench/peers/libraries.py times. What is there is not made again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../cmake/run_common.sh"
quern_install ca-certificates cmake ninja-build g++ python3 python3-venv libbenchmark-dev
mkdir -p "${1:-$quern_root/build/peers}"
to=$(cd "${1:-$quern_root/build/peers}" && pwd)
llama=llama_cpp_python-0.3.36

if [ ! -x "$to/venv/bin/python" ] || ! "$to/venv/bin/python" -c 'import onnx, onnxruntime, openvino, torch' 2>"$to/venv.log"; then
  python3 -m venv "$to/venv"
  "$to/venv/bin/pip" install --quiet numpy onnx onnxruntime==1.32.0 openvino==2026.4.1 torch==2.15.0
fi
if [ ! -d "$to/$llama" ]; then
  "$to/venv/bin/pip" download --quiet --no-binary :all: --no-deps -d "$to" "llama-cpp-python==${llama##*-}"
  rm -rf "$to/$llama.new" && mkdir "$to/$llama.new"
  tar -xzf "$to/$llama.tar.gz" -C "$to/$llama.new" --strip-components 1
  mv "$to/$llama.new" "$to/$llama"
fi
source=$to/$llama/vendor/llama.cpp
cmake -S "$source" -B "$to/llama" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF \
  -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=ON \
  -DBUILD_SHARED_LIBS=ON >"$to/cmake.log"
cmake --build "$to/llama" --target llama-bench llama-quantize >"$to/build.log" 2>&1 ||
  { tail -n 20 "$to/build.log" >&2 && quern_stop "llama.cpp could not be built; $to/build.log says why"; }
ln -sfn llama/bin "$to/bin"
g++ -O3 -std=c++20 -I"$source/ggml/include" -I"$quern_root/include" "$quern_root/bench/peers/ggml.cpp" -o "$to/ggml_multiply" -L"$to/bin" \
  -Wl,-rpath,"$to/llama/bin" -lggml -lggml-base -lggml-cpu -lbenchmark -lpthread
quern_say "PEERS=$to"
