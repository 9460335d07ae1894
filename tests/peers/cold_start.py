"""From a model file to a ready session: how long it takes cold and from the cache, each in its own process.

    bazel build //engine:libengine.so //tools:convert
    python3 tests/peers/cold_start.py [--models=mobilenet_v1,minilm]

Prints medians of five starts: one column compiles everything, the other finds the program of an earlier start.
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


def start(library, model, cache):
    """Seconds from file to session in a fresh process."""
    done = subprocess.run([sys.executable, "-c", START, library, str(model), cache], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    return float(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,mobilenet_v1,minilm")
    parser.add_argument("--bin", default=str(ROOT / "bazel-bin"), help="has engine/libengine.so and tools/convert")
    args = parser.parse_args()
    library = os.path.join(args.bin, "engine", "libengine.so")
    convert = os.path.join(args.bin, "tools", "convert")
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
