"""Tessera beside PyTorch on one NVIDIA card: same weights, same inputs, CUDA graphs on both sides, interleaved.

    bazel build --config=travel //engine:libengine.so //tools:convert        # they may be carried to another machine
    python3 tests/peers/gpu.py --rows=rows.jsonl --minutes=8                 # again with the same rows: what is left
    python3 tests/peers/gpu.py --cases=mlp:1,bert_base:32 --precision=f32,f16
    python3 tests/peers/gpu.py --cases=sparse                                # the cases of SPARSE below
    python3 tests/peers/gpu.py --table --rows=rows.jsonl                     # the rows as a table

Method (docs/results/README.md). A case is a network and a batch. The network is an ONNX file (networks.py); Tessera
reads it through `convert`, PyTorch gets its weights (gpu_modules.py). PyTorch's time is that of its fastest form: eager
and torch.compile, convolutions in NCHW and channels_last with cudnn.benchmark, constants in either order; each captured
in a CUDA graph. f32 is strict on both sides, TF32 off; f32 rows with `tf32` beside them say what PyTorch gains by it.

NAME@PATTERN[:BATCH] has its weights under a mask (networks.py; `matmul1024@90fine`, `matmul4096@70_64x64`). PyTorch has
the same masked weights, dense. Of `channels`, the peer is our own dense network, in the same way.

Outputs of both are first held against PyTorch in double on the same weights and inputs; above the bound there is no
time. Then blocks alternate: at least 20 back-to-back replays and 10 ms each (fewer of what takes longer than 50 ms),
between two events on the card; a time is the median over the blocks, a ratio that of neighbouring blocks, with the
smallest and the largest. Weights and activations stay where they are in the card's caches for both.

Each case's row is a line of JSON, written when it is done, so that a phase that is cut short keeps what it has.
Needs torch, numpy, onnx. `--time=0` compares outputs and times nothing: under compute-sanitizer, or with `--device=cpu
--target=host` where there is no card.
"""

import argparse
import ctypes
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import onnx
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.peers import gpu_modules, networks  # noqa: E402
from tests.peers.tessera import Session  # noqa: E402

CASES = ["matmul1024", "matmul4096", "mlp:1", "mlp:32", "mlp:1024", "mobilenet_v1:1", "bert_base:1", "mobilenet_v1:32",
         "bert_base:32"]
SPARSE = [f"matmul1024@{percent}fine" for percent in (50, 70, 80, 90, 95, 99)] + \
    ["matmul4096@70_64x64", "matmul4096@90_64x64", "mobilenet_v1@60channels:32"]
# What a case of SPARSE is asked for in; the others in every precision that is.
ONLY = {"fine": ("f32",), "64x64": ("f16",), "channels": ("f32",)}
DTYPES = {"f32": np.float32, "tf32": np.float32, "f16": np.float16, "int8": np.int8}
# MEASURE.md: of one product, and five or ten times that for a network's layers one after the other.
BOUNDS = {"f32": (1e-5, 1e-4), "tf32": (2e-3, 1e-2), "f16": (2e-3, 1e-2), "int8": (0, 0)}
ROUNDS = 15


def parts(case):
    """Name, pattern as networks.py has it, batch."""
    name, _, batch = case.partition(":")
    name, _, pattern = name.partition("@")
    if not pattern:
        return name, "dense", int(batch or 1)
    percent = "".join(itertools.takewhile(str.isdigit, pattern))
    return name, f"{percent}:{pattern.removeprefix(percent).removeprefix('_')}", int(batch or 1)


def write(case, precision, folder):
    """The ONNX file of a case."""
    name, pattern, batch = parts(case)
    dtype = DTYPES[precision]
    path = pathlib.Path(folder) / f"{name}_{pattern.replace(':', '')}_{batch}_{np.dtype(dtype)}.onnx"
    if not path.exists():
        if name.startswith("matmul"):
            networks.matmul(path, int(name.removeprefix("matmul")), pattern, dtype=dtype)
        else:
            networks.NETWORKS[name](path, batch=batch, pattern=pattern, dtype=dtype)
    return path


def convert(path, program):
    tess = path.with_suffix(".tess")
    if not tess.exists():
        done = subprocess.run([str(program), str(path), "-o", str(tess)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-500:])
    return tess


def error(result, reference):
    return float((result.double() - reference).abs().max() / reference.abs().max())


class Tessera:
    name = "tessera"

    def __init__(self, library, path, device, target, cache, x, output):
        self.session = Session(library, path, threads=0, cache_dir=cache, target=target)
        self.compile_s = self.session.compile_s
        self.output = output
        model = onnx.load(str(path.with_suffix(".onnx")), load_external_data=False)
        place = lambda tensor: (tensor.data_ptr(), tensor.numel() * tensor.element_size())
        self.session.bind_pointers({model.graph.input[0].name: place(x)}, {model.graph.output[0].name: place(output)})
        self.device = device

    def result(self):
        if self.device != "cpu":
            torch.cuda.synchronize()
        code = self.session.run()
        if code != 0:
            raise RuntimeError(self.session.lib.tessera_last_error().decode())
        return self.output

    def replays(self, count):
        return self.session.measure(count)


class Torch:
    """One form of the network in PyTorch, captured in a CUDA graph."""

    def __init__(self, name, module, x):
        self.name, self.module, self.x = name, module, x
        self.graph = None

    def capture(self):
        with torch.inference_mode():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.module(self.x)
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.output = self.module(self.x)

    def result(self):
        self.graph.replay()
        torch.cuda.synchronize()
        return self.output

    def replays(self, count):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(count):
            self.graph.replay()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) * 1e3 / count


def forms(case, precision, model, x, compiled):
    """Every form of the network that PyTorch might be fastest in, not yet captured."""
    name = parts(case)[0]
    allow = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow
    torch.backends.cudnn.benchmark = True
    layouts = ["nchw", "nhwc"] if name.startswith("mobilenet") else [""]
    orders = [False, True] if name.startswith("matmul") else [False]
    for layout in layouts:
        for order in orders:
            module = gpu_modules.build(name, model, order).to(x.device).eval()
            data = x
            if layout == "nhwc":
                module = module.to(memory_format=torch.channels_last)
                data = x.contiguous(memory_format=torch.channels_last)
            suffix = "/" + layout if layout else "/columns" if order else ""
            yield Torch("eager" + suffix, module, data)
            # Compiled NCHW and a compiled single product were never faster than what they call.
            if compiled and layout != "nchw" and not name.startswith("matmul"):
                yield Torch("compile" + suffix, torch.compile(module), data)


def count_for(engine):
    """Replays of a block: 20 and 10 ms, fewer of what takes longer than 50 ms."""
    engine.replays(2)
    us = engine.replays(3)
    return 3 if us > 50e3 else max(20, int(10e3 / us) + 1)


def run_case(case, precision, args, library, folder):
    """The row of a case, or why there is none."""
    row = {"case": case, "precision": precision}
    path = write(case, precision, folder)
    tess = convert(path, args.bin / "tools" / "convert")
    model = onnx.load(str(path))
    device = torch.device(args.device)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    out_shape = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    generator = torch.Generator().manual_seed(5)
    if precision == "int8":
        x = torch.randint(-128, 128, shape, dtype=torch.int8, generator=generator).to(device)
    else:
        x = torch.randn(shape, generator=generator).to(device, torch.float16 if precision == "f16" else torch.float32)
    name, pattern, batch = parts(case)
    with torch.inference_mode():
        reference = gpu_modules.build(name, model).to(device).double().eval()
        reference = torch.mm(x.double(), reference.weight.double()) if precision == "int8" else reference(x.double())
    bound = BOUNDS[precision][0 if name.startswith("matmul") else 1]
    output = torch.empty(out_shape, device=device,
                         dtype={"int8": torch.int32, "f16": torch.float16}.get(precision, torch.float32))
    ours, whole = None, time.perf_counter()
    try:
        ours = Tessera(library, tess, args.device, args.target, args.cache, x, output)
        row["compile_s"] = round(ours.compile_s, 2)
        row["error"] = error(ours.result(), reference)
        if not row["error"] <= bound:
            row["fault"] = f"error {row['error']:.1e}, {bound:.0e} allowed"
    except (RuntimeError, SystemExit) as fault:
        row["fault"] = str(fault)[:500]
    if not args.time:
        with torch.inference_mode():
            row["peer_error"] = error(gpu_modules.build(name, model).to(device).eval()(x), reference)
        return row
    peers, row["peers"] = [], {}
    if pattern.endswith("channels"):
        # The dense network of the same shape; its results are its own.
        dense = convert(write(f"{name}:{batch}", precision, folder), args.bin / "tools" / "convert")
        peer = Tessera(library, dense, args.device, args.target, args.cache, x, torch.empty_like(output))
        peer.name, peer.error = "tessera, dense", 0.0
        row["peers"][peer.name] = round(peer.replays(20), 2)
        peers.append(peer)
    for form in () if peers else forms(case, precision, model, x, args.compile):
        try:
            form.capture()
            with torch.inference_mode():
                form.error = error(form.result(), reference)
            form.count = count_for(form)
            if form.error <= bound:
                row["peers"][form.name] = round(form.replays(form.count), 2)
                peers.append(form)
            else:
                row["peers"][form.name] = f"error {form.error:.1e}"
        except Exception as fault:  # one form less; the others still stand
            row["peers"][form.name] = str(fault)[:200]
    if peers:
        peer = min(peers, key=lambda form: row["peers"][form.name])
        row.update(peer=peer.name, peer_error=peer.error)
        if ours is None or "fault" in row:
            row["peer_us"] = row["peers"][peer.name]
        else:
            counts = {engine: count_for(engine) for engine in (ours, peer)}
            times = {ours: [], peer: []}
            for _ in range(ROUNDS if counts[ours] > 3 else 4):
                for engine in (ours, peer):
                    times[engine].append(engine.replays(counts[engine]))
            ratios = [b / a for a, b in zip(times[ours], times[peer])]
            row.update(tessera_us=round(statistics.median(times[ours]), 2),
                       peer_us=round(statistics.median(times[peer]), 2), ratio=round(statistics.median(ratios), 3),
                       ratio_min=round(min(ratios), 3), ratio_max=round(max(ratios), 3), replays=counts[ours])
            row["error_after"] = error(ours.result(), reference)
    if ours is not None:
        ours.session.free()
    row["seconds"] = round(time.perf_counter() - whole, 1)
    return row


def machine(args):
    if args.device == "cpu":
        return {"machine": platform.processor(), "torch": torch.__version__}
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True,
                            text=True).stdout.strip()
    return {"machine": torch.cuda.get_device_name(), "driver": driver, "torch": torch.__version__,
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "target": args.target,
            "date": time.strftime("%Y-%m-%d %H:%M"), "commit": args.commit}


def table(rows):
    lines = ["| work | precision | Tessera µs | PyTorch µs | its form | ratio (smallest–largest) | error | compile s |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        if "case" not in row:
            continue
        ours = f"{row['tessera_us']:.1f}" if "tessera_us" in row else row.get("fault", "-")
        ratio = f"{row['ratio']} ({row['ratio_min']}–{row['ratio_max']})" if "ratio" in row else "-"
        work = row["case"].replace(":", ", batch ")
        lines.append(f"| {work} | {row['precision']} | {ours} | {row.get('peer_us', '-')} | {row.get('peer', '-')} | "
                     f"{ratio} | {row.get('error', float('nan')):.1e} | {row.get('compile_s', '-')} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="NAME or NAME:BATCH, a list")
    parser.add_argument("--precision", default="f32", help="of " + ", ".join(DTYPES) + ", or a list")
    parser.add_argument("--minutes", type=float, default=8, help="no case starts after that")
    parser.add_argument("--rows", default="rows.jsonl", help="JSON lines; cases that it has are not run again")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "bazel-bin",
                        help="has engine/libengine.so and tools/convert")
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu (with --time=0)")
    parser.add_argument("--time", type=int, default=1, help="0: outputs are compared, nothing is timed")
    parser.add_argument("--compile", type=int, default=1, help="0: PyTorch's eager forms only")
    parser.add_argument("--cache", default=None, help="folder that keeps compiled code")
    parser.add_argument("--commit", default="", help="noted in the rows")
    parser.add_argument("--table", action="store_true", help="print the rows as a table, and nothing else")
    args = parser.parse_args()
    rows = pathlib.Path(args.rows)
    known = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    if args.table:
        print(table(known))
        return 0
    if args.device == "cpu" and args.time:
        parser.error("--device=cpu needs --time=0")
    start = time.monotonic()
    library = ctypes.CDLL(os.path.join(args.bin, "engine", "libengine.so"))
    library.tessera_session_free.argtypes = library.tessera_model_free.argtypes = [ctypes.c_void_p]
    done = {(row["case"], row["precision"]) for row in known if "case" in row}
    failed = False
    with tempfile.TemporaryDirectory() as folder, rows.open("a") as out:

        def emit(row):
            print(json.dumps(row), file=out, flush=True)
            print(json.dumps(row), flush=True)

        emit(machine(args))
        for precision in args.precision.split(","):
            for case in SPARSE if args.cases == "sparse" else args.cases.split(","):
                if (case, precision) in done or (precision == "int8" and not case.startswith("matmul")):
                    continue
                if case in SPARSE and not any(case.partition(":")[0].endswith(k) and precision in v
                                              for k, v in ONLY.items()):
                    continue
                if time.monotonic() - start > args.minutes * 60:
                    print(f"{case} {precision}: no time left in this phase", file=sys.stderr)
                    continue
                try:
                    row = run_case(case, precision, args, library, folder)
                except Exception as fault:
                    traceback.print_exc()
                    row = {"case": case, "precision": precision, "fault": str(fault)[:500]}
                failed |= "fault" in row
                emit(row)
                if args.device != "cpu":
                    torch.cuda.empty_cache()
                    torch._dynamo.reset()
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
