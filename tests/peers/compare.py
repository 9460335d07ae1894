"""Tessera beside ONNX Runtime on the host CPU: same ONNX file, same inputs, same threads, interleaved in one process.

    bazel build //engine:libengine.so //tools:convert
    python3 tests/peers/compare.py                                  # every network, 1 and 2 threads
    python3 tests/peers/compare.py --models=mobilenet_v1 --threads=2 --seconds=4 -o md

Method (docs/results/README.md): blocks of at least 0.5 s alternate between the engines with 100 ms idle between them,
because a peer's spinning workers would take our core; the latency of an engine is the median over all its calls; the
ratio is their quotient with the smallest and largest ratio of neighbouring blocks as its spread. The call time of an
identity model is subtracted from both. Outputs are compared before any time is printed; a model whose outputs differ by
more than 1e-4 relative gets no row and the exit status 3. Needs numpy, onnx and onnxruntime
(third_party/requirements.txt).
"""

import argparse
import ctypes
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.peers import networks  # noqa: E402
from tests.peers.tessera import Session  # noqa: E402

ZOO = ["fashion_mlp", "fashion_mobilenet"]
BOUND = 1e-4


class Tessera(Session):
    name = "tessera"

    def bind(self, name, array):
        super().bind({name: array})

    def result(self):
        self.check(self.run())
        return self.output_arrays[0].copy()


class OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def bind(self, name, array):
        self.binding = self.session.io_binding()
        self.array = array
        self.binding.bind_cpu_input(name, array)
        self.binding.bind_output(self.session.get_outputs()[0].name, "cpu")

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def result(self):
        self.run()
        return self.binding.copy_outputs_to_cpu()[0]


def block(engine, seconds):
    """Latencies of single calls for at least `seconds`, in microseconds."""
    samples = []
    clock = time.perf_counter_ns
    end = clock() + int(seconds * 1e9)
    while True:
        start = clock()
        engine.run()
        now = clock()
        samples.append((now - start) / 1000)
        if now >= end:
            return samples


def identity_cost(make, folder):
    """The call time of a model that does next to nothing, which both engines pay through this harness."""
    import onnx
    from onnx import TensorProto, helper
    path = pathlib.Path(folder) / "identity.onnx"
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "identity", [value("x")], [value("y")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    engine = make(path)
    engine.bind("x", np.zeros(1, np.float32))
    block(engine, 0.1)
    return statistics.median(block(engine, 0.3))


def compare(name, onnx_path, threads, seconds, library, convert, folder, overhead):
    tess = pathlib.Path(folder) / (name + ".tess")
    if not tess.exists():
        done = subprocess.run([str(convert), str(onnx_path), "-o", str(tess)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
    ours = Tessera(library, tess, threads)
    theirs = OnnxRuntime(onnx_path, threads)
    port = theirs.session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in port.shape]
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for engine in (ours, theirs):
        engine.bind(port.name, data)
    expected = theirs.result().astype(np.float64)
    error = float(np.max(np.abs(ours.result() - expected)) / np.max(np.abs(expected)))
    if not error <= BOUND:
        print(f"{name}: outputs differ by {error:.2e} relative, {BOUND:.0e} allowed: no times", file=sys.stderr)
        return None
    for engine in (ours, theirs):
        block(engine, 0.3)  # warm-up
    all_ours, all_theirs, ratios = [], [], []
    rounds = max(3, int(seconds / 1.0))
    for _ in range(rounds):
        time.sleep(0.1)
        a = block(ours, 0.5)
        time.sleep(0.1)
        b = block(theirs, 0.5)
        all_ours += a
        all_theirs += b
        ratios.append((statistics.median(b) - overhead["onnxruntime"]) / (statistics.median(a) - overhead["tessera"]))
    a = statistics.median(all_ours) - overhead["tessera"]
    b = statistics.median(all_theirs) - overhead["onnxruntime"]
    return {"model": name, "threads": threads, "tessera_us": a, "onnxruntime_us": b, "ratio": b / a,
            "ratio_min": min(ratios), "ratio_max": max(ratios), "rel_error": error, "compile_s": ours.compile_s}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,mobilenet_v1,minilm,fashion_mlp,fashion_mobilenet",
                        help="of " + ", ".join(list(networks.NETWORKS) + ZOO) + ", or paths of .onnx files")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=4, help="of measuring per engine, model and number of threads")
    parser.add_argument("--bin", default=str(ROOT / "bazel-bin"), help="has engine/libengine.so and tools/convert")
    args = parser.parse_args()
    library = ctypes.CDLL(os.path.join(args.bin, "engine", "libengine.so"))
    convert = os.path.join(args.bin, "tools", "convert")
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        overhead = {"onnxruntime": identity_cost(lambda path: OnnxRuntime(path, 1), folder)}
        tess = pathlib.Path(folder) / "identity.tess"
        subprocess.run([convert, str(pathlib.Path(folder) / "identity.onnx"), "-o", str(tess)], check=True,
                       capture_output=True)
        overhead["tessera"] = identity_cost(lambda path: Tessera(library, tess, 1), folder)
        for name in args.models.split(","):
            if name in networks.NETWORKS:
                path = networks.write(name, folder)
            elif name in ZOO or name.startswith("fashion_"):
                path = ROOT / "models" / "zoo" / (name + ".onnx")
            else:
                path, name = pathlib.Path(name), pathlib.Path(name).stem
            for threads in map(int, args.threads.split(",")):
                row = compare(name, path, threads, args.seconds, library, convert, folder, overhead)
                failed |= row is None
                if row:
                    rows.append(row)
    print(f"ONNX Runtime {onnxruntime.__version__}, {platform.processor() or platform.machine()}, "
          f"{os.cpu_count()} processors; batch 1, f32; identity call "
          f"{overhead['tessera']:.1f} us here, {overhead['onnxruntime']:.1f} us there\n")
    print("| model | threads | Tessera us | ONNX Runtime us | times its speed | spread | relative error | compile s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        print(f"| {r['model']} | {r['threads']} | {r['tessera_us']:.0f} | {r['onnxruntime_us']:.0f} "
              f"| {r['ratio']:.2f} | {r['ratio_min']:.2f}–{r['ratio_max']:.2f} | {r['rel_error']:.1e} "
              f"| {r['compile_s']:.2f} |")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
