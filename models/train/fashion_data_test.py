"""Tests of fashion_data.py: python3 fashion_data_test.py (numpy is all it needs)."""

import gzip
import os
import tempfile
import unittest

import numpy as np

import fashion_data


class ReadIdxTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def write(self, data):
        path = os.path.join(self.folder.name, "x.gz")
        with gzip.open(path, "wb") as file:
            file.write(data)
        return path

    def test_reads_shape_and_values(self):
        path = self.write(b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes(range(6)))
        np.testing.assert_array_equal(fashion_data.read_idx(path), np.arange(6).reshape(2, 3))

    def test_refuses_what_is_not_idx_or_too_short(self):
        for data in (b"", b"\0\0\x0d\x01\0\0\0\x01\0", b"\0\0\x08\x02\0\0", b"\0\0\x08\x01\0\0\0\x05abc"):
            with self.assertRaisesRegex(ValueError, "x.gz"):
                fashion_data.read_idx(self.write(data))

    def test_a_missing_folder_says_what_to_install(self):
        with self.assertRaisesRegex(FileNotFoundError, "dataset-fashion-mnist"):
            fashion_data.load("test", self.folder.name)

    @unittest.skipUnless(os.path.isdir(fashion_data.DEFAULT_FOLDER), "dataset-fashion-mnist is not installed")
    def test_the_real_data_set(self):
        images, labels = fashion_data.load("test")
        self.assertEqual(images.shape, (10000, 28, 28))
        np.testing.assert_array_equal(np.bincount(labels), np.full(10, 1000))


if __name__ == "__main__":
    unittest.main()
