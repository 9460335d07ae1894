"""Tests `run`: inputs as text and files, outputs printed, written and compared, and the exit status of each failure."""

import unittest

from tools import tool_case

INPUT = "--input=x=1x4xf32=-1 0 2.5 -3"


class RunTest(tool_case.ToolCase):

    def test_prints_outputs(self):
        self.assertEqual("y: f32[1,4] = 0 0 2.500 0\n", self.passes("run", "relu.txt", INPUT))
        self.assertEqual("y: f32[1,4] = 0 0 …\n", self.passes("run", "relu.txt", INPUT, "--max_printed=2"))

    def test_files_and_expectations(self):
        self.passes("run", "relu.txt", INPUT, "--output=y.npy")
        out = self.passes("run", "relu.txt", INPUT, "--expected_output=y=@y.npy", "--reference")
        self.assertEqual(2, out.count("agrees"))
        wrong = "--expected_output=1x4xf32=0 0 2 0"
        self.fails(3, "TES-4001: y: element 2 is 2.500, expected 2", "run", "relu.txt", INPUT, wrong)

    def test_a_trained_network_agrees_with_the_reference(self):
        for flags in ([], ["--threads=1", "--emitter=generic"], ["--target=host:x86-64-v3"],
                      ["--target=simt:nvptx:sm_90"], ["--target=simt:nvptx:sm_75:random:3"]):
            out = self.passes("run", "zoo:fashion_mlp_block4x1_90", "--random", "--reference", *flags)
            self.assertIn("agrees", out)

    def test_failures(self):
        self.fails(1, "TES-1201: input 'x' (f32[1,4]) was not given", "run", "relu.txt")
        self.fails(1, "TES-1202: the model has no input 'z'", "run", "relu.txt", "--input=z=random:1")
        self.fails(1, "expected f32[1,4], found f32[2,4]", "run", "relu.txt", "--input=x=2x4xf32=0")
        self.fails(1, "TES-1001", "run", "relu.txt", "--input=x=@gone.npy")
        self.fails(1, "TES-3003", "run", "relu.txt", INPUT, "--target=toaster")
        self.fails(1, "with one of sm_75", "run", "relu.txt", INPUT, "--target=simt:nvptx:sm_12")
        self.fails(1, "expected simt, simt:forward", "run", "relu.txt", INPUT, "--target=simt:nvptx:sm_80:sideways")
        self.fails(2, "there is no emitter 'magic'", "run", "relu.txt", INPUT, "--emitter=magic")
        self.fails(2, "is one too many", "run", "relu.txt", "relu.txt")
        self.fails(2, "expected 4 values", "run", "relu.txt", "--input=x=1x4xf32=1 2")
        self.fails(2, "carries no test vectors", "run", "relu.txt", "--tests")

    # With Debian's libamdhip64, which ./check installs, or without any.
    def test_no_amd_card_is_an_answer(self):
        status, out, err = self.call("run", "relu.txt", INPUT, "--target=hip")
        if status == 0:
            self.assertEqual("y: f32[1,4] = 0 0 2.500 0\n", out)  # there is one
            return
        self.assertRegex(err, r"TES-3001: (the AMD driver \(libamdhip64.*\) sees no card|no AMD driver: )")
        for part in ("needs an AMD card that ROCm supports", "--target=host runs everywhere"):
            self.fails(1, part, "run", "relu.txt", INPUT, "--target=hip")
            self.fails(1, part, "run", "relu.txt", INPUT, "--target=hip:1")
        status, out, err = self.call("run", "relu.txt", INPUT, "--target=hip", "--fallback=host")
        self.assertEqual((0, "y: f32[1,4] = 0 0 2.500 0\n"), (status, out), err)
        self.assertIn("warning: runs on 'host' in place of 'hip'", err)


if __name__ == "__main__":
    unittest.main()
