"""Tests `inspect`: the table, JSON, the drawing, the program with its decisions, and code of kernels."""

import json
import unittest

from tools import tool_case


class InspectTest(tool_case.ToolCase):

    def test_shows_nodes_and_what_is_kept(self):
        out = self.passes("inspect", "zoo:fashion_mlp_scattered90")
        for part in ("input     image: f32[1,1,28,28]", "tesa(scattered kept 10%)", "matmul", "kept"):
            self.assertIn(part, out)

    def test_other_forms(self):
        rows = json.loads(self.passes("inspect", "relu.txt", "-o", "json"))
        self.assertEqual([("relu", "f32[1,4]")], [(row["op"], row["result"]) for row in rows])
        self.assertIn("v0 -> n0", self.passes("inspect", "relu.txt", "-o", "dot"))

    def test_program_with_decisions(self):
        out = self.passes("inspect", "zoo:fashion_mlp", "--stage=program")
        for part in ("arena", "kernel", "decisions"):
            self.assertIn(part, out)

    def test_kernels_as_code(self):
        self.assertIn("define ", self.passes("inspect", "relu.txt", "--kernel=tessera", "--as=ir"))
        self.assertIn("ret", self.passes("inspect", "relu.txt", "--kernel=tessera", "--as=asm"))
        self.fails(2, "no kernel's name holds 'bogus'", "inspect", "relu.txt", "--kernel=bogus")

    def test_failures(self):
        self.fails(1, "TES-1001", "inspect", "gone.tess")
        self.fails(1, "TES-3003", "inspect", "relu.txt", "--stage=program", "--target=toaster")
        self.fails(2, "did you mean --stage?", "inspect", "relu.txt", "--stag=parse")


if __name__ == "__main__":
    unittest.main()
