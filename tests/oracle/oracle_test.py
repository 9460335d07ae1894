"""write_cases and oracle.py: what was written reads back whole, what was changed is found, and verdicts are right.

Emulators are not part of this project, so the ones here compute nothing or know the answer.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import ctypes

from tests.oracle import oracle

CASES = {
    "gfx1100": ["product=tests/oracle/product_f16.graph", "relu=op:relu:7", "softmax=op:softmax:3", "mlp=zoo:mlp"],
    "gfx906": ["product=tests/oracle/product_i8.graph"],
    "gfx90a": ["product=tests/oracle/product_f16.graph@gpu_matmul"],
}


class Nothing:
    """Leaves memory as it is."""
    name = "nothing"

    def launch(self, case, step, kernarg):
        pass


class Oracle(Nothing):
    """Knows the answers: writes simt's outputs where the last steps write theirs."""
    name = "oracle"

    def launch(self, case, step, kernarg):
        for k, arg in enumerate(step["args"]):
            buffer = case.json["buffers"][arg["buffer"]]
            if buffer["kind"] == "output":
                data = case.simt[buffer["offset"]][arg["offset"]:]
                ctypes.memmove(int.from_bytes(kernarg[8 * k:8 * k + 8], "little"), data, len(data))


def refused(folder, change, words):
    """Whether a changed copy of the case is a fault that says so."""
    with tempfile.TemporaryDirectory() as name:
        copy = pathlib.Path(name) / "case"
        shutil.copytree(folder, copy)
        change(copy)
        try:
            oracle.Case(copy)
        except oracle.Fault as fault:
            assert words in str(fault), f"expected '{words}' in: {fault}"
            return
    raise AssertionError(f"nobody noticed: {words}")


def edit(key, value):
    def change(copy):
        case = json.loads((copy / "case.json").read_text())
        at = case
        for part in key[:-1]:
            at = at[part]
        at[key[-1]] = value
        (copy / "case.json").write_text(json.dumps(case))
    return change


def cut(name):
    return lambda copy: (copy / name).write_bytes((copy / name).read_bytes()[:-1])


def main():
    with tempfile.TemporaryDirectory() as name:
        folders = []
        for chip, cases in CASES.items():
            folder = pathlib.Path(name) / chip
            subprocess.run(["tests/oracle/write_cases", chip, str(folder)] + cases, check=True)
            folders += sorted(str(path) for path in folder.iterdir())
        assert len(folders) == 6, folders
        assert oracle.main(["check"] + folders) == 0
        for folder in folders:
            case = oracle.Case(folder)
            row = oracle.verdict(case, Oracle())
            assert "| pass |" in row, row
            row = oracle.verdict(case, Nothing())
            assert "| FAIL |" in row, row
            print(row)

        product = folders[0] if "product" in folders[0] else next(f for f in folders if "gfx1100/product" in f)
        refused(product, cut("code0.hsaco"), "code0.hsaco has")
        refused(product, cut("input0.bin"), "input0.bin has")
        refused(product, edit(("chip",), "gfx942"), "expected gfx942")
        refused(product, edit(("steps", 0, "kernel"), "nowhere"), "kernel nowhere is not in its code object")
        refused(product, edit(("steps", 0, "values"), [1, 2, 3]), "bytes of arguments")
        refused(product, edit(("allowed",), -1), "simt is off by")
        assert oracle.main(["check", product, name]) == 1  # a folder without a case

        # The kernel that was asked for, and emulators behind the C interface.
        matrix = json.loads((pathlib.Path(name) / "gfx90a/product/case.json").read_text())
        assert "mfma" in matrix["steps"][0]["kernel"], matrix["steps"]
        still = oracle.Library("tests/oracle/libstill_emulator.so")
        for folder in folders:
            row = oracle.verdict(oracle.Case(folder), still)
            assert "| still_emulator | FAIL |" in row, row
        refusing = oracle.Case(product)
        refusing.json["steps"][0]["threads"] = 0
        assert "the emulator ended with 7" in oracle.verdict(refusing, still)
        assert oracle.main(["run", product, "--library=tests/oracle/libstill_emulator.so"]) == 1

        unknown = subprocess.run(["tests/oracle/write_cases", "gfx1100", name, "x=op:abacus"], capture_output=True,
                                 text=True)
        assert unknown.returncode == 1 and "op:NAME:SEED" in unknown.stderr, unknown.stderr
    assert oracle.relative_error([1.0, float("nan")], [1.0, 2.0]) == float("inf")
    assert oracle.values(b"\x80\x3f", "bf16") == [1.0]
    assert oracle.values(b"\x2f", "i4") == [-1, 2] and oracle.values(b"\x2f", "u4") == [15, 2]
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
