"""Trains, prunes and stores the Fashion-MNIST networks of models/zoo.

    nice -n 15 python3 train.py --out=../zoo                       all eight networks, half an hour on one thread
    python3 train.py --out=../zoo --only=fashion_mlp_block4x1_90   one of them (trains its dense twin first if needed)

For each family: the dense network is trained from scratch; each pruned form starts from the dense one, is pruned by
magnitude while it trains on (the sparsity climbs during the first half of the steps), and is fine-tuned with the mask
held for the second half. What is stored is rounded first (weights to float16) and measured then, on the 10,000 test
images, so the accuracy in the manifest is that of the file. The test images choose nothing: the number of epochs is
fixed and the last state is the one that is stored.

Every network is saved as soon as it is done: the .onnx file, its row in manifest.json, and for the dense ones a
checkpoint in --work from which the pruned ones start. One thread and fixed seeds: two runs on one machine with the
same torch give the same files. verify.py checks the result with ONNX Runtime.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import time

import numpy as np
import torch
from torch import nn

import export_onnx
import fashion_data
import nets
import prune

BATCH = 128
RAMP_SHARE = 0.5  # Share of the fine-tuning steps during which the sparsity climbs.
RAMP_STAGES = 16  # How often the mask is chosen anew meanwhile.


@dataclasses.dataclass(frozen=True)
class Family:
    """One architecture and how it is trained."""
    name: str
    build: object  # () -> nn.Module
    export: object  # (name, state, metadata) -> ModelProto
    shift: int  # Training images move by up to this many pixels either way.
    dense_epochs: int
    dense_rate: float  # Peak learning rate of the one-cycle schedule.
    tune_epochs: int
    tune_rate: float
    weight_decay: float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One network of the zoo. Its seed fixes the initial weights, the order of the images and their augmentation."""
    name: str
    family: Family
    seed: int
    pattern: str = "dense"
    sparsity: float = 0.0


MLP = Family(
    "fashion_mlp", lambda: nets.Mlp(dropout=0.2), export_onnx.mlp_model, shift=0,
    dense_epochs=12, dense_rate=1.5e-3, tune_epochs=6, tune_rate=1e-3, weight_decay=1e-2)
MOBILENET = Family(
    "fashion_mobilenet", nets.MobileNet,
    lambda *args: export_onnx.mobilenet_model(*args, [stride for _, stride in nets.BLOCKS], nets.BN_EPS), shift=1,
    dense_epochs=9, dense_rate=6e-3, tune_epochs=4, tune_rate=3e-3, weight_decay=1e-2)

RECIPES = tuple(
    Recipe(f"{family.name}{suffix}", family, seed + i, pattern, sparsity)
    for family, seed in ((MLP, 100), (MOBILENET, 200))
    for i, (suffix, pattern, sparsity) in enumerate((
        ("", "dense", 0.0), ("_scattered90", "scattered", 0.9), ("_block4x1_90", "block4x1", 0.9),
        ("_channels70", "channels", 0.7))))


class Data:
    """Fashion-MNIST as tensors; the pixels stay bytes until a batch is made."""

    def __init__(self, folder):
        (self.images, self.labels), (self.test_images, self.test_labels) = (
            (torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels.astype(np.int64)))
            for images, labels in (fashion_data.load(split, folder) for split in ("train", "test")))

    @staticmethod
    def to_input(images):
        """float[n,1,28,28] in [0,1] from bytes."""
        return images.float().div_(255.0)

    def batches(self, generator, shift):
        """One epoch: shuffled, each image mirrored with probability 1/2 and moved by up to `shift` pixels."""
        order = torch.randperm(len(self.images), generator=generator)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            pick = order[start:start + BATCH]
            images = self.images[pick]
            mirror = torch.rand(BATCH, generator=generator) < 0.5
            images = torch.where(mirror[:, None, None, None], images.flip(3), images)
            if shift:
                padded = nn.functional.pad(images, [shift] * 4)
                offset = torch.randint(2 * shift + 1, (2, BATCH, 1, 1), generator=generator)
                span = torch.arange(28)
                rows, columns = offset[0] + span[:, None], offset[1] + span
                images = padded[torch.arange(BATCH)[:, None, None], 0, rows, columns][:, None]
            yield self.to_input(images), self.labels[pick]

    def steps(self):
        return len(self.images) // BATCH

    def accuracy(self, module):
        """Share of the 10,000 test images that `module` names right."""
        module.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(self.test_images), 500):
                logits = module(self.to_input(self.test_images[start:start + 500]))
                right += int((logits.argmax(1) == self.test_labels[start:start + 500]).sum())
        return right / len(self.test_images)


def fit(module, data, recipe, epochs, rate):
    """Trains `module` in place by the recipe; prunes it on the way if the recipe has a pattern. Returns the masks."""
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=recipe.family.weight_decay, fused=True)
    total = epochs * data.steps()
    # Fine-tuning starts from trained weights, so its rate climbs faster.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=total, pct_start=0.3 if recipe.pattern == "dense" else 0.15)
    ramp_steps = int(total * RAMP_SHARE)
    stage_steps = max(1, ramp_steps // RAMP_STAGES)
    masks, step = {}, 0
    for epoch in range(epochs):
        module.train()
        begin, loss_sum = time.time(), 0.0
        for images, labels in data.batches(generator, recipe.family.shift):
            if recipe.pattern != "dense" and step <= ramp_steps and step % stage_steps == 0:
                masks = module.masks(recipe.pattern, prune.ramp((step + stage_steps) / ramp_steps, recipe.sparsity))
                nets.apply_masks(module, masks)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(images), labels)
            loss.backward()
            optimizer.step()
            nets.apply_masks(module, masks)
            schedule.step()
            loss_sum += loss.item()
            step += 1
        print(f"{recipe.name}: epoch {epoch + 1}/{epochs}, loss {loss_sum / data.steps():.4f}, "
              f"test accuracy {data.accuracy(module):.4f}, {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    return masks


def manifest_row(recipe, path, model, accuracy):
    """What manifest.json says of the file at `path`; README.md of models/zoo explains the fields."""
    with open(path, "rb") as file:
        data = file.read()
    pruned = []
    for name, (value, storage) in export_onnx.stored_weights(model).items():
        if name in recipe.family.build().PRUNED:
            pruned.append({"name": name, "shape": list(value.shape), "kept": int(np.count_nonzero(value)),
                           "storage": storage})
    return {
        "name": recipe.name,
        "file": os.path.basename(path),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "task": "image classification, 10 classes",
        "dataset": "Fashion-MNIST",
        "input": "image float32[N,1,28,28], pixel / 255",
        "output": "logits float32[N,10]",
        "test_accuracy": accuracy,
        "test_images": 10000,
        "pattern": recipe.pattern,
        "target_sparsity": recipe.sparsity,
        "kept_fraction": round(
            sum(p["kept"] for p in pruned) / sum(int(np.prod(p["shape"])) for p in pruned), 6),
        "pruned_tensors": pruned,
        "weight_dtype": "float16",
        "seed": recipe.seed,
        "licence": "Apache-2.0; trained on Fashion-MNIST (MIT, Zalando SE 2017)",
        "script": "models/train/train.py",
        "torch": torch.__version__,
    }


def update_manifest(folder, row):
    """Puts `row` into manifest.json of `folder`, in the order of RECIPES, replacing a row of the same name."""
    path = os.path.join(folder, "manifest.json")
    rows = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            rows = {old["name"]: old for old in json.load(file)["models"]}
    rows[row["name"]] = row
    names = [recipe.name for recipe in RECIPES]
    ordered = [rows[name] for name in names if name in rows]
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"models": ordered}, file, indent=2)
        file.write("\n")
    os.replace(path + ".new", path)


def make(recipe, data, out, work):
    """Trains, stores and records one network."""
    begin = time.time()
    torch.manual_seed(recipe.seed)
    family = recipe.family
    module = family.build().to(memory_format=torch.channels_last)
    checkpoint = os.path.join(work, f"{family.name}.pt")
    if recipe.pattern == "dense":
        fit(module, data, recipe, family.dense_epochs, family.dense_rate)
        torch.save(module.state_dict(), checkpoint)
    else:
        module.load_state_dict(torch.load(checkpoint))
        fit(module, data, recipe, family.tune_epochs, family.tune_rate)
    stored = nets.stored_state(module)
    nets.load_stored(module, stored)
    accuracy = data.accuracy(module)
    model = family.export(recipe.name, stored, {
        "dataset": "Fashion-MNIST", "input": "pixel / 255", "pattern": recipe.pattern,
        "target_sparsity": str(recipe.sparsity), "seed": str(recipe.seed), "test_accuracy": f"{accuracy:.4f}"})
    path = os.path.join(out, f"{recipe.name}.onnx")
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    row = manifest_row(recipe, path, model, accuracy)
    update_manifest(out, row)
    print(f"{recipe.name}: test accuracy {accuracy:.4f}, kept {row['kept_fraction']:.4f}, {row['bytes']} bytes, "
          f"{time.time() - begin:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="networks: " + ", ".join(recipe.name for recipe in RECIPES))
    parser.add_argument("--out", required=True, help="folder for the .onnx files and manifest.json")
    parser.add_argument("--work", default="/tmp/tessera-train", help="folder for the checkpoints of the dense networks")
    parser.add_argument("--data", default=fashion_data.DEFAULT_FOLDER, help="folder with the four IDX files")
    parser.add_argument("--only", help="names of networks, separated by commas (default: all)")
    flags = parser.parse_args()
    names = set(flags.only.split(",")) if flags.only else {recipe.name for recipe in RECIPES}
    unknown = names - {recipe.name for recipe in RECIPES}
    if unknown:
        parser.error(f"unknown network {', '.join(sorted(unknown))}")
    for recipe in RECIPES:  # A pruned network needs its dense twin's checkpoint.
        if recipe.name in names and not os.path.exists(os.path.join(flags.work, f"{recipe.family.name}.pt")):
            names.add(recipe.family.name)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    os.makedirs(flags.out, exist_ok=True)
    os.makedirs(flags.work, exist_ok=True)
    data = Data(flags.data)
    for recipe in RECIPES:
        if recipe.name in names:
            make(recipe, data, flags.out, flags.work)


if __name__ == "__main__":
    main()
