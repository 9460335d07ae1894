"""Writes the two networks as ONNX files, node by node, so that every name in the file is chosen here.

    image [N,1,28,28] -> Flatten -> Gemm fc1 -> Relu -> Gemm fc2 -> Relu -> Gemm fc3 -> logits [N,10]

Weights are stored as float16 and widened by a Cast in the graph: `fc1.weight` (float16) -> `fc1.weight.f32`. A weight
goes into the file in the smaller of two forms: dense (2 bytes an element) or, below 20 % kept, as a sparse_initializer
(2 + 8 bytes a kept element: a float16 value and the linear int64 index that ONNX demands). Biases and BatchNorm
parameters are float32 and dense. Opset 13, IR version 7: old readers take the files too.

Needs numpy and onnx, not torch. Tested by export_onnx_test.py.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
IR_VERSION = 7  # The one that came with opset 13; sparse_initializer is older.


def sparse_tensor(name, value):
    """`value` as a SparseTensorProto called `name`: its non-zero elements and their linear indices, ascending."""
    indices = np.flatnonzero(value).astype(np.int64)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.ascontiguousarray(value.ravel()[indices]), name),
        numpy_helper.from_array(indices, f"{name}.indices"), list(value.shape))


def sparse_is_smaller(value):
    """Whether `value` takes fewer bytes as a SparseTensorProto than as a dense tensor."""
    return np.count_nonzero(value) * (value.itemsize + 8) < value.size * value.itemsize


class GraphWriter:
    """Collects nodes and initialisers; `state` holds the arrays by name (weights float16, the rest float32)."""

    def __init__(self, state):
        self._state = state
        self._nodes = []
        self._initializers = []
        self._sparse = []

    def initializer(self, name, value=None):
        """Adds the float32 array `name` (from the state where `value` is not given) and returns its name."""
        value = self._state[name] if value is None else value
        self._initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name):
        """Adds the float16 weight `name` and its Cast; returns the name of the float32 value."""
        value = self._state[name]
        if value.dtype != np.float16:
            raise ValueError(f"{name}: expected a float16 weight, found {value.dtype}")
        if sparse_is_smaller(value):
            self._sparse.append(sparse_tensor(name, value))
        else:
            self._initializers.append(numpy_helper.from_array(value, name))
        return self.node("Cast", f"{name}.cast", [name], f"{name}.f32", to=TensorProto.FLOAT)

    def node(self, op, name, inputs, output, **attributes):
        """Adds a node with one output and returns the output's name."""
        self._nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def model(self, name, metadata):
        """The checked ModelProto: input `image`, output `logits`, symbolic batch N."""
        graph = helper.make_graph(
            self._nodes, name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
            initializer=self._initializers, sparse_initializer=self._sparse)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="models/train")
        helper.set_model_props(model, metadata)
        # Strict shape inference of the onnx package takes the Cast of a sparse_initializer for a sparse tensor and
        # refuses it, although such an initialiser stands for a dense constant (ONNX Runtime reads it so).
        onnx.checker.check_model(model, full_check=not self._sparse)
        return model


def _linear(writer, name, x, output):
    return writer.node("Gemm", name, [x, writer.weight(f"{name}.weight"), writer.initializer(f"{name}.bias")], output,
                       transB=1)


def mlp_model(name, state, metadata):
    """The ModelProto of nets.Mlp with the parameters `state`."""
    writer = GraphWriter(state)
    x = writer.node("Flatten", "flatten", ["image"], "pixels", axis=1)
    for layer in ("fc1", "fc2"):
        x = writer.node("Relu", f"{layer}.relu", [_linear(writer, layer, x, f"{layer}.out")], f"{layer}.relu.out")
    _linear(writer, "fc3", x, "logits")
    return writer.model(name, metadata)


def mobilenet_model(name, state, metadata, strides, bn_eps):
    """The ModelProto of nets.MobileNet: `strides` are those of its blocks' depthwise convolutions."""
    writer = GraphWriter(state)
    writer.initializer("relu6.min", np.array(0.0, np.float32))
    writer.initializer("relu6.max", np.array(6.0, np.float32))

    def conv_bn_relu6(conv, x, kernel, stride, group):
        bn = f"{conv}_bn"
        x = writer.node("Conv", conv, [x, writer.weight(f"{conv}.weight")], f"{conv}.out",
                        kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, group=group)
        parameters = [writer.initializer(f"{bn}.{p}") for p in ("weight", "bias", "running_mean", "running_var")]
        x = writer.node("BatchNormalization", bn, [x] + parameters, f"{bn}.out", epsilon=bn_eps)
        return writer.node("Clip", f"{conv}.relu6", [x, "relu6.min", "relu6.max"], f"{conv}.relu6.out")

    x = conv_bn_relu6("stem", "image", 3, 1, 1)
    for i, stride in enumerate(strides):
        x = conv_bn_relu6(f"block{i}.dw", x, 3, stride, len(state[f"block{i}.dw.weight"]))
        x = conv_bn_relu6(f"block{i}.pw", x, 1, 1, 1)
    x = writer.node("GlobalAveragePool", "pool", [x], "pool.out")
    x = writer.node("Flatten", "flatten", [x], "features", axis=1)
    _linear(writer, "fc", x, "logits")
    return writer.model(name, metadata)


def stored_weights(model):
    """{name: (array, "dense" or "sparse")} of every initialiser of `model`, the sparse ones expanded."""
    weights = {t.name: (numpy_helper.to_array(t), "dense") for t in model.graph.initializer}
    for sparse in model.graph.sparse_initializer:
        values = numpy_helper.to_array(sparse.values)
        dense = np.zeros(int(np.prod(sparse.dims)), values.dtype)
        dense[numpy_helper.to_array(sparse.indices)] = values
        weights[sparse.values.name] = (dense.reshape(tuple(sparse.dims)), "sparse")
    return weights
