"""The driver's way to cubins through the real nvJitLink, which ./check installs from PyPI; no card is needed."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import unittest


def library():
    folder = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    found = sorted(folder.glob("cu*/lib/libnvJitLink.so.*")) + sorted(folder.glob("nvjitlink/lib/libnvJitLink.so.*"))
    if not found:
        sys.exit(f"FAILED: no libnvJitLink below {folder}: run ./check --setup")
    return found[-1]


class NvJitLinkTest(unittest.TestCase):

    def assemble(self, path, arch, nvjitlink=None):
        return subprocess.run(["tests/ptx/assemble", str(path), arch], capture_output=True, text=True,
                              env={**os.environ, "TESSERA_NVJITLINK": str(nvjitlink or library())})

    def test_takes_what_is_written_for_each_chip(self):
        for chip, arch in [("sm_75", "sm_75"), ("sm_80", "sm_90"), ("sm_90", "sm_90"), ("sm_90a", "sm_90a")]:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(["tests/ptx/write_kernels", chip, folder, "mlp:1"], check=True)
                done = self.assemble(pathlib.Path(folder) / "0.ptx", arch)
                self.assertEqual(0, done.returncode, done.stderr)
                self.assertRegex(done.stdout, r"nvJitLink 1\d\.\d: \d{4,} bytes, ELF")

    def test_what_it_refuses_comes_with_its_words(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "broken.ptx"
            path.write_text(".version 7.8\n.target sm_90\n.address_size 64\n.visible .entry k()\n{ fly; }\n")
            done = self.assemble(path, "sm_90")
            self.assertEqual(1, done.returncode)
            self.assertRegex(done.stderr, r"TES-3005: nvJitLink\w+ for .*broken.ptx: error \d+; .*fly")
            done = self.assemble(path, "sm_150")
            self.assertEqual(1, done.returncode)
            self.assertIn("-arch=sm_150", done.stderr)

    def test_what_is_missing_is_named(self):
        done = self.assemble("/dev/null", "sm_90", "/nonexistent/libnvJitLink.so.13")
        self.assertEqual(1, done.returncode)
        self.assertIn("TES-", done.stderr)


if __name__ == "__main__":
    unittest.main()
