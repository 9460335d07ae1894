"""The real networks of models/manifest.json, compiled by Tessera, against the TFLite interpreter on the same inputs.

    python3 models/fetch.py
    bazel build //engine:libengine.so //tools:convert
    python3 tests/peers/real_models.py

Every output of every network must agree within 1e-4 relative; the exit status is 3 otherwise. Inputs are seeded uniform
values in [-1, 1], the range that these networks expect of an image. The interpreter is that of the PyPI package
ai-edge-litert (third_party/requirements.txt), with its default kernels.
"""

import argparse
import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from models import fetch  # noqa: E402
from tests.peers.tessera import Session  # noqa: E402

BOUND = 1e-4


def check(path, library, convert, folder, seed):
    """The largest relative error over the outputs of one network, each taken relative to its largest value."""
    tess = pathlib.Path(folder) / (path.stem + ".tess")
    subprocess.run([convert, str(path), "-o", str(tess)], check=True, capture_output=True)
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    rng = np.random.default_rng(seed)
    session = Session(library, tess, threads=2)
    arrays = {}
    for port in inputs:
        data = rng.uniform(-1, 1, port["shape"]).astype(port["dtype"])
        interpreter.set_tensor(port["index"], data)
        arrays[port["name"]] = data
    interpreter.invoke()
    found = session.run_all(arrays)
    worst = 0.0
    for port, ours in zip(outputs, found):
        expected = interpreter.get_tensor(port["index"]).astype(np.float64)
        worst = max(worst, float(np.max(np.abs(ours - expected)) / np.max(np.abs(expected))))
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "bazel-bin"), help="has engine/libengine.so and tools/convert")
    args = parser.parse_args()
    library = ctypes.CDLL(os.path.join(args.bin, "engine", "libengine.so"))
    convert = os.path.join(args.bin, "tools", "convert")
    failed = False
    print("| network | largest relative error |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(fetch.cache_folder().glob("*.tflite")):
            worst = max(check(path, library, convert, folder, seed) for seed in range(3))
            failed |= not worst <= BOUND
            print(f"| {path.stem} | {worst:.1e} |")
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
