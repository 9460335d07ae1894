"""Cases that write_cases wrote: read back and checked, or run by an emulator of AMD's instructions and judged.

    oracle.py check FOLDER…                        each FOLDER/case.json and what it names; exit status 1 for a fault
    oracle.py run FOLDER… --tinygrad=CHECKOUT      a row of a table for each case: what its machine code computed
    oracle.py run FOLDER… --library=EMULATOR.so    the same by any emulator behind the C function `emulate` (Library)

`run` needs an emulator that is not part of this project. tinygrad (github.com/tinygrad/tinygrad, its test/mockgpu/amd)
is written in Python and, by its own layouts and its reading of AMD's manual, a second opinion on gfx1100; a library
may be AMD's rocjitsu (github.com/ROCm/rocm-systems, emulation/rocjitsu), which knows gfx908, gfx90a and gfx942 too.
Another emulator is another class with a method `launch`. Tested by oracle_test.py.
"""

import argparse
import ctypes
import hashlib
import json
import math
import pathlib
import struct
import subprocess
import sys
import time

# How dtypes lie in memory: bits of an element, and struct's letter. Two elements of 4 bits share a byte, the first low.
DTYPES = {"f64": (64, "d"), "f32": (32, "f"), "f16": (16, "e"), "bf16": (16, None), "i64": (64, "q"), "i32": (32, "i"),
          "i16": (16, "h"), "i8": (8, "b"), "i4": (4, None), "u64": (64, "Q"), "u32": (32, "I"), "u16": (16, "H"),
          "u8": (8, "B"), "u4": (4, None), "bool": (8, "B")}
# EF_AMDGPU_MACH of an ELF header's flags.
MACHINES = {"gfx906": 0x2f, "gfx908": 0x30, "gfx90a": 0x3f, "gfx942": 0x4c, "gfx1100": 0x41}


class Fault(Exception):
    """What is wrong with a case, in words."""


def need(condition, text):
    if not condition:
        raise Fault(text)


def values(data, dtype, count=None):
    """The elements as Python numbers, the first `count` of them: of 4 bits, an even number is there."""
    bits, letter = DTYPES[dtype]
    if dtype == "bf16":  # the upper half of an f32
        return [struct.unpack("<f", b"\0\0" + data[k:k + 2])[0] for k in range(0, len(data), 2)][:count]
    if bits == 4:
        halves = [half for byte in data for half in (byte & 15, byte >> 4)]
        return [half - 16 if dtype == "i4" and half > 7 else half for half in halves][:count]
    return struct.unpack(f"<{len(data) * 8 // bits}{letter}", data)[:count]


def relative_error(found, expected):
    """max|y - r| / max|r|; infinite where one is NaN and the other is not (tesa/testing/close.h)."""
    worst = largest = 0.0
    for y, r in zip(found, expected):
        if y == r or (math.isnan(y) and math.isnan(r)):
            difference = 0.0
        elif math.isnan(y) or math.isinf(y) or math.isnan(r) or math.isinf(r):
            return math.inf
        else:
            difference = abs(y - r)
        worst = max(worst, difference)
        if math.isfinite(r):
            largest = max(largest, abs(r))
    return worst / largest if largest > 0 else worst


class CodeObject:
    """An ELF file that HIP would load: segments, and of each kernel its descriptor."""

    def __init__(self, data, name):
        self.data = data
        need(data[:6] == b"\x7fELF\x02\x01" and len(data) >= 64, f"{name}: not a 64-bit little-endian ELF file")
        (kind, machine, _, _, phoff, shoff, flags, _, phsize, phnum, shsize, shnum, _) = struct.unpack_from(
            "<HHIQQQIHHHHHH", data, 16)
        need((kind, machine) == (3, 224), f"{name}: not a linked file for AMD's chips")
        need(shoff + shsize * shnum <= len(data) and phoff + phsize * phnum <= len(data), f"{name}: cut short")
        self.machine = flags & 0xff
        self.segments = []  # (address, offset, bytes in the file, bytes in memory)
        for k in range(phnum):
            (kind, _, offset, address, _, in_file, in_memory, _) = struct.unpack_from("<IIQQQQQQ", data,
                                                                                      phoff + k * phsize)
            if kind == 1:
                need(offset + in_file <= len(data), f"{name}: segment {k} lies outside")
                self.segments.append((address, offset, in_file, in_memory))
        sections = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + k * shsize) for k in range(shnum)]
        self.descriptors = {}  # of each kernel: its descriptor's address
        for (_, kind, _, _, offset, size, link, _, _, _) in sections:
            if kind != 11:  # SHT_DYNSYM
                continue
            strings = sections[link]
            text = data[strings[4]:strings[4] + strings[5]]
            for at in range(offset, offset + size, 24):
                (symbol, _, _, section, address, _) = struct.unpack_from("<IBBHQQ", data, at)
                symbol = text[symbol:text.index(b"\0", symbol)].decode()
                if section != 0 and symbol.endswith(".kd"):
                    self.descriptors[symbol[:-3]] = address

    def descriptor(self, kernel):
        """What a kernel's descriptor says (LLVM, User Guide for AMDGPU Backend, "Kernel Descriptor")."""
        address = self.descriptors[kernel]
        for (start, offset, in_file, _) in self.segments:
            if start <= address and address + 64 <= start + in_file:
                words = struct.unpack_from("<IIIIq20xIIIHHI", self.data, offset + address - start)
                return {"address": address, "shared_bytes": words[0], "scratch_bytes": words[1],
                        "kernarg_bytes": words[2], "entry": address + words[4], "rsrc2": words[7],
                        "properties": words[8]}
        raise Fault(f"the descriptor of {kernel} lies in no segment")


class Case:
    """A folder with case.json, all of it read and checked; raises Fault."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.json = json.loads((self.folder / "case.json").read_text())
        need(self.json["format"] == "tessera oracle case 1", f"unknown format {self.json['format']!r}")
        self.code = [CodeObject(self.read(code), code["file"]) for code in self.json["code"]]
        for code in self.code:
            need(code.machine == MACHINES[self.json["chip"]],
                 f"code for machine {code.machine:#x}, expected {self.json['chip']}")
        self.constants = self.read(self.json["constants"])
        self.inputs = [self.port(port) for port in self.json["inputs"]]
        self.simt = [self.port(port) for port in self.json["outputs"]]
        self.expected = [values(self.read(port["expected"]), port["expected_dtype"], math.prod(port["shape"]))
                         for port in self.json["outputs"]]
        for port, simt, expected in zip(self.json["outputs"], self.simt, self.expected):
            found = values(simt, port["dtype"], len(expected))
            need(len(found) == len(expected), f"output {port['name']}: {len(found)} and {len(expected)} elements")
            error = relative_error(found, expected)
            need(error <= self.json["allowed"], f"output {port['name']}: simt is off by {error:g}")
        for step in self.json["steps"]:
            self.check_step(step)

    def read(self, entry):
        data = (self.folder / entry["file"]).read_bytes()
        need(len(data) == entry["bytes"], f"{entry['file']} has {len(data)} bytes, expected {entry['bytes']}")
        return data

    def port(self, port):
        data = self.read(port["data"])
        need(port["dtype"] in DTYPES, f"{port['name']}: {port['dtype']} is none of {', '.join(DTYPES)}")
        elements = math.prod(port["shape"])
        size = (elements * DTYPES[port["dtype"]][0] + 7) // 8
        need(len(data) == size, f"{port['name']}: {len(data)} bytes, and {elements} elements have {size}")
        return data

    def check_step(self, step):
        name = f"kernel {step['kernel']}"
        code = self.code[step["code"]]
        need(step["kernel"] in code.descriptors, f"{name} is not in its code object")
        given = 8 * (len(step["args"]) + len(step["values"]))
        says = code.descriptor(step["kernel"])
        need(says["kernarg_bytes"] == given, f"{name} takes {says['kernarg_bytes']} bytes of arguments, given {given}")
        need(says["scratch_bytes"] == 0, f"{name} keeps {says['scratch_bytes']} bytes in scratch memory")
        need(says["shared_bytes"] + step["shared_bytes"] <= 64 << 10, f"{name} needs too much LDS")
        need(1 <= step["threads"] <= 1024 or step["blocks"][0] == 0, f"{name} has {step['threads']} work-items")
        room = {"temp": self.json["arena_bytes"], "constant": len(self.constants)}
        for arg in step["args"]:
            buffer = self.json["buffers"][arg["buffer"]]
            if buffer["kind"] in room:
                need(buffer["offset"] + buffer["bytes"] <= room[buffer["kind"]], f"{buffer['name']} lies outside")

    def sha256(self):
        """Of the code, so that a verdict names what it is about."""
        return hashlib.sha256(b"".join(code.data for code in self.code)).hexdigest()

    def run(self, emulator):
        """The worst relative error of the outputs to the interpreter's and to simt's."""
        def memory(size, data=b""):
            at = (ctypes.c_char * (size + 512))()
            ctypes.memset(at, 0xa5, size + 512)
            address = (ctypes.addressof(at) + 255) // 256 * 256
            ctypes.memmove(address, data, len(data))
            return at, address

        arena, constants = memory(self.json["arena_bytes"]), memory(len(self.constants), self.constants)
        inputs = [memory(len(data), data) for data in self.inputs]
        outputs = [memory(len(data)) for data in self.simt]

        def address(arg):
            buffer = self.json["buffers"][arg["buffer"]]
            if buffer["kind"] == "temp":
                return arena[1] + buffer["offset"] + arg["offset"]
            if buffer["kind"] == "constant":
                return constants[1] + buffer["offset"] + arg["offset"]
            return (inputs if buffer["kind"] == "input" else outputs)[buffer["offset"]][1] + arg["offset"]

        for step in self.json["steps"]:
            if step["blocks"][0] > 0:
                words = [address(arg) for arg in step["args"]] + step["values"]
                emulator.launch(self, step, struct.pack(f"<{len(words)}Q", *words))
        to_reference = to_simt = 0.0
        for port, place, simt, expected in zip(self.json["outputs"], outputs, self.simt, self.expected):
            found = values(ctypes.string_at(place[1], len(simt)), port["dtype"], len(expected))
            to_reference = max(to_reference, relative_error(found, expected))
            to_simt = max(to_simt, relative_error(found, values(simt, port["dtype"])))
        return to_reference, to_simt


def name_of(library):
    return pathlib.Path(library).stem.removeprefix("lib")


class Loader:
    """Code objects in memory as their segments say, each once."""

    def __init__(self):
        self.loaded = {}  # of each code object: where it lies

    def load(self, code):
        if id(code) not in self.loaded:
            size = max(start + in_memory for (start, _, _, in_memory) in code.segments) + 4096
            place = (ctypes.c_char * (size + 4096))()
            base = (ctypes.addressof(place) + 4095) // 4096 * 4096
            for (start, offset, in_file, _) in code.segments:
                ctypes.memmove(base + start, code.data[offset:offset + in_file], in_file)
            self.loaded[id(code)] = (place, base, size)
        return self.loaded[id(code)]


class Library(Loader):
    """An emulator in a shared library, which runs one launch on memory of this process:

    int emulate(const char *chip, const void *descriptor, const uint32_t blocks[3], uint32_t threads,
                uint32_t shared_bytes, const void *kernarg);

    `descriptor` is the kernel's, in its code object as a driver loads it; `shared_bytes` all of the LDS of a block. 0
    when the kernel has ended.
    """

    def __init__(self, path):
        super().__init__()
        self.name = name_of(path)
        self.emulate = ctypes.CDLL(path).emulate

    def launch(self, case, step, kernarg):
        code = case.code[step["code"]]
        (_, base, _) = self.load(code)
        says = code.descriptor(step["kernel"])
        args = ctypes.create_string_buffer(kernarg, max(8, len(kernarg)))
        status = self.emulate(case.json["chip"].encode(), ctypes.c_void_p(base + says["address"]),
                              (ctypes.c_uint32 * 3)(*step["blocks"]), ctypes.c_uint32(step["threads"]),
                              ctypes.c_uint32(says["shared_bytes"] + step["shared_bytes"]), args)
        need(status == 0, f"kernel {step['kernel']}: the emulator ended with {status}")


class Tinygrad(Loader):
    """tinygrad's emulator, from a checkout."""

    name = "tinygrad"
    archs = {"gfx1100": "rdna3", "gfx942": "cdna"}

    def __init__(self, checkout):
        super().__init__()
        sys.path.insert(0, checkout)
        from test.mockgpu.amd import emu  # of the checkout  # pylint: disable=import-outside-toplevel
        self.emu = emu

    def launch(self, case, step, kernarg):
        code = case.code[step["code"]]
        (_, base, size) = self.load(code)
        says = code.descriptor(step["kernel"])
        args = ctypes.create_string_buffer(kernarg, max(8, len(kernarg)))
        # Scalar registers that the descriptor asks for, in their order.
        user = []
        for bit, words in enumerate((4, 2, 2, 2, 2, 2, 1)):
            if says["properties"] >> bit & 1:
                at = ctypes.addressof(args) if bit == 3 else 0  # the kernarg segment's address
                user += [at & 0xffffffff, at >> 32, 0, 0][:words]
        # LDS in the descriptor's granules, as a driver writes it for the launch.
        granules = (says["shared_bytes"] + step["shared_bytes"] + 511) // 512
        rsrc2 = says["rsrc2"] & ~(0x1ff << 15) | granules << 15
        self.emu.run_asm(base + says["entry"], size - says["entry"], *step["blocks"], step["threads"], 1, 1,
                         ctypes.addressof(args), rsrc2, says["scratch_bytes"], self.archs[case.json["chip"]], user)


def row_of(case, emulator_name, said, errors, seconds):
    kernels = ", ".join(sorted({step["kernel"] for step in case.json["steps"]}))
    cells = [case.json["case"], case.json["chip"], kernels, case.sha256()[:16], emulator_name, said, errors,
             f"{case.json['allowed']:g}", f"{seconds:.1f}"]
    return "| " + " | ".join(cells) + " |"


def verdict(case, emulator):
    """A row of the table: what the emulator made of the case."""
    start = time.perf_counter()
    try:
        to_reference, to_simt = case.run(emulator)
        said = "pass" if to_reference <= case.json["allowed"] else "FAIL"
        errors = f"{to_reference:.2e} | {to_simt:.2e}"
    except Exception as error:  # whatever an emulator raises is its verdict  # pylint: disable=broad-except
        words = f"{type(error).__name__}: {str(error)[:160]}".replace("|", "/").replace("\n", " ")
        said, errors = f"not run: {words}", "- | -"
    return row_of(case, emulator.name, said, errors, time.perf_counter() - start)


def verdict_apart(case, options):
    """The same from a process of its own, which an emulator may bring down."""
    start = time.perf_counter()
    emulator = f"--tinygrad={options.tinygrad}" if options.tinygrad else f"--library={options.library}"
    done = subprocess.run([sys.executable, __file__, "run", str(case.folder), emulator, "--here"],
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode in (0, 1) and done.stdout:
        return done.stdout.strip()
    name = "tinygrad" if options.tinygrad else name_of(options.library)
    return row_of(case, name, f"not run: it ended with status {done.returncode}", "- | -",
                  time.perf_counter() - start)


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["check", "run"])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--tinygrad", help="a checkout of tinygrad")
    parser.add_argument("--library", help="a shared library with the function `emulate`")
    parser.add_argument("--here", action="store_true", help="in this process, which the emulator may bring down")
    options = parser.parse_args(argv)
    if options.command == "run" and (options.tinygrad is None) == (options.library is None):
        parser.error("run needs an emulator: --tinygrad=CHECKOUT or --library=EMULATOR.so")
    emulator = None
    if options.here:
        emulator = Tinygrad(options.tinygrad) if options.tinygrad else Library(options.library)
    failed = 0
    for folder in options.folders:
        try:
            case = Case(folder)
        except (Fault, KeyError, OSError, struct.error, ValueError) as error:
            print(f"FAILED {folder}: {error}")
            failed += 1
            continue
        if options.command == "check":
            row = f"ok {folder}: {len(case.json['steps'])} steps"
        else:
            row = verdict(case, emulator) if emulator else verdict_apart(case, options)
        failed += "| FAIL |" in row
        print(row, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
