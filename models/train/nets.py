"""The two networks, as torch modules, and which of their parameters each pruning pattern touches.

    Mlp         784-1024-1024-10 with ReLU
    MobileNet   a 3x3 stem, six depthwise-separable blocks, global average pool, linear; 200 k parameters. The order of
                MobileNetV1 (Howard et al., 2017): depthwise 3x3, BatchNorm, ReLU6, pointwise 1x1, BatchNorm, ReLU6.

Both read float[N,1,28,28] of pixel / 255 and give float[N,10] of logits. Names of parameters (`fc1.weight`,
`block2.pw_bn.running_mean`) are the names of the tensors in the ONNX files. `masks` of a network gives, for a pattern
and a sparsity, one 0/1 tensor for every parameter that the pattern touches; the rest of the network stays dense.
"""

import numpy as np
import torch
from torch import nn

import prune

BN_EPS = 1e-5

# MobileNet: channels of the stem, then (channels out, stride of the depthwise convolution) of each block.
STEM_CHANNELS = 16
BLOCKS = ((64, 2), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1))


def _matrix(parameter):
    """The weight of a linear or 1x1 convolution layer as float32[outputs, inputs]."""
    value = parameter.detach().numpy()
    return value.reshape(value.shape[0], -1)


def _element_masks(module, names, pattern, sparsity):
    parameters = dict(module.named_parameters())
    choose = {"scattered": prune.scattered, "block4x1": prune.block4x1}[pattern]
    return {
        name: torch.from_numpy(choose(_matrix(parameters[name]), sparsity).reshape(parameters[name].shape))
        for name in names
    }


class Mlp(nn.Module):
    PRUNED = ("fc1.weight", "fc2.weight")

    def __init__(self, dropout):
        super().__init__()
        self.fc1 = nn.Linear(784, 1024)
        self.fc2 = nn.Linear(1024, 1024)
        self.fc3 = nn.Linear(1024, 10)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image):
        x = self.dropout(torch.relu(self.fc1(image.flatten(1))))
        x = self.dropout(torch.relu(self.fc2(x)))
        return self.fc3(x)

    def masks(self, pattern, sparsity):
        if pattern != "channels":
            return _element_masks(self, self.PRUNED, pattern, sparsity)
        keep1 = torch.from_numpy(prune.channels(_matrix(self.fc1.weight), sparsity))
        keep2 = torch.from_numpy(prune.channels(_matrix(self.fc2.weight), sparsity))
        # The columns of fc2 that read a dropped neuron go too, which makes the file 1.2 MB smaller and changes no
        # output. Those of fc3 stay: that they are dead is for the reader's propagation to find.
        return {
            "fc1.weight": keep1[:, None].expand(-1, 784),
            "fc1.bias": keep1,
            "fc2.weight": keep2[:, None] & keep1[None, :],
            "fc2.bias": keep2,
        }


class _Separable(nn.Module):

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.dw_bn = nn.BatchNorm2d(inputs, BN_EPS)
        self.pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pw_bn = nn.BatchNorm2d(outputs, BN_EPS)

    def forward(self, x):
        x = nn.functional.relu6(self.dw_bn(self.dw(x)), inplace=True)
        return nn.functional.relu6(self.pw_bn(self.pw(x)), inplace=True)


class MobileNet(nn.Module):
    PRUNED = tuple(f"block{i}.pw.weight" for i in range(len(BLOCKS)))

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, STEM_CHANNELS, 3, 1, 1, bias=False)
        self.stem_bn = nn.BatchNorm2d(STEM_CHANNELS, BN_EPS)
        inputs = STEM_CHANNELS
        for i, (outputs, stride) in enumerate(BLOCKS):
            self.add_module(f"block{i}", _Separable(inputs, outputs, stride))
            inputs = outputs
        self.fc = nn.Linear(inputs, 10)

    def block(self, i):
        return getattr(self, f"block{i}")

    def forward(self, image):
        x = nn.functional.relu6(self.stem_bn(self.stem(image)), inplace=True)
        for i in range(len(BLOCKS)):
            x = self.block(i)(x)
        return self.fc(x.mean((2, 3)))

    def masks(self, pattern, sparsity):
        if pattern != "channels":
            return _element_masks(self, self.PRUNED, pattern, sparsity)
        # A dropped output of a pointwise convolution is zero behind its BatchNorm and ReLU6, and so is the depthwise
        # channel that reads it. The columns of the next pointwise convolution stay: the reader's propagation finds
        # that they are dead.
        masks = {}
        for i in range(len(BLOCKS)):
            block = self.block(i)
            scale = block.pw_bn.weight.detach() / torch.sqrt(block.pw_bn.running_var + BN_EPS)
            keep = torch.from_numpy(prune.channels(_matrix(block.pw.weight), sparsity, scale.numpy()))
            masks[f"block{i}.pw.weight"] = keep[:, None, None, None].expand_as(block.pw.weight)
            masks[f"block{i}.pw_bn.weight"] = masks[f"block{i}.pw_bn.bias"] = keep
            if i + 1 < len(BLOCKS):
                masks[f"block{i + 1}.dw.weight"] = keep[:, None, None, None].expand(-1, 1, 3, 3)
                masks[f"block{i + 1}.dw_bn.weight"] = masks[f"block{i + 1}.dw_bn.bias"] = keep
        return masks


def apply_masks(module, masks):
    """Multiplies every masked parameter by its mask, in place."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask)


def stored_state(module):
    """{name: numpy array} as the file holds it: weights float16, everything else float32.

    The statistics of a BatchNorm channel that its mask dropped (scale and bias both zero) become mean 0, variance 1.
    """
    state = {name: value.detach().numpy().copy() for name, value in module.state_dict().items()}
    stored = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        is_weight = name.endswith(".weight") and value.ndim >= 2
        stored[name] = np.ascontiguousarray(value, dtype=np.float16 if is_weight else np.float32)
    for name in [n.removesuffix(".running_mean") for n in stored if n.endswith(".running_mean")]:
        gone = (stored[f"{name}.weight"] == 0) & (stored[f"{name}.bias"] == 0)
        stored[f"{name}.running_mean"][gone] = 0.0
        stored[f"{name}.running_var"][gone] = 1.0
    return stored


def load_stored(module, stored):
    """Puts what `stored_state` gave back into `module`, so that it computes exactly what the file says."""
    state = module.state_dict()
    with torch.no_grad():
        for name, value in stored.items():
            state[name].copy_(torch.from_numpy(value.astype(np.float32)))
