"""int8 forms of an ONNX file, made by ONNX Runtime's own quantiser, so that both engines read what its users have.

    path = write(pathlib.Path("minilm.onnx"), "qdq")          # minilm_qdq.onnx, beside it

`qdq` is static: u8 activations whose ranges eight seeded random inputs show, i8 weights with a scale per output
channel, as QuantizeLinear and DequantizeLinear around operators. Which operators have them is what ONNX Runtime runs
fastest: all that its quantiser knows, but in transformers matrix products alone (8.8 ms against 10.0 ms of MiniLM, 2
threads).
`dynamic` finds ranges of activations during the run (DynamicQuantizeLinear, MatMulInteger); convolutions have no fast
kernel for that in ONNX Runtime.
"""

import contextlib
import hashlib
import logging
import os
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization

PRECISIONS = ["qdq", "dynamic"]


class RandomInputs(quantization.CalibrationDataReader):
    """Seeded normal values for each input of a model."""

    def __init__(self, path, count=8, seed=7):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(seed)
        draw = lambda: {port.name: rng.standard_normal(port.shape).astype(np.float32) for port in session.get_inputs()}
        self.samples = iter([draw() for _ in range(count)])

    def get_next(self):
        return next(self.samples, None)


def is_transformer(path):
    return any(node.op_type == "Softmax" for node in onnx.load(str(path), load_external_data=False).graph.node)


def write(path, precision):
    """Writes PATH_precision.onnx and returns its path; an existing file is kept."""
    result = path.with_name(f"{path.stem}_{precision}.onnx")
    if result.exists():
        return result
    unfinished = result.with_suffix(".part")
    common = dict(per_channel=True, weight_type=quantization.QuantType.QInt8)
    logging.disable(logging.WARNING)  # that the file could be pre-processed; a fold of ours would change the network
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        if precision == "dynamic":
            quantization.quantize_dynamic(str(path), str(unfinished), **common)
        elif precision == "qdq":
            operators = ["MatMul", "Gemm"] if is_transformer(path) else None
            quantization.quantize_static(str(path), str(unfinished), RandomInputs(path),
                                         quant_format=quantization.QuantFormat.QDQ,
                                         activation_type=quantization.QuantType.QUInt8, op_types_to_quantize=operators,
                                         **common)
        else:
            raise ValueError(f"expected one of {', '.join(PRECISIONS)}, found {precision}")
    logging.disable(logging.NOTSET)
    unfinished.rename(result)
    return result


def cache_folder():
    """Where generated networks are kept between runs: they depend on nothing but these files and two packages."""
    here = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("networks.py", "quantized.py"):
        digest.update((here / name).read_bytes())
    digest.update(f"{onnx.__version__} {onnxruntime.__version__}".encode())
    base = os.environ.get("TESSERA_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tessera")
    folder = pathlib.Path(base) / "peers" / digest.hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder
