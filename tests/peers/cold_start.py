"""From a model file to a ready session: how long it takes cold and from the cache, each in its own process.

    bazel build //engine:libengine.so //tools:convert
    python3 tests/peers/cold_start.py [--models=mobilenet_v1,minilm]
    python3 tests/peers/cold_start.py --tiers --models=bert_base --pattern=90:fine

Prints medians of five starts: one column compiles everything, the other finds the program of an earlier start. With
--tiers, medians of three of the time from file to first result with one tier and with both (engine.h), until the final
program of both is there, and an inference before and after that.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.peers import networks  # noqa: E402

START = """
import ctypes, sys
from tests.peers.tessera import Session
library = ctypes.CDLL(sys.argv[1])
session = Session(library, sys.argv[2], threads=2, cache_dir=sys.argv[3] or None)
print(session.load_s + session.compile_s)
"""


TIERS = """
import ctypes, resource, statistics, sys, time
import numpy as np
from tests.peers.tessera import Session
begin = time.perf_counter()
session = Session(ctypes.CDLL(sys.argv[1]), sys.argv[2], threads=2, tier=sys.argv[3])
session.bind({sys.argv[4]: np.random.default_rng(0).standard_normal(eval(sys.argv[5])).astype(np.float32)})
def run():
    start = time.perf_counter()
    session.check(session.run())
    return time.perf_counter() - start
run()
first = time.perf_counter() - begin
early = statistics.median(run() for _ in range(3))
session.await_final_tier()
final = time.perf_counter() - begin
late = statistics.median(run() for _ in range(20))
print(first, early, final, late, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def tiers(library, model, tier, name, shape):
    """Medians over fresh processes, in s and MiB: first result, run then, final program, run then, peak memory."""
    rows = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", TIERS, library, str(model), tier, name, str(shape)], cwd=ROOT,
                              check=True, capture_output=True, text=True)
        rows.append([float(x) for x in done.stdout.split()])
    return [statistics.median(column) for column in zip(*rows)]


def start(library, model, cache):
    """Seconds from file to session in a fresh process."""
    done = subprocess.run([sys.executable, "-c", START, library, str(model), cache], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    return float(done.stdout)


def compare_tiers(args, library, convert):
    import onnx
    print("| network | tier | first result, s | run then, ms | final program, s | run then, ms | peak memory, MiB |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            path = networks.write(name, folder, pattern=args.pattern, precision=args.precision)
            tess = os.path.join(folder, name + ".tess")
            subprocess.run([convert, str(path), "-o", tess], check=True, capture_output=True)
            port = onnx.load(str(path), load_external_data=False).graph.input[0]
            shape = [d.dim_value for d in port.type.tensor_type.shape.dim]
            for tier in ("final", "both"):
                first, early, final, late, memory = tiers(library, tess, tier, port.name, shape)
                print(f"| {name} {args.precision} {args.pattern} | {tier} | {first:.2f} | {early * 1e3:.1f} "
                      f"| {final:.2f} | {late * 1e3:.1f} | {memory:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,mobilenet_v1,minilm")
    parser.add_argument("--bin", default=str(ROOT / "bazel-bin"), help="has engine/libengine.so and tools/convert")
    parser.add_argument("--tiers", action="store_true", help="compares one tier with both")
    parser.add_argument("--pattern", default="dense")
    parser.add_argument("--precision", default="f32")
    args = parser.parse_args()
    library = os.path.join(args.bin, "engine", "libengine.so")
    convert = os.path.join(args.bin, "tools", "convert")
    if args.tiers:
        return compare_tiers(args, library, convert)
    print("| network | load + compile, cold, s | from the cache, s |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models.split(","):
            tess = os.path.join(folder, name + ".tess")
            subprocess.run([convert, str(networks.write(name, folder)), "-o", tess], check=True, capture_output=True)
            cache = os.path.join(folder, name + ".cache")
            os.mkdir(cache)
            cold = statistics.median(start(library, tess, "") for _ in range(5))
            start(library, tess, cache)
            cached = statistics.median(start(library, tess, cache) for _ in range(5))
            print(f"| {name} | {cold:.2f} | {cached:.3f} |")


if __name__ == "__main__":
    main()
