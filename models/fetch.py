"""Fetches the real models that models/manifest.json names, through pip, and checks each file's SHA-256.

    python3 models/fetch.py                          all, into $TESSERA_CACHE/models (else ~/.cache/tessera/models)
    python3 models/fetch.py face_detection_sparse    only that one; `bench zoo:face_detection_sparse` finds it there
    python3 models/fetch.py --list

Packages are downloaded as wheels and read as archives: nothing of them is installed or run. A file that is there
already with the right hash is kept. Tested by fetch_test.py.
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

MANIFEST = pathlib.Path(__file__).resolve().parent / "manifest.json"


def cache_folder():
    """Where tools look for models by name."""
    if os.environ.get("TESSERA_CACHE"):
        return pathlib.Path(os.environ["TESSERA_CACHE"]) / "models"
    if os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(os.environ["XDG_CACHE_HOME"]) / "tessera" / "models"
    return pathlib.Path.home() / ".cache" / "tessera" / "models"


def extract(wheel, path):
    """The bytes of a file in an archive; `path` names the way through archives within archives."""
    data = wheel
    for step in path:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(step)
    return data


def download(row):
    """The wheel of a row's package, by pip."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                   "--python-version", row["python"], "--dest", folder, row["package"]]
        subprocess.run(command, check=True)
        wheels = list(pathlib.Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise RuntimeError("{}: expected one wheel, found {}".format(row["package"], len(wheels)))
        return wheels[0].read_bytes()


def target(row, folder):
    return folder / (row["name"] + pathlib.PurePosixPath(row["path"][-1]).suffix)


def matches(data, row):
    return hashlib.sha256(data).hexdigest() == row["sha256"]


def fetch(rows, folder, get=download):
    """Puts the rows' files into `folder`; the names of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failed, wheels = [], {}
    for row in rows:
        path = target(row, folder)
        if path.exists() and matches(path.read_bytes(), row):
            print("{}: there already".format(path))
            continue
        try:
            if row["package"] not in wheels:
                wheels[row["package"]] = get(row)
            data = extract(wheels[row["package"]], row["path"])
        except (OSError, KeyError, RuntimeError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
            print("error: {}: {}".format(row["name"], error), file=sys.stderr)
            failed.append(row["name"])
            continue
        if not matches(data, row):
            print("error: {}: expected SHA-256 {}, found {}".format(
                row["name"], row["sha256"], hashlib.sha256(data).hexdigest()), file=sys.stderr)
            failed.append(row["name"])
            continue
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)
        partial.replace(path)
        print("{}: {} bytes, from {}".format(path, len(data), row["package"]))
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="rows of the manifest; none: all")
    parser.add_argument("--list", action="store_true", help="what the manifest names, and nothing else")
    arguments = parser.parse_args()
    rows = json.loads(MANIFEST.read_text())["models"]
    if arguments.list:
        for row in rows:
            print("{:24} {:32} {}".format(row["name"], row["package"], row["task"]))
        return 0
    known = [row["name"] for row in rows]
    for name in arguments.names:
        if name not in known:
            print("error: no model '{}'; there are {}".format(name, ", ".join(known)), file=sys.stderr)
            return 2
    wanted = [row for row in rows if not arguments.names or row["name"] in arguments.names]
    return 1 if fetch(wanted, cache_folder()) else 0


if __name__ == "__main__":
    sys.exit(main())
