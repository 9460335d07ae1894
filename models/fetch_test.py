"""fetch.py on wheels made here: what is fetched, kept, and refused. No network."""

import hashlib
import io
import pathlib
import sys
import tempfile
import unittest
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fetch


def archive(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return data.getvalue()


def row(path, content, name="m"):
    return {"name": name, "package": "p==1", "python": "3.11", "path": path,
            "sha256": hashlib.sha256(content).hexdigest()}


class FetchTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        self.wheel = archive({"a/model.tflite": b"plain", "a/inner.zip": archive({"w.safetensors": b"nested"})})
        self.downloads = 0

    def tearDown(self):
        self.temporary.cleanup()

    def get(self, _):
        self.downloads += 1
        return self.wheel

    def test_fetches_plain_and_nested_files_with_one_download(self):
        rows = [row(["a/model.tflite"], b"plain", "x"), row(["a/inner.zip", "w.safetensors"], b"nested", "y")]
        self.assertEqual(fetch.fetch(rows, self.folder, self.get), [])
        self.assertEqual((self.folder / "x.tflite").read_bytes(), b"plain")
        self.assertEqual((self.folder / "y.safetensors").read_bytes(), b"nested")
        self.assertEqual(self.downloads, 1)
        self.assertEqual(fetch.fetch(rows, self.folder, self.get), [])
        self.assertEqual(self.downloads, 1)

    def test_refuses_a_wrong_hash_and_a_missing_file(self):
        self.assertEqual(fetch.fetch([row(["a/model.tflite"], b"other")], self.folder, self.get), ["m"])
        self.assertEqual(fetch.fetch([row(["a/nothing.tflite"], b"x")], self.folder, self.get), ["m"])
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
