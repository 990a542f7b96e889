#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the golden files of tests/io with the reference implementations of both formats.

    pip install numpy gguf==0.19.0 safetensors==0.8.0
    python3 make_golden.py                # into this folder; equal versions give equal bytes

gguf_types.gguf       every type that quern dequantizes: tensor "Q4_0" holds random blocks, "Q4_0.f32" what the
                      package gguf makes of them. The scales cover the extremes of binary16 (but not
                      infinity or NaN, which quern refuses).
reference.safetensors every dtype of the package safetensors; byte i of the data is i mod 251.
"""
import pathlib

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize
from safetensors import TensorSpec, serialize

HERE = pathlib.Path(__file__).resolve().parent
T = gguf.GGMLQuantizationType
# Where each block type keeps its binary16 fields.
HALVES = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.F16: [0]}
EXTREMES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF]


def random_halves(rng, n):
    bits = rng.integers(0, 1 << 16, n).astype(np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0xBFFF
    bits[: len(EXTREMES)] = EXTREMES[:n]
    return bits


def blocks_of(rng, qtype, rows, cols):
    block, size = GGML_QUANT_SIZES[qtype]
    n = rows * cols // block
    if qtype in (T.F32, T.BF16):
        words = rng.integers(0, 1 << 16, n).astype(np.uint16)
        words[(words & 0x7F80) == 0x7F80] &= 0xBFFF
        words[:4] = [0, 0x8000, 0x0001, 0x7F7F]
        low = rng.integers(0, 1 << 16, n).astype(np.uint32)
        data = words if qtype == T.BF16 else (words.astype(np.uint32) << 16) | low
        return data.view(np.uint8).reshape(rows, -1)
    out = rng.integers(0, 256, (n, size)).astype(np.uint8)
    for i, at in enumerate(HALVES[qtype]):
        half = random_halves(rng, n)
        out[:, at : at + 2] = (half if i == 0 else np.roll(half, 3 * i)).view(np.uint8).reshape(n, 2)
    return out.reshape(rows, -1)


def write_gguf():
    rng = np.random.default_rng(20260101)
    writer = gguf.GGUFWriter(HERE / "gguf_types.gguf", "golden")
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -32768)
    writer.add_uint32("u32", 4294967295)
    writer.add_int32("i32", -2147483648)
    writer.add_uint64("u64", 18446744073709551615)
    writer.add_int64("i64", -9223372036854775808)
    writer.add_float32("f32", 0.1)
    writer.add_float64("f64", 0.1)
    writer.add_bool("bool", True)
    writer.add_string("string", "h\u00e9llo")
    writer.add_array("strings", ["", "a", "\u0120the", "x" * 300])
    writer.add_array("floats", [0.5, -1.5, 3.0])
    writer.add_array("ints", [1, -2, 3])
    # 16 blocks of 32, 12 of 256, 64 single weights: enough for every extreme; file below 100 kB.
    shapes = {32: (4, 128), 256: (6, 512), 1: (4, 16)}
    for qtype in (T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K):
        rows, cols = shapes[GGML_QUANT_SIZES[qtype][0]]
        data = blocks_of(rng, qtype, rows, cols)
        floats = dequantize(data, qtype).reshape(rows, cols).astype(np.float32)
        assert np.isfinite(floats).all(), qtype
        if qtype == T.F32:
            data = data.view(np.float32)
        elif qtype == T.F16:
            data = data.view(np.float16)
        writer.add_tensor(qtype.name, data, raw_dtype=qtype)
        writer.add_tensor(qtype.name + ".f32", floats)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors():
    bits = {"bool": 8, "float4_e2m1fn_x2": 8, "uint8": 8, "int8": 8, "float8_e5m2": 8, "float8_e4m3fn": 8,
            "float8_e8m0fnu": 8, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16, "int32": 32,
            "uint32": 32, "float32": 32, "complex64": 64, "float64": 64, "int64": 64, "uint64": 64}
    zeros = np.zeros(64, np.uint8)
    tensors = {}

    def add(name, dtype, shape, size):
        tensors[name] = TensorSpec(dtype=dtype, shape=shape, data_ptr=zeros.ctypes.data, data_len=size)

    for dtype, b in bits.items():
        add(dtype, dtype, [3, 2], 6 * b // 8)
        add(dtype + ".empty", dtype, [2, 0, 5], 0)
        if not dtype.startswith("float4"):
            add(dtype + ".scalar", dtype, [], b // 8)
    add("\u00fcnicode \"quoted\"\\\n", "uint8", [5], 5)
    # One entry: the package orders several at random.
    data = bytearray(serialize(tensors, {"k\u00e9y": "v\u00e4lue\t\"\\\u0001\U0001f600"}))
    begin = 8 + int.from_bytes(data[:8], "little")
    for i in range(begin, len(data)):
        data[i] = (i - begin) % 251
    (HERE / "reference.safetensors").write_bytes(data)


if __name__ == "__main__":
    write_gguf()
    write_safetensors()
