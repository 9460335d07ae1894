"""The pruned Fashion-MNIST networks of the zoo keep their accuracy through propagation and shrinking.

All 10,000 test images go through libengine.so, with propagation and without: the same number must be right, and it is
the manifest's (give or take 2: another order of additions may flip a tie). What shrinks is counted from what `opt`
reports: SHRUNK is the list of layers, before and after, of the networks that lost channels.
"""

import ctypes
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import numpy as np

from models.train import fashion_data

CONVERT, OPT, LIBRARY = (str(pathlib.Path(path).resolve()) for path in
                         ("tools/convert", "tools/opt", "engine/libengine.so"))
BATCH = 500
ACCURACY_SLACK = 2e-4


class Options(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("target", ctypes.c_char_p), ("threads", ctypes.c_int),
                ("cache_dir", ctypes.c_char_p), ("sparsity", ctypes.c_int), ("on_collapse", ctypes.c_char_p),
                ("propagate", ctypes.c_int)]


class Port(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Info(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("type", ctypes.c_char_p), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("rank", ctypes.c_size_t), ("bytes", ctypes.c_size_t)]


def convert(name, path):
    subprocess.run([CONVERT, "zoo:" + name, f"--batch={BATCH}", "-o", str(path)], check=True, capture_output=True)


class Library:
    """A model of libengine.so, compiled once with propagation and once without."""

    def __init__(self, path):
        self.library = ctypes.CDLL(LIBRARY)
        self.library.tessera_last_error.restype = ctypes.c_char_p
        self.model = ctypes.c_void_p()
        self.check(self.library.tessera_model_load(str(path).encode(), ctypes.byref(self.model)))
        self.names = []
        for info_of in (self.library.tessera_model_input, self.library.tessera_model_output):
            info = Info()
            self.check(info_of(self.model, 0, ctypes.byref(info)))
            self.names.append(info.name)

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.library.tessera_last_error().decode())

    def logits(self, images, propagate):
        session = ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), None, 0, None, 1, None, propagate)
        self.check(self.library.tessera_model_compile(self.model, ctypes.byref(options), ctypes.byref(session)))
        results = []
        for start in range(0, len(images), BATCH):
            x = np.ascontiguousarray(images[start:start + BATCH])
            y = np.empty((BATCH, 10), np.float32)
            given = Port(self.names[0], x.ctypes.data, x.nbytes)
            wanted = Port(self.names[1], y.ctypes.data, y.nbytes)
            self.check(self.library.tessera_session_run(session, ctypes.byref(given), 1, ctypes.byref(wanted), 1))
            results.append(y)
        self.library.tessera_session_free(session)
        return np.concatenate(results)


# Layer, weights before, weights after.
SHRUNK = {
    "fashion_mlp_channels70": [
        ("fc1", "[1024,784]", "[307,784]"),
        ("fc2", "[1024,1024]", "[307,307]"),
        ("fc3", "[10,1024]", "[10,307]"),
    ],
    "fashion_mobilenet_channels70": [
        ("block0.pw", "[64,16,1,1]", "[19,16,1,1]"),
        ("block1.dw", "[64,1,3,3]", "[19,1,3,3]"),
        ("block1.pw", "[128,64,1,1]", "[38,19,1,1]"),
        ("block2.dw", "[128,1,3,3]", "[38,1,3,3]"),
        ("block2.pw", "[128,128,1,1]", "[38,38,1,1]"),
        ("block3.dw", "[128,1,3,3]", "[38,1,3,3]"),
        ("block3.pw", "[256,128,1,1]", "[77,38,1,1]"),
        ("block4.dw", "[256,1,3,3]", "[77,1,3,3]"),
        ("block4.pw", "[256,256,1,1]", "[77,77,1,1]"),
        ("block5.dw", "[256,1,3,3]", "[77,1,3,3]"),
        ("block5.pw", "[256,256,1,1]", "[77,77,1,1]"),
        ("fc", "[10,256]", "[10,77]"),
    ],
}


class ZooShrinkTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        images, cls.labels = fashion_data.load("test")
        cls.images = (images.astype(np.float32) / 255)[:, None]
        cls.rows = json.loads(pathlib.Path("models/zoo/manifest.json").read_text())["models"]

    def test_accuracy_to_the_last_digit(self):
        for row in self.rows:
            with self.subTest(row["name"]), tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.tess"
                convert(row["name"], path)
                library = Library(path)
                shrunk, whole = (library.logits(self.images, propagate) for propagate in (1, 0))
                right = [(logits.argmax(1) == self.labels).mean() for logits in (shrunk, whole)]
                error = np.abs(shrunk - whole).max() / np.abs(whole).max()
                print(f"{row['name']}: {right[0]:.4f} shrunk, {right[1]:.4f} whole, {row['test_accuracy']:.4f} in the "
                      f"manifest; largest difference of a logit {error:.1e}")
                self.assertEqual(right[0], right[1])
                self.assertLessEqual(abs(right[0] - row["test_accuracy"]), ACCURACY_SLACK)
                self.assertLess(error, 1e-5)

    def test_channels_become_smaller_layers(self):
        self.assertEqual({row["name"] for row in self.rows if "channels" in row["name"]}, set(SHRUNK))
        for name, expected in SHRUNK.items():
            with self.subTest(name):
                answer = subprocess.run([OPT, "zoo:" + name, "--stop_after=shrink"], check=True, capture_output=True,
                                        text=True)
                lines = re.findall(r"^shrunk: (?:conv|matmul) '([^']*)'.*weights (\[[\d,]*\]) -> (\[[\d,]*\])",
                                   answer.stderr, re.M)
                print(name, lines)
                self.assertEqual(expected, lines)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
