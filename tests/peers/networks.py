"""The networks of the comparison, written as ONNX files with seeded weights, so that every engine reads the same bytes.

    path = write("mobilenet_v1", folder)
    path = write("bert_base", folder, pattern="90:1x4", precision="qdq")

Shapes are those of the published networks; weights are random with the variance that keeps activations near 1, because
only time and agreement are measured with them. Trained networks come from models/zoo instead.

A pattern masks the weights of linear layers and 1x1 convolutions, classifiers included: `90:fine` drops each element
with probability 0.9, `90:1x4` each block of 4 consecutive inputs of one output, `60:channels` each output of every
convolution with its bias; the mask has a seed of its own. The
precisions `qdq` and `dynamic` are the f32 file through ONNX Runtime's quantiser (quantized.py).
"""

import functools
import pathlib

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 13


class Writer:
    """Collects nodes and weights of one graph; its floats are of `dtype`."""

    def __init__(self, name, seed, pattern="dense", dtype=np.float32):
        self.dtype = np.dtype(dtype)
        self.name = name
        self.rng = np.random.default_rng(seed)
        self.mask_rng = np.random.default_rng(seed + 1000)
        self.pattern = pattern
        self.nodes = []
        self.weights = []
        self.inputs = []

    def input(self, name, shape):
        self.inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self.dtype), shape))
        return name

    def constant(self, name, values):
        values = np.ascontiguousarray(values)
        if values.dtype == np.float32:
            values = values.astype(self.dtype)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, name, shape, fan_in, kept=1):
        return self.constant(name, (self.rng.standard_normal(shape) / np.sqrt(fan_in) * kept).astype(np.float32))

    def pruned(self, name, shape, fan_in, transposed=False):
        """A weight [out, in, 1, 1] (or [in, out] where transposed) under the mask, its variance as if dense."""
        weight = self.rng.standard_normal(shape) / np.sqrt(fan_in)
        if self.pattern != "dense":
            matrix = weight.T if transposed else weight.reshape(shape[0], -1)
            kept = mask(self.pattern, matrix.shape, self.mask_rng)
            self.kept_outputs = kept.any(axis=1)
            matrix = matrix * kept / np.sqrt(max(kept.mean(), 1e-9))
            weight = matrix.T if transposed else matrix.reshape(shape)
        return self.constant(name, weight.astype(np.float32))

    def node(self, op, inputs, **attributes):
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def save(self, path, output, shape, dtype=None):
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.dtype))
        value = helper.make_tensor_value_info(output, kind, shape)
        graph = helper.make_graph(self.nodes, self.name, self.inputs, [value], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def mask(pattern, shape, rng):
    """True where an element of a weight [out, in] is kept. `pattern` is PERCENT:fine, :HEIGHTxWIDTH or :channels."""
    percent, kind = pattern.split(":")
    dropped = float(percent) / 100
    if kind == "channels":  # whole outputs
        return np.repeat(rng.random((shape[0], 1)) >= dropped, shape[1], axis=1)
    height, width = (1, 1) if kind == "fine" else map(int, kind.split("x"))
    blocks = rng.random((-(-shape[0] // height), -(-shape[1] // width))) >= dropped
    return np.repeat(np.repeat(blocks, height, axis=0), width, axis=1)[:shape[0], :shape[1]]


def matmul(path, size, pattern="dense", dtype=np.float32):
    """One product of two square matrices, the second constant; of int8 the result is int32."""
    w = Writer(f"matmul{size}", 4, pattern, dtype)
    x = w.input("x", [size, size])
    if np.dtype(dtype) == np.int8:
        weight = w.constant("weight", w.rng.integers(-128, 128, (size, size), dtype=np.int8))
        w.save(path, w.node("MatMulInteger", [x, weight]), [size, size], np.int32)
    else:
        w.save(path, w.node("MatMul", [x, w.pruned("weight", (size, size), size, transposed=True)]), [size, size])


def mlp(path, sizes, name="mlp", batch=1, pattern="dense", dtype=np.float32):
    """Linear layers with ReLU between them."""
    w = Writer(name, 1, pattern, dtype)
    x = w.input("x", [batch, sizes[0]])
    for layer, (rows, columns) in enumerate(zip(sizes[1:], sizes[:-1])):
        weight = w.pruned(f"fc{layer}.weight", (rows, columns), columns / 2)
        bias = w.normal(f"fc{layer}.bias", (rows,), rows)
        x = w.node("Gemm", [x, weight, bias], transB=1)
        if layer + 2 < len(sizes):
            x = w.node("Relu", [x])
    w.save(path, x, [batch, sizes[-1]])


def mobilenet_v1(path, batch=1, pattern="dense", dtype=np.float32):
    """MobileNet-V1, width 1, 224x224 (Howard et al. 2017, table 1); BatchNorm folded into weights and bias."""
    w = Writer("mobilenet_v1", 2, pattern, dtype)
    x = w.input("image", [batch, 3, 224, 224])

    channels_drop = pattern.endswith(":channels")  # of every convolution, with their bias

    def conv(x, name, inputs, outputs, kernel, stride, groups=1):
        fan_in = inputs // groups * kernel**2
        draw = w.pruned if kernel == 1 or channels_drop else w.normal
        weight = draw(f"{name}.weight", (outputs, inputs // groups, kernel, kernel), fan_in / 2)
        bias = w.normal(f"{name}.bias", (outputs,), 100, w.kept_outputs if channels_drop else 1)
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
    weight = (w.normal if channels_drop else w.pruned)("classifier.weight", (1000, 1024), 1024)
    x = w.node("Gemm", [x, weight, w.normal("classifier.bias", (1000,), 1000)], transB=1)
    w.save(path, x, [batch, 1000])


def transformer(path, name, layers, hidden, heads, inner, sequence, batch=1, pattern="dense", dtype=np.float32):
    """A BERT encoder stack on embeddings, as exporters write it: MatMul + Add, decomposed LayerNorm and GELU."""
    w = Writer(name, 3, pattern, dtype)
    x = w.input("embeddings", [batch, sequence, hidden])
    size = hidden // heads

    def linear(x, name, inputs, outputs):
        weight = w.pruned(f"{name}.weight", (inputs, outputs), inputs, transposed=True)
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


def fused_attention(path, hidden, heads, sequence, form="split", batch=1, pattern="dense", dtype=np.float32):
    """Attention with its projections, queries, keys and values by one product: `split` as GPT-2 is exported, causal by
    a choice; `planes` as vision transformers are."""
    w = Writer(f"fused_attention_{form}", 5, pattern, dtype)
    x = w.input("embeddings", [batch, sequence, hidden])
    size = hidden // heads

    def linear(x, name, outputs):
        weight = w.pruned(f"{name}.weight", (hidden, outputs), hidden, transposed=True)
        return w.node("Add", [w.node("MatMul", [x, weight]), w.normal(f"{name}.bias", (outputs,), 100)])

    y = linear(x, "qkv", 3 * hidden)
    if form == "split":
        sizes = w.constant("sizes", np.full(3, hidden, np.int64))
        parts = [f"part{k}" for k in range(3)]
        w.nodes.append(helper.make_node("Split", [y, sizes], parts, name="split", axis=2))
        split = w.constant("split", np.array([batch, sequence, heads, size], np.int64))
        q, k, v = (w.node("Transpose", [w.node("Reshape", [part, split])], perm=perm)
                   for part, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])))
    else:
        split = w.constant("split", np.array([batch, sequence, 3, heads, size], np.int64))
        planes = w.node("Transpose", [w.node("Reshape", [y, split])], perm=[2, 0, 3, 1, 4])
        w.weights += [numpy_helper.from_array(np.array(i, np.int64), f"index{i}") for i in range(3)]
        q, k, v = (w.node("Gather", [planes, f"index{i}"], axis=0) for i in range(3))
        k = w.node("Transpose", [k], perm=[0, 1, 3, 2])
    scores = w.node("Div", [w.node("MatMul", [q, k]), w.constant("scale", np.float32(np.sqrt(size)))])
    if form == "split":
        causal = w.constant("causal", np.tril(np.ones((1, 1, sequence, sequence), bool)))
        scores = w.node("Where", [causal, scores, w.constant("lowest", np.finfo(np.float32).min)])
    context = w.node("MatMul", [w.node("Softmax", [scores], axis=-1), v])
    merged = w.constant("merged", np.array([batch, sequence, hidden], np.int64))
    context = w.node("Reshape", [w.node("Transpose", [context], perm=[0, 2, 1, 3]), merged])
    w.save(path, linear(context, "out", hidden), [batch, sequence, hidden])


NETWORKS = {
    # The published MLP, and one whose weights no cache holds.
    "mlp": functools.partial(mlp, sizes=[1024, 1024, 1024, 512, 10]),
    "mlp_4096": functools.partial(mlp, sizes=[4096, 4096, 4096], name="mlp_4096"),
    "mobilenet_v1": mobilenet_v1,
    "minilm": functools.partial(transformer, name="minilm_s128", layers=6, hidden=384, heads=12, inner=1536,
                                sequence=128),
    "bert_base": functools.partial(transformer, name="bert_base_s128", layers=12, hidden=768, heads=12, inner=3072,
                                   sequence=128),
    # One layer of it, full width: all its kernels, for tools that are too slow for twelve (compute-sanitizer).
    "bert_base_layer": functools.partial(transformer, name="bert_base_layer_s128", layers=1, hidden=768, heads=12,
                                         inner=3072, sequence=128),
    "fused_attention": functools.partial(fused_attention, hidden=768, heads=12, sequence=128),
    "fused_attention_planes": functools.partial(fused_attention, hidden=768, heads=12, sequence=128, form="planes"),
}


def write(name, folder, pattern="dense", precision="f32"):
    """Writes the network into `folder` and returns its path; an existing file is kept, since the seed is fixed."""
    stem = name + ("" if pattern == "dense" else "_" + pattern.replace(":", ""))
    path = pathlib.Path(folder) / f"{stem}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        NETWORKS[name](unfinished, pattern=pattern)
        unfinished.rename(path)
    if precision == "f32":
        return path
    from tests.peers import quantized  # needs more packages than the networks themselves
    return quantized.write(path, precision)
