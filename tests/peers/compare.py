"""Tessera beside ONNX Runtime on the host CPU: same ONNX file, same inputs, same threads, interleaved in one process.

    bazel build //engine:libengine.so //tools:convert
    python3 tests/peers/compare.py                                  # every network, 1 and 2 threads
    python3 tests/peers/compare.py --models=mobilenet_v1 --threads=2 --seconds=4
    python3 tests/peers/compare.py --models=mobilenet_v1,minilm --precision=f32,int8 --pattern=dense,90:fine,90:1x4
    python3 tests/peers/compare.py --models=face_detection_sparse   # of models/fetch.py, beside LiteRT (litert.py)

Method (docs/results/README.md): blocks of at least 0.5 s alternate between the engines with 100 ms idle between them,
because a peer's spinning workers would take our core; the latency of an engine is the median over all its calls; the
ratio is their quotient with the smallest and largest ratio of neighbouring blocks as its spread. The call time of an
identity model is subtracted from both. Outputs are compared before any time is printed; a model whose outputs differ by
more than 1e-4 relative in f32 gets no row and the exit status 3.

int8 is the same file, made by ONNX Runtime's quantiser (quantized.py), for both; of transformers and MLPs it is timed
in its static and its dynamic form, and the row is the faster form of each engine. Values on the border of two integers
may fall to either side and move what follows (of BERT-base, 2e-4 of the first integers differ by one, and half of them
after two layers): outputs of int8 may differ by 5 %, root mean squares compared; and by its largest error Tessera may
not lie further from the f32 network than ONNX Runtime does and a quarter: it does not win by computing something else.
Needs numpy, onnx and onnxruntime (third_party/requirements.txt).
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
from models import fetch  # noqa: E402
from tests.peers import networks, quantized  # noqa: E402
from tests.peers.tessera import Session  # noqa: E402

ZOO = ["fashion_mlp", "fashion_mobilenet"]
BOUNDS = {"f32": 1e-4, "qdq": 0.05, "dynamic": 0.05}
# How much further from the f32 network than ONNX Runtime an int8 form may lie.
MORE_LOSS = 1.25
# Convolutions have no fast dynamic kernel in ONNX Runtime: 130 ms against 2.5 ms of MobileNet-V1.
FORMS = {"f32": ["f32"], "int8": ["qdq", "dynamic"], "qdq": ["qdq"], "dynamic": ["dynamic"]}


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


def relative(result, reference):
    return float(np.max(np.abs(result.astype(np.float64) - reference)) / np.max(np.abs(reference)))


def rms_relative(result, reference):
    return float(np.sqrt(np.mean((result.astype(np.float64) - reference) ** 2) / np.mean(reference ** 2)))


class Pair:
    """One file in both engines, bound to the same input."""

    def __init__(self, path, threads, library, convert, folder):
        tess = pathlib.Path(folder) / (path.stem + ".tess")
        if not tess.exists():
            done = subprocess.run([str(convert), str(path), "-o", str(tess)], capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(done.stderr)
        self.ours = Tessera(library, tess, threads)
        self.theirs = OnnxRuntime(path, threads)
        port = self.theirs.session.get_inputs()[0]
        shape = [d if isinstance(d, int) else 1 for d in port.shape]
        data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for engine in (self.ours, self.theirs):
            engine.bind(port.name, data)
        self.our_result = self.ours.result().astype(np.float64)
        self.their_result = self.theirs.result().astype(np.float64)


def fastest(engines):
    """The engine with the shortest median call, after warming it up."""
    if len(engines) == 1:
        block(engines[0], 0.3)
        return engines[0]
    times = []
    for engine in engines:
        time.sleep(0.1)
        block(engine, 0.3)
        times.append(statistics.median(block(engine, 0.5)))
    return engines[times.index(min(times))]


def compare(name, paths, exact, threads, seconds, library, convert, folder, overhead):
    """A row for the network whose forms `paths` holds by precision ("f32" among them only when that is compared);
    `exact` is what the f32 network gives where others are compared, otherwise None."""
    pairs = {}
    for form, path in paths.items():
        pairs[form] = Pair(path, threads, library, convert, folder)
        measure = relative if form == "f32" else rms_relative
        error = measure(pairs[form].our_result, pairs[form].their_result)
        if not error <= BOUNDS[form]:
            print(f"{name}, {form}: outputs differ by {error:.2e} relative, {BOUNDS[form]:.0e} allowed: no times",
                  file=sys.stderr)
            return None
        if exact is not None:
            loss = [relative(result, exact) for result in (pairs[form].our_result, pairs[form].their_result)]
            if not loss[0] <= MORE_LOSS * loss[1]:
                print(f"{name}, {form}: {loss[0]:.2e} from the f32 network, ONNX Runtime {loss[1]:.2e}: no times",
                      file=sys.stderr)
                return None
    ours = fastest([pair.ours for pair in pairs.values()])
    theirs = fastest([pair.theirs for pair in pairs.values()])
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
    form_of = {engine: form for form, pair in pairs.items() for engine in (pair.ours, pair.theirs)}
    pair = pairs[form_of[ours]]
    return {"forms": [form_of[ours], form_of[theirs]], "threads": threads, "tessera_us": a, "onnxruntime_us": b,
            "ratio": b / a, "ratio_min": min(ratios), "ratio_max": max(ratios),
            "error": relative(pair.our_result, pair.their_result), "compile_s": ours.compile_s,
            "our_result": pair.our_result, "their_result": pairs[form_of[theirs]].their_result}


def f32_result(path):
    """What the f32 network gives for the input that all forms get."""
    engine = OnnxRuntime(path, os.cpu_count())
    port = engine.session.get_inputs()[0]
    engine.bind(port.name, np.random.default_rng(0).standard_normal(port.shape).astype(np.float32))
    return engine.result().astype(np.float64)


def is_conv(path):
    import onnx
    return any(node.op_type == "Conv" for node in onnx.load(str(path)).graph.node)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,mobilenet_v1,minilm,fashion_mlp,fashion_mobilenet",
                        help="of " + ", ".join(list(networks.NETWORKS) + ZOO) + ", or paths of .onnx files")
    parser.add_argument("--pattern", default="dense",
                        help="of the weights: dense, 90:fine (each element), 90:1x4 (blocks of 4 inputs), or a list")
    parser.add_argument("--precision", default="f32",
                        help="f32, int8 (the faster of its forms for each engine), qdq, dynamic, or a list")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=4, help="of measuring per engine, model and number of threads")
    parser.add_argument("--bin", default=str(ROOT / "bazel-bin"), help="has engine/libengine.so and tools/convert")
    parser.add_argument("--networks", default=None, help="folder that keeps generated networks; default: the cache")
    args = parser.parse_args()
    library = ctypes.CDLL(os.path.join(args.bin, "engine", "libengine.so"))
    convert = os.path.join(args.bin, "tools", "convert")
    kept = pathlib.Path(args.networks) if args.networks else quantized.cache_folder()
    tflite = []
    cases = []  # (model, pattern, precision, {form: path}, path of the f32 network)
    for name in args.models.split(","):
        if name in networks.NETWORKS:
            for pattern in args.pattern.split(","):
                whole = networks.write(name, kept, pattern)
                for precision in args.precision.split(","):
                    forms = [f for f in FORMS[precision] if not (f == "dynamic" and is_conv(whole))]
                    paths = {form: networks.write(name, kept, pattern, form) for form in forms}
                    cases.append((name, pattern, precision, paths, whole))
        elif name.endswith(".tflite") or (fetch.cache_folder() / (name + ".tflite")).exists():
            tflite.append(pathlib.Path(name) if name.endswith(".tflite") else fetch.cache_folder() / (name + ".tflite"))
        else:
            path = pathlib.Path(name) if name.endswith(".onnx") else ROOT / "models" / "zoo" / (name + ".onnx")
            cases.append((path.stem, "its own", "f32", {"f32": path}, None))
    rows, litert_rows, failed = [], [], False
    if tflite:
        from tests.peers import litert
    with tempfile.TemporaryDirectory() as folder:
        overhead = {"onnxruntime": identity_cost(lambda path: OnnxRuntime(path, 1), folder)}
        tess = pathlib.Path(folder) / "identity.tess"
        subprocess.run([convert, str(pathlib.Path(folder) / "identity.onnx"), "-o", str(tess)], check=True,
                       capture_output=True)
        overhead["tessera"] = identity_cost(lambda path: Tessera(library, tess, 1), folder)
        for name, pattern, precision, paths, whole in cases:
            for threads in map(int, args.threads.split(",")):
                exact = None if precision == "f32" else f32_result(whole)
                row = compare(f"{name}, {pattern}", paths, exact, threads, args.seconds, library, convert, folder,
                              overhead)
                failed |= row is None
                if row is None:
                    continue
                row.update(model=name, pattern=pattern, precision=precision)
                if exact is not None:
                    row["loss"] = [relative(row["our_result"], exact), relative(row["their_result"], exact)]
                rows.append(row)
        for path in tflite:
            for threads in map(int, args.threads.split(",")):
                session = Session(library, litert.make_tess(convert, path, folder), threads)
                row = litert.compare(path, threads, args.seconds, session, block, folder)
                failed |= row is None
                litert_rows += [row] if row else []
    if litert_rows:
        litert.print_rows(litert_rows)
    if not rows:
        return 3 if failed else 0
    print(f"ONNX Runtime {onnxruntime.__version__}, {platform.processor() or platform.machine()}, "
          f"{os.cpu_count()} processors; batch 1; identity call "
          f"{overhead['tessera']:.1f} us here, {overhead['onnxruntime']:.1f} us there\n")
    print("| model | weights | precision (here / there) | threads | Tessera us | ONNX Runtime us | times its speed "
          "| spread | difference | from f32 (here / there) | compile s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        forms = r["precision"] if r["precision"] == "f32" else " / ".join(r["forms"])
        loss = " / ".join(f"{x:.1e}" for x in r.get("loss", [])) or "-"
        print(f"| {r['model']} | {r['pattern']} | {forms} | {r['threads']} | {r['tessera_us']:.0f} "
              f"| {r['onnxruntime_us']:.0f} | {r['ratio']:.2f} | {r['ratio_min']:.2f}–{r['ratio_max']:.2f} "
              f"| {r['error']:.1e} | {loss} | {r['compile_s']:.2f} |")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
