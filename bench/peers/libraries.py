# SPDX-License-Identifier: Apache-2.0
"""Times one input times quantized matrices in other libraries, named as bench_gemv and bench_gemm name ours:

    python3 bench/peers/libraries.py openvino --shapes 4096x4096 --tokens 1,16 --threads 1,2

onnxruntime  MatMulNBits, 4 bits in blocks of 32, int8 activations (accuracy level 4)
openvino     4-bit weights, groups of 32 with zero points, activations quantized to int8 in groups of 32
onednn       torch's dynamic int8 linear on oneDNN, a scale per row

Prints <library>/N<rows>/K<cols>/M<tokens>/T<threads> and the median time of one product. Copies of the weights are gone
through that fill 256 MB; one call multiplies them all with the same input where the library has such a thing (onnxruntime,
openvino), so that what a call costs is shared.
"""
import argparse
import itertools
import os
import statistics
import time

COLD = 256 << 20
GROUP = 32


def onnxruntime(rows, cols, copies, threads):
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    g = np.random.default_rng(0)
    nodes, weights, outputs = [], [], []
    for i in range(copies):
        codes = g.integers(0, 256, (rows, cols // GROUP, GROUP // 2), dtype=np.uint8)
        scales = g.random((rows, cols // GROUP), dtype=np.float32) * 0.01
        weights += [numpy_helper.from_array(codes, f"B{i}"), numpy_helper.from_array(scales, f"S{i}")]
        nodes.append(helper.make_node("MatMulNBits", ["X", f"B{i}", f"S{i}"], [f"Y{i}"], domain="com.microsoft", K=cols, N=rows,
                                      bits=4, block_size=GROUP, accuracy_level=4))
        outputs.append(helper.make_tensor_value_info(f"Y{i}", TensorProto.FLOAT, ["M", rows]))
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["M", cols])], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 9
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def prepare(tokens):
        binding = session.io_binding()
        binding.bind_cpu_input("X", g.standard_normal((tokens, cols), dtype=np.float32))
        out = ort.OrtValue.ortvalue_from_numpy(np.empty((tokens, rows), np.float32))
        for i in range(copies):
            binding.bind_ortvalue_output(f"Y{i}", out)  # all outputs share their memory
        return lambda: session.run_with_iobinding(binding)

    return prepare


def openvino(rows, cols, copies, threads):
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op
    g = np.random.default_rng(0)
    kept = []  # openvino reads these arrays where they are, as long as the requests live

    def u4(array, shape):
        kept.append(array)
        return op.convert(op.constant(ov.Tensor(array, ov.Shape(shape), ov.Type.u4)), "f16")

    x = op.parameter([-1, cols], np.float32, name="X")
    results = []
    for _ in range(copies):
        codes = u4(g.integers(0, 256, rows * cols // 2, dtype=np.uint8), [rows, cols // GROUP, GROUP])
        zeros = u4(np.full(rows * cols // GROUP // 2, 0x88, np.uint8), [rows, cols // GROUP, 1])
        scales = op.constant((g.random((rows, cols // GROUP, 1)) * 0.01).astype(np.float16))
        exact = op.reshape(op.multiply(op.subtract(codes, zeros), scales), np.array([rows, cols]), False)
        results.append(op.result(op.matmul(x, op.convert(exact, "f32"), False, True)))
    compiled = ov.Core().compile_model(ov.Model(results, [x], "m"), "CPU", {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP)})

    def prepare(tokens):
        request = compiled.create_infer_request()
        kept.append(g.standard_normal((tokens, cols), dtype=np.float32))
        request.set_input_tensor(ov.Tensor(kept[-1]))
        return request.infer

    return prepare


def onednn(rows, cols, copies, threads):
    import torch
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.backends.quantized.engine = "onednn"
    zero = torch.zeros(rows, dtype=torch.long)
    codes = torch.quantize_per_channel(torch.randn(rows, cols), torch.full((rows,), .03, dtype=torch.double), zero, 0, torch.qint8)
    packed = [torch.ops.quantized.linear_prepack(codes, None) for _ in range(copies)]

    def prepare(tokens):
        x = torch.randn(tokens, cols)
        return lambda: [torch.ops.quantized.linear_dynamic(x, w, False) for w in packed]

    return prepare


BITS = {"onnxruntime": 5, "openvino": 4.625, "onednn": 8}
LIBRARIES = {f.__name__: f for f in (onnxruntime, openvino, onednn)}


def times(run, repetitions):
    """Seconds of a call, the mean of a tenth of a second at least, so many times."""
    run()
    start = time.perf_counter()
    run()
    passes = max(1, int(.1 / (time.perf_counter() - start)))
    for _ in range(repetitions):
        start = time.perf_counter()
        for _ in range(passes):
            run()
        yield (time.perf_counter() - start) / passes


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("library", choices=LIBRARIES)
    p.add_argument("--shapes", default="4096x4096", help="ROWSxCOLS,...")
    p.add_argument("--tokens", default="1", help="of one input, comma-separated")
    p.add_argument("--threads", default="1", help="comma-separated")
    p.add_argument("--repetitions", type=int, default=3)
    args = p.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(max(map(int, args.threads.split(","))))  # torch reads it once
    for shape, threads in itertools.product(args.shapes.split(","), map(int, args.threads.split(","))):
        rows, cols = map(int, shape.split("x"))
        copies = int(COLD / (rows * cols * BITS[args.library] / 8)) + 1
        prepare = LIBRARIES[args.library](rows, cols, copies, threads)
        for tokens in map(int, args.tokens.split(",")):
            seconds = statistics.median(times(prepare(tokens), args.repetitions)) / copies
            print(f"{args.library}/N{rows}/K{cols}/M{tokens}/T{threads} {seconds * 1e6:.3f} us", flush=True)


if __name__ == "__main__":
    main()
