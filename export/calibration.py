"""What goes into a graph's matrix products: measured once, on texts that are not the test's. Torch-free."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from crosswind.export.running import feed

CHUNK = 64
"""Texts whose activations are held at once: about 130 MB at 12 × 384."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Product:
    """One `MatMul` by a constant: its node, and its weights [inputs, outputs]."""

    node: onnx.NodeProto
    weights: onnx.TensorProto


@dataclass(frozen=True)
class Inputs:
    """The inputs of one product, over all tokens seen.

    Attributes:
        largest: largest absolute value per channel, [inputs].
        moment: sum of the outer products of all tokens' vectors, [inputs, inputs].
    """

    largest: Floats
    moment: Floats

    def scaled(self, by: Floats) -> "Inputs":
        """The same of inputs multiplied by a factor per channel."""
        return Inputs(self.largest * np.abs(by), self.moment * by[:, None] * by[None, :])


def products(graph: onnx.GraphProto) -> list[Product]:
    """The matrix products by constants, in the order they run."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return [Product(node, constants[node.input[1]]) for node in graph.node
            if node.op_type == "MatMul" and node.input[1] in constants]  # fmt: skip


def calibrate(path: Path, texts: Iterable[Sequence[int]]) -> dict[str, Inputs]:
    """Runs texts and measures what goes into the products, by the input's name.

    Args:
        texts: token ids; a few hundred texts are enough, no labels are needed.
    """
    model = onnx.load(str(path))
    names = sorted({product.node.input[0] for product in products(model.graph)})
    model.graph.output.extend([helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names])
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: dict[str, Inputs] = {}
    with threadpool_limits(1):
        for chunk in _chunks(list(texts)):
            runs = [session.run(names, feed(ids)) for ids in chunk]
            for index, name in enumerate(names):
                tokens = np.concatenate([run[index].reshape(-1, run[index].shape[-1]) for run in runs])
                _add(found, name, np.abs(tokens).max(0), tokens.T @ tokens)
    return found


def _add(found: dict[str, Inputs], name: str, largest: Floats, moment: Floats) -> None:
    before = found.get(name)
    if before:
        largest, moment = np.maximum(before.largest, largest), before.moment + moment
    found[name] = Inputs(largest, moment)


def _chunks(texts: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
    """Many tokens per product of moments: text by text, adding up 30 million numbers took longer than the model."""
    for start in range(0, len(texts), CHUNK):
        yield texts[start : start + CHUNK]
