"""Tests `compile`: programs for several targets in one file, which `run` starts from, and what is wrong with others."""

import unittest

from tools import tool_case

INPUT = "--input=x=1x4xf32=-1 0 2.5 -3"


class CompileTest(tool_case.ToolCase):

    def test_one_file_runs_on_each_of_its_targets(self):
        targets = ["host", "host:x86-64-v3", "simt:nvptx:sm_80", "simt:amdgpu:gfx942", "cuda:sm_90a", "hip:gfx1100"]
        out = self.passes("compile", "relu.txt", "--target=" + ",".join(targets), "-o", "relu.tessx", "--form=jsonl")
        rows = self.rows(out)
        self.assertEqual(targets, [row["target"] for row in rows])
        for row in rows:
            self.assertGreater(row["code_bytes"], 0)
        for target in ["host", "host:x86-64-v3", "simt:nvptx:sm_80:reverse", "simt:amdgpu:gfx942"]:
            out = self.passes("run", "relu.tessx", INPUT, "--target=" + target)
            self.assertEqual("y: f32[1,4] = 0 0 2.500 0\n", out)
        self.assertEqual("y: f32[1,4] = 0 0 2.500 0\n", self.passes("run", "relu.tessx", INPUT, "--target=auto"))
        self.passes("run", "relu.tessx", "--random", "--expected_output=1x4xf32=0 0 0 0", "--atol=1e9")

    def test_a_network_gives_the_same_as_when_it_is_compiled_on_the_spot(self):
        target = "simt:amdgpu:gfx1100"
        self.passes("compile", "zoo:fashion_mlp_scattered90", "--target=" + target, "-o", "mlp.tessx")
        self.passes("run", "zoo:fashion_mlp_scattered90", "--random", "--target=" + target, "--output=y.npy")
        out = self.passes("run", "mlp.tessx", "--random", "--target=" + target, "--expected_output=@y.npy", "--atol=0",
                          "--rtol=0")
        self.assertIn("agrees", out)

    def test_nothing_is_written_without_a_file(self):
        self.assertIn("hip:gfx90a", self.passes("compile", "relu.txt", "--target=hip:gfx90a"))
        self.assertEqual([], list(self.folder.glob("*.tessx")))

    def test_failures(self):
        self.passes("compile", "relu.txt", "--target=simt:nvptx:sm_80", "-o", "one.tessx")
        self.fails(1, "it has simt:nvptx:sm_80", "run", "one.tessx", INPUT)
        self.fails(1, "TES-3004", "run", "one.tessx", INPUT, "--target=simt:nvptx:sm_75")
        out = self.passes("run", "one.tessx", INPUT, "--fallback=simt:nvptx:sm_80")
        self.assertEqual("y: f32[1,4] = 0 0 2.500 0\n", out)
        self.fails(2, "has no graph", "run", "one.tessx", INPUT, "--target=simt:nvptx:sm_80", "--reference")
        data = (self.folder / "one.tessx").read_bytes()
        (self.folder / "half.tessx").write_bytes(data[:len(data) // 2])
        self.fails(1, "TES-10", "run", "half.tessx", INPUT, "--target=simt:nvptx:sm_80")
        self.fails(1, "TES-1001", "run", "gone.tessx", INPUT)
        (self.folder / "fake.tessx").write_text("not a program")
        self.fails(1, "TES-1006", "run", "fake.tessx", INPUT)
        self.fails(1, "TES-3003", "compile", "relu.txt", "--target=host,toaster", "-o", "x.tessx")
        self.fails(2, "each target once", "compile", "relu.txt", "--target=host,host")
        self.fails(2, "no model given", "compile", "-o", "x.tessx")
        self.assertFalse((self.folder / "x.tessx").exists())


if __name__ == "__main__":
    unittest.main()
