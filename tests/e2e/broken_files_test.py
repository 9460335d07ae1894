"""Broken models at the door that users come through: `convert` ends with status 1, one clear line and no output file.

At least eight files of each category. What importers do with every prefix and thousands of flips of ONNX and TFLite
files is tested by models/import/hostile_test.cc, and of .tess files by graph/model_file_test.cc and tests/fuzz.
"""

import os
import unittest

from onnx import TensorProto, helper

from tools import tool_case

ENOUGH = 8


def model_bytes(nodes, inputs, outputs, initializers=()):
    """An ONNX file; nothing checks that it makes sense."""
    value = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
    graph = helper.make_graph(nodes, "broken", [value(*pair) for pair in inputs], [value(*pair) for pair in outputs],
                              list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


class BrokenFilesTest(tool_case.ToolCase):

    def refuses(self, path, what):
        output = self.folder / "out.tess"
        status, _, err = self.call("convert", str(path), "-o", str(output))
        self.assertEqual(1, status, f"{what}: {err}")
        self.assertRegex(err, r"(?m)^TES-\d{4}: ", what)
        self.assertNotIn("terminate called", err, what)
        self.assertFalse(output.exists(), f"{what}: a partial file is left")
        return err

    def refuses_all(self, files, ending):
        """Each of (what, bytes) on its own; the messages must not all be the same."""
        self.assertGreaterEqual(len(files), ENOUGH)
        for number, (what, data) in enumerate(files):
            path = self.folder / f"m{number}{ending}"
            path.write_bytes(data)
            self.refuses(path, what)

    def tess(self):
        self.passes("convert", "relu.txt", "-o", "good.tess")
        return (self.folder / "good.tess").read_bytes()

    def test_truncated(self):
        tess = self.tess()
        onnx = (tool_case.ZOO / "fashion_mobilenet.onnx").read_bytes()
        shares = [0.1, 0.3, 0.5, 0.7, 0.9]
        self.refuses_all([(f"{share} of a .tess", tess[:int(len(tess) * share)]) for share in shares] +
                         [(f"{back} bytes short", tess[:-back]) for back in (1, 8, 64)], ".tess")
        self.refuses_all([(f"{k} of an .onnx", onnx[:len(onnx) * k // 10]) for k in range(1, 9)], ".onnx")

    def test_bit_flipped(self):
        tess, refused = self.tess(), 0
        for position in range(0, 64):
            data = bytearray(tess)
            data[position] ^= 0x80
            path = self.folder / "flipped.tess"
            path.write_bytes(data)
            status, _, err = self.call("inspect", str(path))
            self.assertIn(status, (0, 1), f"byte {position}: {err}")
            if status == 1:
                self.assertRegex(err, r"(?m)^TES-\d{4}: ")
                refused += 1
        self.assertGreaterEqual(refused, ENOUGH)

    def test_absurd_dimensions(self):
        relu = [helper.make_node("Relu", ["x"], ["y"])]
        big = 1 << 31
        shapes = [[big, big], [1 << 62, 4], [-2, 4], [1] * 40, [1 << 20] * 4, [(1 << 63) - 1], [big, 0, big, big],
                  [3, -9]]
        self.refuses_all([(str(dims), model_bytes(relu, [("x", dims)], [("y", dims)])) for dims in shapes], ".onnx")

    def test_wrong_shapes(self):
        cases = []
        for a, b in [([2, 3], [4, 5]), ([2, 3], [2, 5, 4]), ([7], [3, 2])]:
            nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
            cases.append((f"matmul {a} {b}", model_bytes(nodes, [("a", a), ("b", b)], [("y", [1])])))
        for a, b in [([2, 3], [4]), ([5, 1, 2], [3, 3])]:
            nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
            cases.append((f"add {a} {b}", model_bytes(nodes, [("a", a), ("b", b)], [("y", [1])])))
        for x, w in [([1, 3, 8, 8], [4, 5, 3, 3]), ([1, 3, 2, 2], [4, 3, 5, 5]), ([1, 3, 8], [4, 3, 3, 3])]:
            nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
            cases.append((f"conv {x} {w}", model_bytes(nodes, [("x", x), ("w", w)], [("y", [1])])))
        self.refuses_all(cases, ".onnx")

    def test_missing_inputs(self):
        cases = []
        for op, count in [("Relu", 1), ("Add", 2), ("MatMul", 2), ("Conv", 2), ("Softmax", 1), ("Exp", 1), ("Where", 3),
                          ("Concat", 2)]:
            node = helper.make_node(op, ["nowhere"] + ["x"] * (count - 1), ["y"])
            if op == "Concat":
                node.attribute.append(helper.make_attribute("axis", 0))
            cases.append((op, model_bytes([node], [("x", [1, 4])], [("y", [1, 4])])))
        self.refuses_all(cases, ".onnx")

    def test_cyclic_graphs(self):
        cases = []
        for length in range(1, ENOUGH + 1):
            names = [f"v{k}" for k in range(length)]
            nodes = [helper.make_node("Add", ["x", names[k - 1]], [names[k]]) for k in range(length)]
            cases.append((f"cycle of {length}", model_bytes(nodes, [("x", [4])], [(names[0], [4])])))
        self.refuses_all(cases, ".onnx")

    def test_unknown_ops(self):
        ops = ["If", "Loop", "Nonsense", "SequenceEmpty", "StringNormalizer", "Optional", "ImageDecoder",
               "SplitToSequence"]
        self.refuses_all([(op, model_bytes([helper.make_node(op, ["x"], ["y"])], [("x", [4])], [("y", [4])]))
                          for op in ops], ".onnx")

    def test_files_that_are_no_models(self):
        self.refuses_all([("empty", b""), ("zeros", bytes(4096)), ("text", b"hello\n" * 100),
                          ("png", b"\x89PNG\r\n\x1a\n"), ("gzip", b"\x1f\x8b\x08" + bytes(40)),
                          ("elf", b"\x7fELF" + bytes(60)), ("name only", b"TESS"), ("ones", b"\xff" * 512)], ".tess")

    def test_unreadable_paths(self):
        folder = self.folder
        (folder / "loop.onnx").symlink_to(folder / "loop.onnx")
        (folder / "dangling.onnx").symlink_to(folder / "nothing")
        (folder / "file").write_text("x")
        os.mkfifo(folder / "pipe.onnx")
        paths = ["nowhere.onnx", ".", str(folder), "loop.onnx", "dangling.onnx", "file/inside.onnx",
                 "n" * 300 + ".onnx", "pipe.onnx", "/dev/null"]
        for path in paths:
            self.refuses(path, path[:40])


if __name__ == "__main__":
    unittest.main()
