"""Tests examples/classify.cc as a user meets it: converts networks of the zoo, classifies a drawn pair of trousers.

The image is two light legs on black under a waistband, 28x28; every trained network calls it class 1, Trouser.
"""

import os
import pathlib
import subprocess
import tempfile
import unittest

CONVERT, CLASSIFY = (str(pathlib.Path(path).resolve()) for path in ("tools/convert", "examples/classify"))


def trousers():
    """The bytes of a PGM file."""
    rows = []
    for y in range(28):
        leg = range(9, 20) if y < 8 else list(range(9, 13)) + list(range(16, 20))
        rows.append(bytes(200 if 1 <= y <= 26 and x in leg else 0 for x in range(28)))
    return b"P5\n28 28\n255\n" + b"".join(rows)


class ClassifyTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "image.pgm").write_bytes(trousers())

    def call(self, *command):
        answer = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, env={**os.environ})
        return answer.returncode, answer.stdout, answer.stderr

    def test_from_onnx_to_a_class(self):
        for name in ("fashion_mlp", "fashion_mobilenet", "fashion_mobilenet_channels70"):
            status, _, err = self.call(CONVERT, "zoo:" + name, "-o", "m.tess")
            self.assertEqual(0, status, err)
            status, out, err = self.call(CLASSIFY, "m.tess", "image.pgm")
            self.assertEqual(0, status, err)
            self.assertTrue(out.startswith("class 1 of 10, score "), out)

    def test_errors_are_texts(self):
        status, _, err = self.call(CLASSIFY, "gone.tess", "image.pgm")
        self.assertEqual(1, status)
        self.assertIn("TES-1001", err)
        self.assertEqual(1, self.call(CLASSIFY)[0])


if __name__ == "__main__":
    unittest.main()
