"""Checks the files of models/zoo against their manifest, with ONNX and ONNX Runtime.

    python3 verify.py ../zoo          prints a line per network; exit status 1 if anything disagrees

For every row: size and sha256; a valid model of opset 13; every pruned tensor has the pattern that the row names, at
the count that the row says, and dropped channels have no bias left; and ONNX Runtime names as many test images right
as the manifest says (give or take 2 of 10,000: another order of additions may flip a tie), at batch 1 as in batches.
For the zoo as a whole: each file under 4 MB, all under 12 MB, and no .onnx file without a row.
"""

import argparse
import hashlib
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime

import export_onnx
import fashion_data

MAX_FILE_BYTES = 4_000_000
MAX_ZOO_BYTES = 12_000_000
ACCURACY_SLACK = 2e-4


def pattern_errors(row, weights):
    """What is wrong with the pruned tensors of `row`, as a list of sentences."""
    errors = []
    for tensor in row["pruned_tensors"]:
        name = tensor["name"]
        if name not in weights:
            errors.append(f"{name} is not in the file")
            continue
        value, storage = weights[name]
        if [list(value.shape), storage] != [tensor["shape"], tensor["storage"]]:
            errors.append(f"{name}: {storage} {value.shape}, the manifest says {tensor['storage']} {tensor['shape']}")
        kept = value.reshape(value.shape[0], -1) != 0
        if kept.sum() != tensor["kept"]:
            errors.append(f"{name}: {kept.sum()} elements are not zero, the manifest says {tensor['kept']}")
        sparsity = row["target_sparsity"]
        if row["pattern"] in ("scattered", "block4x1") and abs(kept.mean() - (1 - sparsity)) > 1e-2:
            errors.append(f"{name}: {kept.mean():.4f} kept, expected {1 - sparsity:.4f}")
        if row["pattern"] == "block4x1":
            # A kept weight may round to zero in float16; a block with an element left in it counts as kept.
            blocks = kept.reshape(len(kept) // 4, 4, -1).any(axis=1)
            if abs(blocks.mean() - (1 - sparsity)) > 1e-2:
                errors.append(f"{name}: {blocks.mean():.4f} of the 4x1 blocks kept, expected {1 - sparsity:.4f}")
        if row["pattern"] == "channels":
            live = kept.any(axis=1)
            if abs(live.mean() - (1 - sparsity)) > 1e-2:
                errors.append(f"{name}: {live.mean():.4f} of the outputs kept, expected {1 - sparsity:.4f}")
            layer = name.removesuffix(".weight")
            for after in (f"{layer}.bias", f"{layer}_bn.weight", f"{layer}_bn.bias"):
                if after in weights and weights[after][0][~live].any():
                    errors.append(f"{after} is not zero in a dropped channel, so the channel is not exactly 0")
    return errors


def count_right(path, images, labels, batch):
    """How many of `images` ONNX Runtime names right, fed `batch` at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, len(images), batch):
        x = images[start:start + batch, None].astype(np.float32) / np.float32(255)
        (logits,) = session.run(["logits"], {"image": x})
        right += int((logits.argmax(axis=1) == labels[start:start + batch]).sum())
    return right


def check(row, folder, images, labels):
    """(accuracy, list of sentences) for the network of `row`."""
    path = os.path.join(folder, row["file"])
    with open(path, "rb") as file:
        data = file.read()
    errors = []
    if len(data) != row["bytes"] or hashlib.sha256(data).hexdigest() != row["sha256"]:
        return 0.0, ["size or sha256 is not the manifest's"]
    if len(data) >= MAX_FILE_BYTES:
        errors.append(f"{len(data)} bytes, the limit is {MAX_FILE_BYTES}")
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model)
    if [opset.version for opset in model.opset_import] != [export_onnx.OPSET]:
        errors.append(f"opset {model.opset_import}, expected {export_onnx.OPSET}")
    errors += pattern_errors(row, export_onnx.stored_weights(model))
    accuracy = count_right(path, images, labels, 250) / len(images)
    if abs(accuracy - row["test_accuracy"]) > ACCURACY_SLACK + 1e-9:
        errors.append(f"accuracy {accuracy:.4f}, the manifest says {row['test_accuracy']:.4f}")
    single = count_right(path, images[:200], labels[:200], 1)
    together = count_right(path, images[:200], labels[:200], 200)
    if single != together:
        errors.append(f"batch 1 names {single} of 200 right, batch 200 names {together}")
    return accuracy, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="folder with manifest.json and the .onnx files")
    parser.add_argument("--data", default=fashion_data.DEFAULT_FOLDER, help="folder with the four IDX files")
    flags = parser.parse_args()
    images, labels = fashion_data.load("test", flags.data)
    with open(os.path.join(flags.folder, "manifest.json"), encoding="utf-8") as file:
        rows = json.load(file)["models"]
    failed = False
    for row in rows:
        accuracy, errors = check(row, flags.folder, images, labels)
        print(f"{row['name']:32} {row['bytes']:8} bytes  kept {row['kept_fraction']:.3f}  "
              f"ONNX Runtime {accuracy:.4f}  manifest {row['test_accuracy']:.4f}  {'FAILED' if errors else 'ok'}")
        for error in errors:
            print(f"    {error}")
        failed = failed or bool(errors)
    listed = {row["file"] for row in rows}
    for file in sorted(os.listdir(flags.folder)):
        if file.endswith(".onnx") and file not in listed:
            print(f"{file} has no row in manifest.json")
            failed = True
    total = sum(row["bytes"] for row in rows)
    print(f"{len(rows)} networks, {total} bytes (limit {MAX_ZOO_BYTES})")
    sys.exit(1 if failed or total >= MAX_ZOO_BYTES else 0)


if __name__ == "__main__":
    main()
