"""What PTX of chosen products and networks must hold: golden/*.check, by LLVM's FileCheck.

A file's first lines say what it is of; the rest are FileCheck's directives over all kernels, one text:

    // KERNELS: product:f16:m=512:n=512:k=512
    // CHIPS: sm_80 sm_90
    // CHECK: mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32

Facts are few and meant: which instructions do the work, none that a slip would bring in. They say nothing of registers'
numbers or of an order that nobody chose.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

FILECHECK = "/usr/bin/FileCheck-19"


def header(text, name):
    found = re.search(rf"^// {name}: (.*)$", text, re.MULTILINE)
    return found[1].split() if found else []


def text_of(chip, networks, folder):
    subprocess.run(["tests/ptx/write_kernels", chip, str(folder)] + networks, check=True)
    files = sorted(folder.glob("*.ptx"), key=lambda path: int(path.stem))
    return "\n".join(path.read_text() for path in files)


def main():
    checks = sorted(pathlib.Path("tests/ptx/golden").glob("*.check"))
    failed = len(checks) == 0
    for check in checks:
        networks, chips = header(check.read_text(), "KERNELS"), header(check.read_text(), "CHIPS")
        if not networks or not chips:
            print(f"FAILED {check}: it needs lines '// KERNELS: …' and '// CHIPS: …'")
            failed = True
        for chip in chips:
            with tempfile.TemporaryDirectory() as folder:
                ptx = text_of(chip, networks, pathlib.Path(folder))
            done = subprocess.run([FILECHECK, str(check), "--allow-empty"], input=ptx, capture_output=True, text=True)
            print(f"{'FAILED' if done.returncode else 'ok'} {check.name} on {chip}, {len(ptx)} characters of PTX")
            if done.returncode:
                print(done.stderr[:4000])
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
