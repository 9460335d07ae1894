"""Which weights to keep: magnitude pruning in three patterns, on numpy arrays.

A weight is [outputs, inputs] (a 1x1 convolution is reshaped to that by the caller). `sparsity` is the share to drop.

    scattered   the smallest elements go, wherever they stand
    block4x1    blocks of 4 consecutive outputs x 1 input go, by the sum of their magnitudes
    channels    whole outputs go, by the norm of their row

        scattered          block4x1           channels
        . x . . x . .      x . . . x . .      . . . . . . .
        x . . . . . x      x . . . x . .      x x x x x x x
        . . x . . x .      x . . . x . .      . . . . . . .
        . . . x . . .      x . . . x . .      . . . . . . .

The count that is kept is exact, round((1 - sparsity) * units); among equal magnitudes the later one goes. Each
weight is pruned by itself: every layer ends at the same sparsity. Tested by prune_test.py.
"""

import numpy as np

BLOCK = 4  # Outputs of a block of the pattern block4x1.


def keep_largest(scores, sparsity):
    """bool array like `scores`: True at the round((1 - sparsity) * size) largest of them."""
    kept = int(round((1.0 - sparsity) * scores.size))
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores.ravel(), kind="stable")[:kept]] = True
    return mask.reshape(scores.shape)


def scattered(weight, sparsity):
    """bool[outputs, inputs]: the elements to keep."""
    return keep_largest(np.abs(weight), sparsity)


def block4x1(weight, sparsity):
    """bool[outputs, inputs]: the elements to keep; the number of outputs is a multiple of 4."""
    outputs, inputs = weight.shape
    if outputs % BLOCK:
        raise ValueError(f"block4x1 needs outputs in fours, found a weight of shape {weight.shape}")
    scores = np.abs(weight).reshape(outputs // BLOCK, BLOCK, inputs).sum(axis=1)
    return np.repeat(keep_largest(scores, sparsity), BLOCK, axis=0)


def channels(weight, sparsity, scale=None):
    """bool[outputs]: the outputs to keep. `scale` [outputs] is what a BatchNorm behind the layer multiplies by."""
    scores = np.sqrt(np.square(weight, dtype=np.float64).sum(axis=1))
    return keep_largest(scores if scale is None else scores * np.abs(scale), sparsity)


def ramp(progress, final):
    """Sparsity after the share `progress` of the ramp: cubic, fast at first while there is much to spare.

    Zhu and Gupta, "To prune, or not to prune", 2017, equation 1 with an initial sparsity of 0.
    """
    return final * (1.0 - (1.0 - min(max(progress, 0.0), 1.0))**3)
