"""The networks of networks.py as PyTorch modules with the weights of the same ONNX files, written as one would for
speed: fused attention, one product for query, key and value, one LayerNorm, one GELU, convolutions with their bias.

    module, inputs = build("mobilenet_v1", onnx.load(path))
"""

import numpy as np
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F


class Product(nn.Module):
    """A product with a constant, kept as PyTorch's own layers keep theirs, or as the file has it."""

    def __init__(self, weights, transposed):
        super().__init__()
        self.weight = nn.Parameter(weights["weight"].t().contiguous().t() if transposed else weights["weight"],
                                   requires_grad=False)

    def forward(self, x):
        return torch._int_mm(x, self.weight) if x.dtype == torch.int8 else torch.mm(x, self.weight)


def linear(weights, name, transposed=False):
    """A layer from a weight [out, in], or [in, out] where transposed."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    weight = weight.t().contiguous() if transposed else weight
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def mlp(weights):
    count = sum(name.endswith(".weight") for name in weights)
    layers = []
    for k in range(count):
        layers.append(linear(weights, f"fc{k}"))
        if k + 1 < count:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class MobileNet(nn.Module):

    def __init__(self, weights):
        super().__init__()
        names = ["stem"] + [f"{kind}{k}" for k in range(13) for kind in ("dw", "pw")]
        strides = {"stem": 2, "dw1": 2, "dw3": 2, "dw5": 2, "dw11": 2}
        layers = []
        for name in names:
            weight = weights[f"{name}.weight"]
            groups = weight.shape[0] if name.startswith("dw") else 1
            conv = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], weight.shape[2], strides.get(name, 1),
                             weight.shape[2] // 2, groups=groups, dtype=weight.dtype)
            conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(weights[f"{name}.bias"])
            layers += [conv, nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = linear(weights, "classifier")

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class Layer(nn.Module):

    def __init__(self, weights, p, heads):
        super().__init__()
        self.heads = heads
        # One product for query, key and value.
        self.qkv = linear({"qkv.weight": torch.cat([weights[f"{p}.{x}.weight"] for x in "qkv"], 1),
                           "qkv.bias": torch.cat([weights[f"{p}.{x}.bias"] for x in "qkv"])}, "qkv", True)
        self.out, self.up, self.down = (linear(weights, f"{p}.{name}", True) for name in ("out", "up", "down"))
        self.norm1, self.norm2 = (self.norm(weights, f"{p}.{name}") for name in ("norm1", "norm2"))

    @staticmethod
    def norm(weights, name):
        scale = weights[f"{name}.scale"]
        layer = nn.LayerNorm(scale.shape[0], eps=1e-12, dtype=scale.dtype)
        layer.weight, layer.bias = nn.Parameter(scale), nn.Parameter(weights[f"{name}.bias"])
        return layer

    def forward(self, x):
        batch, sequence, hidden = x.shape
        q, k, v = self.qkv(x).view(batch, sequence, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, sequence, hidden)
        x = self.norm1(self.out(context) + x)
        return self.norm2(self.down(F.gelu(self.up(x))) + x)


def transformer(weights):
    layers = 1 + max(int(name.split(".")[0].removeprefix("layer")) for name in weights if name.startswith("layer"))
    hidden = weights["layer0.norm1.scale"].shape[0]
    return nn.Sequential(*[Layer(weights, f"layer{k}", hidden // 64 if hidden == 768 else 12) for k in range(layers)])


def weights_of(model):
    return {tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
            for tensor in model.graph.initializer}


def build(name, model, transposed=False):
    """The module of network `name` with the weights of an ONNX model, in its precision."""
    weights = weights_of(model)
    if name.startswith("matmul"):
        return Product(weights, transposed)
    if name.startswith("mlp"):
        return mlp(weights)
    return MobileNet(weights) if name.startswith("mobilenet") else transformer(weights)
