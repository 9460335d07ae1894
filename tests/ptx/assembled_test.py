"""Every distinct kernel of the catalog's networks, of random cases of every op and of every emitter's kinds of ways,
through NVIDIA's assembler.

    assembled_test.py sm_90a

write_kernels writes the PTX; ptxas, which ./check installs from PyPI (nvidia-cuda-nvcc), assembles it. It must take
every kernel; none may spill a register or keep anything in local memory, none may call what is not there, ptxas may
say nothing of wgmma being serialised, and registers, threads, shared memory and grids stay within what the chip has,
for as many blocks on a multiprocessor as the schedule counts on. Every emitter for GPUs must have planned something.
From sm_80 on the same for products that may round to tf32. The last lines say how long it took and which kernels hold
most registers. With TESSERA_LADDER=all (./check --all) every network of tests/ladder in every pattern and precision is
looked at too, not a few.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import time

# Batches as the published measurements have them; a transformer's layers are alike.
NETWORKS = ["mlp:1", "mlp:32", "mlp:1024", "mobilenet_v1:1", "mobilenet_v1:32", "mobilenet_v2:1", "resnet18:1",
            "bert_base:1:layers=2", "bert_base:32:layers=1", "minilm:1:layers=2", "ops:3", "emitters", "device_ops",
            "ladder:mlp/90%:fine/f32", "ladder:bert/80%:64x64/f16", "ladder:bert/2:4/i8",
            "ladder:mobilenet_v1/90%:4x1/i8"]

# The same chip where products of f32 may round to tf32.
TF32_NETWORKS = ["mlp:32", "mobilenet_v1:1", "bert_base:1:layers=1", "emitters"]

# Emitters for GPUs that have nothing for a chip; every other one must have planned something.
WITHOUT = {"sm_75": {"gpu_attention_mma", "gpu_two_of_four"}}

# tests/ladder/ladder_network.cc has the lists.
LADDER = [f"ladder:{network}/{pattern}/{precision}"
          for network in ("mlp", "mobilenet_v1", "bert", "fashion_mlp", "fashion_mobilenet")
          for pattern in ("none", "90%:fine", "90%:4x1", "80%:16x16", "80%:64x64", "50%:channels", "2:4")
          for precision in ("f32", "f16", "i8")]

# Of a block: bytes of shared memory. CUDA C++ Programming Guide, table of technical specifications per capability.
SHARED_BYTES = {"sm_75": 64 << 10, "sm_80": 163 << 10, "sm_86": 99 << 10, "sm_89": 99 << 10, "sm_90": 227 << 10}
# Of a multiprocessor.
UNIT_SHARED_BYTES = {"sm_75": 64 << 10, "sm_80": 164 << 10, "sm_86": 100 << 10, "sm_89": 100 << 10,
                     "sm_90": 228 << 10}
REGISTERS = 65536  # of a multiprocessor, the same for all of them

# Kernels that keep something in local memory all the same, by a part of their symbol, and why.
KNOWN_LOCAL = {}


def assembler():
    """Where PyPI's package has put ptxas; an error where it is not installed, never a skip."""
    folder = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    found = sorted(folder.glob("cu*/bin/ptxas")) + sorted(folder.glob("cuda_nvcc/bin/ptxas"))
    if not found:
        sys.exit(f"FAILED: no ptxas below {folder}: run ./check --setup, which installs third_party/requirements.txt")
    return found[-1]


def assemble(ptxas, path, chip):
    """What ptxas says of each kernel of a file: {symbol: {registers, stack, spills, shared}}, and its other words."""
    done = subprocess.run([str(ptxas), f"-arch={chip}", "-v", "-o", os.devnull, str(path)], capture_output=True,
                          text=True)
    text = done.stdout + done.stderr
    if done.returncode != 0:
        return {}, [f"{path.name}: ptxas ended with status {done.returncode}: {text[-2000:]}"]
    kernels, symbol, words = {}, None, []
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            symbol = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            kernels.setdefault(symbol, {}).update(stack=int(match[1]), spills=int(match[2]) + int(match[3]))
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels.setdefault(symbol, {}).update(registers=int(match[1]), shared=int(shared[1]) if shared else 0)
        elif re.search(r"wgmma|warpgroup|[Ww]arning|error", line):
            words.append(f"{path.name}: {line}")
    return kernels, words


def main(chip):
    ptxas = assembler()
    networks = NETWORKS + (LADDER if os.environ.get("TESSERA_LADDER") == "all" else [])
    version = subprocess.run([str(ptxas), "--version"], capture_output=True, text=True).stdout.split("release ")[-1]
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        launches, files, kernels, faults = {}, [], {}, []
        for target, of_target in [(chip, networks)] + ([] if chip == "sm_75" else [(chip + "+tf32", TF32_NETWORKS)]):
            folder = pathlib.Path(name) / target
            folder.mkdir()
            subprocess.run(["tests/ptx/write_kernels", target, str(folder)] + of_target, check=True)
            rows = map(json.loads, (folder / "kernels.jsonl").read_text().splitlines())
            launches.update({(folder / row["file"], row["symbol"]): row for row in rows})
            files += sorted(folder.glob("*.ptx"))
            planned = json.loads((folder / "emitters.json").read_text())
            if target == chip:
                faults += [f"{emitter}: no network has a kernel of it" for emitter, nodes in planned.items()
                           if (nodes == 0) != (emitter in WITHOUT.get(chip, ()))]
        written = time.perf_counter()
        faults += [f"{path}: '.extern .func'" for path in files if ".extern .func" in path.read_text()]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, (found, words) in zip(files, pool.map(lambda path: assemble(ptxas, path, chip), files)):
                kernels.update({(path, symbol): kernel for symbol, kernel in found.items()})
                faults += words
        assembled = time.perf_counter()
    for (path, symbol), launch in launches.items():
        kernel, where = kernels.get((path, symbol)), f"{path.parent.name}: {symbol} ({launch['node']})"
        if kernel is None or "registers" not in kernel or "stack" not in kernel:
            faults.append(f"{where}: ptxas says nothing of it")
            continue
        if (kernel["stack"] or kernel["spills"]) and not any(part in symbol for part in KNOWN_LOCAL):
            faults.append(f"{where}: {kernel['stack']} bytes of local memory, {kernel['spills']} of spills")
        shared = launch["shared_bytes"] + kernel["shared"]
        if shared > SHARED_BYTES[chip.rstrip("a")]:
            faults.append(f"{where}: {shared} bytes of shared memory; {chip} has {SHARED_BYTES[chip.rstrip('a')]}")
        # Registers are given to warps in pieces of 8 for each thread; from sm_80 on each block has 1 KiB more than it
        # knows of.
        blocks = max(1, launch["blocks_per_unit"])
        if blocks * -(-kernel["registers"] // 8) * 8 * -(-launch["threads"] // 32) * 32 > REGISTERS:
            faults.append(f"{where}: {launch['threads']} threads of {kernel['registers']} registers are too many for "
                          f"{blocks} blocks on a multiprocessor")
        # Steps that overlap ask for more than they use, so that their few blocks spread (codegen/plan.cc).
        held = blocks * (shared + (0 if chip == "sm_75" else 1024))
        if blocks > 1 and not launch["overlaps"] and held > UNIT_SHARED_BYTES[chip.rstrip("a")]:
            faults.append(f"{where}: {shared} bytes of shared memory are too many for {blocks} blocks")
        x, y, z = launch["blocks"]
        if launch["threads"] > 1024 or x > 2**31 - 1 or y > 65535 or z > 65535:
            faults.append(f"{where}: {launch['threads']} threads in {x} x {y} x {z} blocks are too many")
    if len(launches) < 20:
        faults.append(f"only {len(launches)} kernels: write_kernels has lost some")
    for fault in faults:
        print("FAILED", fault)
    hungry = sorted(kernels.items(), key=lambda item: -item[1].get("registers", 0))[:3]
    print(f"{chip}: {len(launches)} kernels of {len(networks)} networks; PTX in {written - start:.1f} s, "
          f"ptxas {version.split(',')[0]} in {assembled - written:.1f} s; most registers: "
          + ", ".join(f"{symbol} {kernel['registers']}" for (_, symbol), kernel in hungry))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
