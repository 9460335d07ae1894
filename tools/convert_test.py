"""Tests `convert`: what it prints of every tensor, what it writes, and that bad input leaves no file."""

import json
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

    def side_file(self, *entries):
        (self.folder / "side.json").write_text(json.dumps({"tensors": list(entries)}))
        return "--tesa=side.json"

    def test_a_side_file_prunes_weights_and_activations(self):
        model = str(tool_case.ZOO / "fashion_mlp.onnx")
        side = self.side_file({"name": "fc1.weight", "rows": ["0-99"], "bits": 8},
                              {"name": "fc2.weight", "nm": {"n": 2, "m": 4, "axis": 1}})
        rows = self.rows(self.passes("convert", model, "-o", "m.tess", "--report=jsonl", side, "--test=1"))
        by_name = {row["tensor"]: row for row in rows}
        self.assertIn("side file", by_name["fc1.weight"]["declared"])
        self.assertIn("8 bits", by_name["fc1.weight"]["kept"])
        self.assertIn("2:4[1] kept 50%", by_name["fc2.weight"]["kept"])
        self.assertEqual("-", by_name["fc3.weight"]["kept"])
        self.assertIn("agrees", self.passes("run", "m.tess", "--tests"))
        # A model that is converted already takes a side file, too: here for an input.
        (self.folder / "relu.side.json").write_text(
            json.dumps({"tensors": [{"name": "x", "axis": 1, "indices": [0]}]}))
        self.passes("convert", "relu.txt", "-o", "masked.tess", "--tesa=relu.side.json", "--test=1,2")
        self.assertIn("agrees", self.passes("run", "masked.tess", "--tests"))

    def test_a_side_file_that_does_not_fit_leaves_no_file(self):
        model = str(tool_case.ZOO / "fashion_mlp.onnx")
        for entry, message in (({"name": "fc1.wieght", "rows": [1]}, "did you mean 'fc1.weight'"),
                               ({"name": "fc1.weight", "rows": [1 << 30]}, "entry 1: expected indices below"),
                               ({"name": "fc1.weight", "bits": 33}, "contradictory precisions"),
                               ({"name": "fc1.weight", "mask": "gone.npy"}, "gone.npy")):
            self.fails(1, message, "convert", model, "-o", "out.tess", self.side_file(entry))
        self.fails(1, "TES-1304", "convert", model, "-o", "out.tess", self.side_file({}))
        self.fails(1, "TES-1001", "convert", model, "-o", "out.tess", "--tesa=none.json")
        self.assertEqual([], list(self.folder.glob("**/*out.tess*")))

    def test_quantised_networks_keep_their_accuracy(self):
        for name in ("fashion_mlp", "fashion_mlp_block4x1_90", "fashion_mobilenet_scattered90"):
            out = self.passes("convert", "zoo:" + name, "-o", "q.tess", "--quantize=i8", "--calibrate=fashion:100",
                              "--accuracy=fashion:2000", "--report=jsonl", "--test=1")
            rows = self.rows(out)
            self.assertLess(abs(rows[-1]["change"]), 1.0, name)
            self.assertEqual(2000, rows[-1]["samples"])
            roles = {row["role"] for row in rows[:-1]}
            self.assertEqual({"activation", "weight", "bias"}, roles)
            for row in rows[:-1]:
                self.assertLessEqual(row["low"], row["high"])
                self.assertGreater(row["sqnr_db"] if row["sqnr_db"] != "exact" else 99, 20, row)
            if "90" in name:
                self.assertAlmostEqual(10, min(row["kept_percent"] for row in rows[:-1] if "kept_percent" in row),
                                       delta=0.5)
            self.assertIn("agrees", self.passes("run", "q.tess", "--tests"))

    def test_weights_alone_and_floats_of_16_bits(self):
        for spec in ("w8", "w4g32", "u4g16+weights=mse", "bf16", "f16"):
            self.passes("convert", "zoo:fashion_mlp_scattered90", "-o", spec[:2] + ".tess", "--quantize=" + spec)
        self.assertIn("i4[", self.passes("inspect", "w4.tess"))
        rows = self.rows(self.passes("convert", "w8.tess", "-o", "back.tess", "--quantize=f32", "--report=jsonl"))
        self.assertEqual([], rows)

    def test_outliers_and_layers_that_stay_float(self):
        out = self.passes("convert", "zoo:fashion_mlp", "-o", "q.tess", "--calibrate=random:1", "--report=jsonl",
                          "--quantize=i8+outliers=1%+range=percentile:99.9+float=fc3*")
        rows = self.rows(out)
        self.assertIn("outliers", {row["role"] for row in rows})
        self.assertNotIn("fc3.weight.f32", {row["tensor"] for row in rows})
        few = [row for row in rows if row["tensor"] == "fc1.weight.f32.outliers"]
        self.assertLessEqual(few[0]["kept_percent"], 1)

    def test_what_quantisation_cannot_do_is_said(self):
        model = "zoo:fashion_mlp"
        self.fails(2, "--calibrate=DATA", "convert", model, "-o", "q.tess", "--quantize=i8")
        self.fails(2, "expected i8, w8", "convert", model, "-o", "q.tess", "--quantize=int8")
        self.fails(2, "not given", "convert", model, "-o", "q.tess", "--calibrate=random:1")
        self.fails(1, "TES-1001", "convert", model, "-o", "q.tess", "--quantize=i8", "--calibrate=gone/")
        self.fails(1, "label for each row", "convert", model, "-o", "q.tess", "--quantize=i8",
                   "--calibrate=random:1", "--accuracy=random:2")
        self.passes("convert", model, "-o", "w8.tess", "--quantize=w8")
        self.fails(1, "quantised already", "convert", "w8.tess", "-o", "q.tess", "--quantize=w8")
        self.assertFalse((self.folder / "q.tess").exists())

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
