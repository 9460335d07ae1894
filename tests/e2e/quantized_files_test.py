"""Files as ONNX Runtime's quantiser and optimiser write them, converted, run and held against ONNX Runtime itself.

One small network with each kind of operator that the quantiser knows goes through every form: QDQ with u8, i8, u16 and
i16 activations and i8, u8 and i4 weights; quantised operators (QLinear…); dynamic; and what its optimiser makes of it.
"""

import contextlib
import io
import logging
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

CONVERT, RUN = (str(pathlib.Path("tools", tool).resolve()) for tool in ("convert", "run"))
SHAPE = [1, 3, 12, 12]


def network(path):
    rng = np.random.default_rng(1)
    nodes, weights = [], []

    def constant(name, *shape):
        weights.append(numpy_helper.from_array((0.3 * rng.standard_normal(shape)).astype(np.float32), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    node("Conv", ["x", constant("w0", 8, 3, 3, 3), constant("b0", 8)], "conv", pads=[1] * 4)
    node("Relu", ["conv"], "relu")
    node("MaxPool", ["relu"], "max", kernel_shape=[2, 2], strides=[2, 2])
    node("Conv", ["max", constant("w1", 8, 1, 3, 3)], "depthwise", pads=[1] * 4, group=8)
    node("Sigmoid", ["depthwise"], "sigmoid")
    node("Mul", ["depthwise", "sigmoid"], "swish")
    node("Add", ["swish", "max"], "add")
    node("LeakyRelu", ["add"], "leaky", alpha=0.1)
    node("Concat", ["leaky", "max"], "concat", axis=1)
    node("AveragePool", ["concat"], "average", kernel_shape=[3, 3], pads=[1] * 4)
    node("GlobalAveragePool", ["average"], "global")
    node("Flatten", ["global"], "flat")
    node("Gemm", ["flat", constant("w2", 10, 16), constant("b2", 10)], "gemm", transB=1)
    node("MatMul", ["gemm", constant("w3", 10, 12)], "matmul")
    node("Add", ["matmul", constant("b3", 12)], "bias")
    node("Softmax", ["bias"], "y", axis=-1)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "every_kind", [value("x", SHAPE)], [value("y", [1, 12])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


class Samples(CalibrationDataReader):

    def __init__(self):
        rng = np.random.default_rng(2)
        self.samples = iter([{"x": rng.standard_normal(SHAPE).astype(np.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.samples, None)


class QuantizedFilesTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.source = str(self.folder / "source.onnx")
        network(self.source)
        logging.disable(logging.WARNING)
        self.addCleanup(logging.disable, logging.NOTSET)

    def static(self, **options):
        path = str(self.folder / "quantized.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(self.source, path, Samples(), **options)
        return path

    def agrees(self, path, bound=0.03):
        """Largest difference from ONNX Runtime within `bound` of its largest value."""
        tess = str(self.folder / "m.tess")
        done = subprocess.run([CONVERT, path, "-o", tess], capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stderr)
        x = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
        expected = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        np.save(self.folder / "x.npy", x)
        result = self.folder / "y.npy"
        done = subprocess.run([RUN, tess, f"--input=x=@{self.folder / 'x.npy'}", f"--output={result}", "--threads=1"],
                              capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stderr)
        error = np.abs(np.load(result) - expected).max() / np.abs(expected).max()
        self.assertLessEqual(error, bound, path)

    def optimised(self, path):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(self.folder / "optimised.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return options.optimized_model_filepath

    def test_quantize_dequantize(self):
        for activations, weights, per_channel in (("QUInt8", "QInt8", True), ("QInt8", "QInt8", True),
                                                  ("QUInt8", "QUInt8", False), ("QUInt16", "QInt8", False),
                                                  ("QInt16", "QInt8", False), ("QUInt8", "QInt4", False)):
            with self.subTest(activations=activations, weights=weights):
                path = self.static(activation_type=QuantType[activations], weight_type=QuantType[weights],
                                   per_channel=per_channel)
                self.agrees(path)
        self.agrees(self.optimised(self.static(per_channel=True)))

    def test_quantized_operators(self):
        for weights, per_channel in (("QInt8", True), ("QUInt8", False)):
            with self.subTest(weights=weights):
                self.agrees(self.static(quant_format=QuantFormat.QOperator, activation_type=QuantType.QUInt8,
                                        weight_type=QuantType[weights], per_channel=per_channel))

    def test_dynamic(self):
        for weights in ("QInt8", "QUInt8"):
            with self.subTest(weights=weights):
                path = str(self.folder / "dynamic.onnx")
                quantize_dynamic(self.source, path, weight_type=QuantType[weights])
                self.agrees(path, 1e-3)
                self.agrees(self.optimised(path), 1e-3)

    def test_the_optimisers_own_operators(self):
        self.agrees(self.optimised(self.source), 1e-4)


if __name__ == "__main__":
    unittest.main()
