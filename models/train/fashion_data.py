"""Fashion-MNIST as numpy arrays, read from Debian's package `dataset-fashion-mnist`.

The files are IDX: two zero bytes, one type byte (8 = unsigned byte), one byte with the number of dimensions, the
dimensions as big-endian 32-bit integers, then the data; all of it gzipped.

    images, labels = fashion_data.load("train")     # uint8[60000,28,28], uint8[60000]

The networks read pixel / 255 and nothing else: no mean is subtracted, so that a user can feed an image as it is.
Tested by fashion_data_test.py.
"""

import gzip
import os
import struct

import numpy as np

DEFAULT_FOLDER = "/usr/share/datasets/fashion-mnist"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path):
    """The array in the gzipped IDX file `path`; ValueError that names the file where it is not one."""
    with gzip.open(path, "rb") as file:
        data = file.read()
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path}: expected an IDX file of unsigned bytes (00 00 08), found {data[:3].hex(' ')}")
    rank = data[3]
    if len(data) < 4 + 4 * rank:
        raise ValueError(f"{path}: expected {rank} dimensions, found a file of {len(data)} bytes")
    shape = struct.unpack(f">{rank}I", data[4:4 + 4 * rank])
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * rank)
    if body.size != int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path}: shape {shape} needs {np.prod(shape, dtype=np.int64)} bytes, found {body.size}")
    return body.reshape(shape)


def load(split, folder=DEFAULT_FOLDER):
    """(images uint8[n,28,28], labels uint8[n]) of `split`: "train" (n = 60000) or "test" (n = 10000)."""
    arrays = []
    for kind in ("images-idx3", "labels-idx1"):
        path = os.path.join(folder, f"{_PREFIX[split]}-{kind}-ubyte.gz")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{path} is missing: apt-get install dataset-fashion-mnist, or give --data=FOLDER")
        arrays.append(read_idx(path))
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {len(images)} {split} images but {len(labels)} labels")
    return images, labels
