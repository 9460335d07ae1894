"""Tests `opt`: every stage prints, text reads back, and passes do what their names say."""

import unittest

from tools import tool_case


class OptTest(tool_case.ToolCase):

    def test_text_reads_back(self):
        first = self.passes("opt", "relu.txt", "--stop_after=parse", "--data")
        (self.folder / "again.txt").write_text(first)
        self.assertEqual(first, self.passes("opt", "again.txt", "--stop_after=verify", "--data"))

    def test_every_stage_prints(self):
        for line in self.passes("opt", "--list").splitlines():
            stage = line.split()[0]
            target = "cuda:sm_80" if stage == "take_signed" else "host"  # processors have no such stage
            out = self.passes("opt", "relu.txt", "--stop_after=" + stage, "--target=" + target)
            self.assertIn("program" if line.startswith("program") else "relu", out)

    def test_passes_shrink_a_trained_network(self):
        before = self.passes("opt", "zoo:fashion_mobilenet", "--stop_after=verify")
        after = self.passes("opt", "zoo:fashion_mobilenet")
        self.assertIn("batch_norm", before)
        self.assertLess(after.count(" = "), before.count(" = "))

    def test_propagation_and_what_shrinks(self):
        found = self.passes("opt", "zoo:fashion_mobilenet_channels70", "--stop_after=propagate")
        self.assertRegex(found, r"(?m)^// %.*(zero|dead|constant)")
        shrunk = self.passes("opt", "zoo:fashion_mobilenet_channels70", "--stop_after=shrink")
        whole = self.passes("opt", "zoo:fashion_mobilenet_channels70", "--stop_after=shrink", "--propagate=off")
        self.assertNotEqual(shrunk, whole)
        self.assertIn("f32[1,256,", whole)
        self.assertNotIn("f32[1,256,", shrunk)
        learned = self.passes("opt", "zoo:fashion_mlp_channels70", "--stop_after=shrink", "--rules=learned")
        self.assertEqual(learned, self.passes("opt", "zoo:fashion_mlp_channels70", "--stop_after=shrink"))

    def test_an_empty_network_is_refused_or_kept(self):
        (self.folder / "empty.txt").write_text(
            'graph "g" {\n  %x: f32[2,3] = input\n  %w: f32[3,4] = constant zeros\n'
            '  %y: f32[2,4] = matmul(%x, %w)\n  return %y\n}\n')
        self.passes("opt", "empty.txt")
        self.fails(1, "%w", "opt", "empty.txt", "--on_collapse=error")

    def test_failures(self):
        (self.folder / "bad.txt").write_text('graph "g" {\n  %y: f32[4] = relu(%x)\n  return %y\n}\n')
        self.fails(1, "bad.txt", "opt", "bad.txt")
        self.fails(2, "expected one of parse, verify", "opt", "relu.txt", "--stop_after=lunch")
        self.fails(2, "no model given", "opt")


if __name__ == "__main__":
    unittest.main()
