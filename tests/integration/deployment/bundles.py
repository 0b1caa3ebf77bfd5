"""Variants of the tiny bundle, for changing the model under load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from crosswind.export.bundle import MANIFEST, MODEL, Manifest, seal


def reseal(folder: Path, change: Callable[[dict[str, Any]], None]) -> Manifest:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    return seal(folder, manifest)


def variant(tiny: Path, folder: Path, name: str, **changes: object) -> Path:
    """The tiny bundle under another name, and so of another version, with the same answers."""
    shutil.copytree(tiny, folder)
    reseal(folder, lambda manifest: manifest.update(name=name, **changes))
    return folder


def numberless(tiny: Path, folder: Path) -> Path:
    """A bundle whose logits are no numbers where a text says `oil`, which none of its smoke sentences does."""
    shutil.copytree(tiny, folder)
    model = onnx.load(str(folder / MODEL))
    oil = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]["oil"]
    for tensor in model.graph.initializer:
        if tensor.name == "sentiment_rows":
            rows = numpy_helper.to_array(tensor).copy()
            rows[oil] = float("nan")
            tensor.CopyFrom(numpy_helper.from_array(rows, tensor.name))
    onnx.save(model, str(folder / MODEL))
    reseal(folder, lambda manifest: manifest.update(name="numberless"))
    return folder


def opposite(tiny: Path, folder: Path) -> Path:
    """A bundle that takes good news for bad and bad for good."""
    shutil.copytree(tiny, folder)
    model = onnx.load(str(folder / MODEL))
    for tensor in model.graph.initializer:
        if tensor.name == "sentiment_rows":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, ::-1].copy(), tensor.name))
    onnx.save(model, str(folder / MODEL))
    reseal(folder, lambda m: m.update(name="opposite", smoke=[{"text": "profit falls", "sentiment": "positive"}]))
    return folder
