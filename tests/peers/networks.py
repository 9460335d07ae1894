"""The networks of the comparison, written as ONNX files with seeded weights, so that every engine reads the same bytes.

    path = write("mobilenet_v1", folder)

Shapes are those of the published networks; weights are random with the variance that keeps activations near 1, because
only time and agreement are measured with them. Trained networks come from models/zoo instead.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13


class Writer:
    """Collects nodes and weights of one graph."""

    def __init__(self, name, seed):
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.nodes = []
        self.weights = []
        self.inputs = []

    def input(self, name, shape):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def normal(self, name, shape, fan_in):
        return self.constant(name, (self.rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32))

    def node(self, op, inputs, **attributes):
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def save(self, path, output, shape):
        value = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, self.name, self.inputs, [value], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def mlp(path, batch=1):
    """The published MLP: 1024-1024-1024-512-10 with ReLU."""
    w = Writer("mlp", 1)
    x = w.input("x", [batch, 1024])
    sizes = [1024, 1024, 1024, 512, 10]
    for layer, (rows, columns) in enumerate(zip(sizes[1:], sizes[:-1])):
        weight = w.normal(f"fc{layer}.weight", (rows, columns), columns / 2)
        bias = w.normal(f"fc{layer}.bias", (rows,), rows)
        x = w.node("Gemm", [x, weight, bias], transB=1)
        if layer + 2 < len(sizes):
            x = w.node("Relu", [x])
    w.save(path, x, [batch, 10])


def mobilenet_v1(path, batch=1):
    """MobileNet-V1, width 1, 224x224 (Howard et al. 2017, table 1); BatchNorm folded into weights and bias."""
    w = Writer("mobilenet_v1", 2)
    x = w.input("image", [batch, 3, 224, 224])

    def conv(x, name, inputs, outputs, kernel, stride, groups=1):
        fan_in = inputs // groups * kernel**2
        weight = w.normal(f"{name}.weight", (outputs, inputs // groups, kernel, kernel), fan_in / 2)
        bias = w.normal(f"{name}.bias", (outputs,), 100)
        pad = kernel // 2
        x = w.node("Conv", [x, weight, bias], kernel_shape=[kernel, kernel], strides=[stride, stride],
                   pads=[pad] * 4, group=groups)
        low, high = w.constant(f"{name}.low", np.float32(0)), w.constant(f"{name}.high", np.float32(6))
        return w.node("Clip", [x, low, high])

    x = conv(x, "stem", 3, 32, 3, 2)
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    channels = 32
    for k, (outputs, stride) in enumerate(blocks):
        x = conv(x, f"dw{k}", channels, channels, 3, stride, groups=channels)
        x = conv(x, f"pw{k}", channels, outputs, 1, 1)
        channels = outputs
    x = w.node("GlobalAveragePool", [x])
    x = w.node("Flatten", [x])
    weight = w.normal("classifier.weight", (1000, 1024), 1024)
    x = w.node("Gemm", [x, weight, w.normal("classifier.bias", (1000,), 1000)], transB=1)
    w.save(path, x, [batch, 1000])


def transformer(path, name, layers, hidden, heads, inner, sequence, batch=1):
    """A BERT encoder stack on embeddings, as exporters write it: MatMul + Add, decomposed LayerNorm and GELU."""
    w = Writer(name, 3)
    x = w.input("embeddings", [batch, sequence, hidden])
    size = hidden // heads

    def linear(x, name, inputs, outputs):
        weight = w.normal(f"{name}.weight", (inputs, outputs), inputs)
        return w.node("Add", [w.node("MatMul", [x, weight]), w.normal(f"{name}.bias", (outputs,), 100)])

    def layer_norm(x, name):
        mean = w.node("ReduceMean", [x], axes=[-1])
        centred = w.node("Sub", [x, mean])
        square = w.node("Pow", [centred, w.constant(f"{name}.two", np.float32(2))])
        variance = w.node("ReduceMean", [square], axes=[-1])
        deviation = w.node("Sqrt", [w.node("Add", [variance, w.constant(f"{name}.eps", np.float32(1e-12))])])
        scale = w.constant(f"{name}.scale", (1 + 0.1 * w.rng.standard_normal(hidden)).astype(np.float32))
        bias = w.normal(f"{name}.bias", (hidden,), 100)
        return w.node("Add", [w.node("Mul", [w.node("Div", [centred, deviation]), scale]), bias])

    def gelu(x, name):
        erf = w.node("Erf", [w.node("Div", [x, w.constant(f"{name}.sqrt2", np.float32(np.sqrt(2)))])])
        one = w.node("Add", [erf, w.constant(f"{name}.one", np.float32(1))])
        return w.node("Mul", [w.node("Mul", [x, one]), w.constant(f"{name}.half", np.float32(0.5))])

    for layer in range(layers):
        p = f"layer{layer}"
        split = w.constant(f"{p}.split", np.array([batch, sequence, heads, size], np.int64))
        parts = []
        for part in "qkv":
            y = w.node("Reshape", [linear(x, f"{p}.{part}", hidden, hidden), split])
            parts.append(w.node("Transpose", [y], perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]))
        scores = w.node("MatMul", parts[:2])
        scores = w.node("Div", [scores, w.constant(f"{p}.scale", np.float32(np.sqrt(size)))])
        context = w.node("MatMul", [w.node("Softmax", [scores], axis=-1), parts[2]])
        merged = w.constant(f"{p}.merged", np.array([batch, sequence, hidden], np.int64))
        context = w.node("Reshape", [w.node("Transpose", [context], perm=[0, 2, 1, 3]), merged])
        x = layer_norm(w.node("Add", [linear(context, f"{p}.out", hidden, hidden), x]), f"{p}.norm1")
        y = gelu(linear(x, f"{p}.up", hidden, inner), f"{p}.gelu")
        x = layer_norm(w.node("Add", [linear(y, f"{p}.down", inner, hidden), x]), f"{p}.norm2")
    w.save(path, x, [batch, sequence, hidden])


def minilm(path, batch=1):
    transformer(path, "minilm_s128", 6, 384, 12, 1536, 128, batch)


def bert_base(path, batch=1):
    transformer(path, "bert_base_s128", 12, 768, 12, 3072, 128, batch)


NETWORKS = {"mlp": mlp, "mobilenet_v1": mobilenet_v1, "minilm": minilm, "bert_base": bert_base}


def write(name, folder):
    """Writes NAME.onnx into `folder` and returns its path; an existing file is kept, since the seed is fixed."""
    path = pathlib.Path(folder) / f"{name}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        NETWORKS[name](path)
    return path
