"""LiteRT (the TFLite interpreter with XNNPACK) beside Tessera: an engine, and files with sparse weights made dense.

    engine = LiteRt("face_detection_sparse.tflite", threads=2)
    engine.bind_all({"input_1": array}); engine.run(); engine.results()
    write_dense("face_detection_sparse.tflite", "dense.tflite")

A file with sparse weights holds them compressed behind DENSIFY operations. XNNPACK reads that as a request for its
sparse kernels where it has some (not on processors with AVX); the other mode is the same network with the weights
stored densely, which write_dense makes. A row takes the faster of both (design: MEASURE.md). Rows are timed as those of
compare.py are: alternating blocks of at least 0.5 s with 100 ms idle between them, outputs compared first.
Needs numpy and ai-edge-litert (third_party/requirements.txt).
"""

import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
import flatbuffers

BOUND = 1e-4
TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16, schema.TensorType.INT8: np.int8}


class LiteRt:
    name = "litert"

    def __init__(self, path, threads):
        self.interpreter = litert.Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        self.run = self.interpreter.invoke

    def input_details(self):
        return self.interpreter.get_input_details()

    def bind_all(self, arrays):
        for port in self.input_details():
            self.interpreter.set_tensor(port["index"], arrays[port["name"]])

    def results(self):
        self.run()
        return [self.interpreter.get_tensor(port["index"]) for port in self.interpreter.get_output_details()]


def decode(tensor, values):
    """The dense array of a sparse tensor, by the format's own description: dimensions in the order of traversal, blocks
    behind them, each dense or compressed (segments and indices as in CSR)."""
    sparsity = tensor.sparsity
    shape, order = list(tensor.shape), list(sparsity.traversalOrder)
    block_map = [] if sparsity.blockMap is None else list(sparsity.blockMap)
    rank = len(shape)
    blocks = {dim: sparsity.dimMetadata[rank + k].denseSize for k, dim in enumerate(block_map)}
    dense = np.zeros(shape, values.dtype)
    levels = []
    for metadata in sparsity.dimMetadata:
        if metadata.format == schema.DimensionType.DENSE:
            levels.append(metadata.denseSize)
        else:
            levels.append((np.asarray(metadata.arraySegments.values), np.asarray(metadata.arrayIndices.values)))
    position = 0

    def walk(level, at, index):
        nonlocal position
        if level == len(levels):
            dense[tuple(index[d] * blocks.get(d, 1) + index.get(rank + block_map.index(d), 0) if d in blocks
                        else index[d] for d in range(rank))] = values[position]
            position += 1
            return
        kind = levels[level]
        steps = enumerate(range(at * kind, (at + 1) * kind)) if isinstance(kind, int) else (
            (kind[1][k], k) for k in range(kind[0][at], kind[0][at + 1]))
        for number, below in steps:
            index[order[level]] = int(number)
            walk(level + 1, below, index)

    walk(0, 0, {})
    assert position == len(values)
    return dense


def write_dense(path, to):
    """The same network with its sparse weights stored densely; how many there were."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(pathlib.Path(path).read_bytes(), 0))
    graph = model.subgraphs[0]
    kept, count = [], 0
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) != schema.BuiltinOperator.DENSIFY:
            kept.append(operator)
            continue
        source, result = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        values = np.frombuffer(bytes(model.buffers[source.buffer].data), TYPES[source.type])
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(decode(source, values).tobytes(), np.uint8)
        model.buffers.append(buffer)
        result.buffer = len(model.buffers) - 1
        count += 1
    graph.operators = kept
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    pathlib.Path(to).write_bytes(bytes(builder.Output()))
    return count


def compare(path, threads, seconds, ours, block, folder):
    """A row for a .tflite file, or None where outputs differ. `ours` is a Session of it, `block` times calls."""
    dense = pathlib.Path(folder) / (path.stem + ".dense.tflite")
    engines = {"as it is": LiteRt(path, threads)}
    if dense.exists() or write_dense(path, dense) > 0:
        engines["dense"] = LiteRt(dense, threads)
    rng = np.random.default_rng(0)
    arrays = {port["name"]: rng.uniform(-1, 1, port["shape"]).astype(port["dtype"])
              for port in engines["as it is"].input_details()}
    found = ours.run_all(arrays)
    error = 0.0
    for form, engine in engines.items():
        engine.bind_all(arrays)
        for theirs, mine in zip(engine.results(), found):
            worst = np.max(np.abs(mine - theirs.astype(np.float64))) / np.max(np.abs(theirs))
            error = max(error, float(worst))
    if not error <= BOUND:
        print(f"{path.stem}: outputs differ by {error:.2e} relative, {BOUND:.0e} allowed: no times", file=sys.stderr)
        return None
    forms, all_ours, all_theirs = {}, [], {form: [] for form in engines}
    block(ours, 0.3)
    for engine in engines.values():
        time.sleep(0.1)
        block(engine, 0.3)
    rounds = []
    for _ in range(max(3, int(seconds))):
        time.sleep(0.1)
        a = block(ours, 0.5)
        all_ours += a
        medians = {}
        for form, engine in engines.items():
            time.sleep(0.1)
            b = block(engine, 0.5)
            all_theirs[form] += b
            medians[form] = statistics.median(b)
        rounds.append((statistics.median(a), medians))
    forms = {form: statistics.median(samples) for form, samples in all_theirs.items()}
    best = min(forms, key=forms.get)
    ratios = [medians[best] / a for a, medians in rounds]
    mine = statistics.median(all_ours)
    return {"model": path.stem, "threads": threads, "tessera_us": mine, "litert_us": forms, "best": best,
            "ratio": forms[best] / mine, "ratio_min": min(ratios), "ratio_max": max(ratios), "error": error,
            "compile_s": ours.compile_s}


def make_tess(convert, path, folder):
    tess = pathlib.Path(folder) / (path.stem + ".tess")
    if not tess.exists():
        done = subprocess.run([str(convert), str(path), "-o", str(tess)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
    return tess


def print_rows(rows):
    print("| model | threads | Tessera us | LiteRT as it is, us | LiteRT dense, us | times the faster | spread "
          "| difference | compile s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        dense = f"{r['litert_us']['dense']:.0f}" if "dense" in r["litert_us"] else "-"
        print(f"| {r['model']} | {r['threads']} | {r['tessera_us']:.0f} | {r['litert_us']['as it is']:.0f} | {dense} "
              f"| {r['ratio']:.2f} | {r['ratio_min']:.2f}–{r['ratio_max']:.2f} | {r['error']:.1e} "
              f"| {r['compile_s']:.2f} |")
