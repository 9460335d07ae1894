"""Tests `convert`: what it prints of every tensor, what it writes, and that bad input leaves no file."""

import unittest

from tools import tool_case


class ConvertTest(tool_case.ToolCase):

    def test_help_has_sections_and_examples(self):
        out = self.passes("convert", "--help")
        for part in ("usage: convert MODEL", "How the model is opened:", "--shape=NAME:1x3x224x224", "Examples:"):
            self.assertIn(part, out)

    def test_every_weight_has_its_line(self):
        model = str(tool_case.ZOO / "fashion_mlp_scattered90.onnx")
        rows = self.rows(self.passes("convert", model, "-o", "m.tess", "--report=jsonl"))
        first = rows[0]
        self.assertEqual("fc1.weight", first["tensor"])
        self.assertIn("sparse_initializer", first["declared"])
        self.assertIn("90% zero", first["found"])
        self.assertIn("tesa(scattered kept 10%)", first["kept"])
        self.assertEqual("declared", first["reason"])
        self.assertTrue((self.folder / "m.tess").stat().st_size > 0)

    def test_smaller_forms_and_test_vectors_that_pass(self):
        for name, flags in (("full", ["--test=1,2"]), ("small", ["--store=f16", "--kept_only", "--test=3"])):
            self.passes("convert", "zoo:fashion_mlp_scattered90", "-o", name + ".tess", "--metadata=a=b", *flags)
            out = self.passes("run", name + ".tess", "--tests")
            self.assertIn("agrees", out)
        full, small = ((self.folder / (name + ".tess")).stat().st_size for name in ("full", "small"))
        self.assertLess(small * 3, full)

    def test_bad_usage(self):
        self.fails(2, "no model given", "convert")
        self.fails(2, "did you mean --output?", "convert", "a.onnx", "--ouput=x")
        self.fails(2, "is the input", "convert", "relu.txt", "-o", "relu.txt")
        self.fails(2, "did you mean zoo:fashion_mlp?", "convert", "zoo:fashion_mpl")

    def test_bad_input_leaves_no_file(self):
        (self.folder / "broken.onnx").write_bytes(b"\x08\x07\xff\xff\xff")
        good = (tool_case.ZOO / "fashion_mobilenet.onnx").read_bytes()
        (self.folder / "cut.onnx").write_bytes(good[:len(good) // 2])
        self.fails(1, "TES-1001", "convert", "gone.onnx", "-o", "out.tess")
        for name in ("broken.onnx", "cut.onnx"):
            self.fails(1, name, "convert", name, "-o", "out.tess")
        self.fails(1, "TES-1003", "convert", "relu.txt", "-o", "no/such/folder/out.tess")
        self.assertEqual([], list(self.folder.glob("**/*out.tess*")))


if __name__ == "__main__":
    unittest.main()
