"""From the fp32 graph to int8. Needs `onnx` and onnxruntime's quantiser; no torch.

Two parts: the weights of the matrix products, multiplied in int8 with activations that are scaled per run (dynamic),
and the word embedding, which is most of the file and is only looked up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from crosswind.errors import ModelError


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the weights of the matrix products are stored.

    Attributes:
        signed: int8 or uint8.
        reduce_range: 7 bits: on x86 without VNNI two products of u8 and full-range s8 can overflow 16 bits and are
            clipped silently. With 7 bits they cannot, so the scores do not depend on the machine's age.
        keep: nodes whose name contains one of these stay fp32.
    """

    name: str
    signed: bool = True
    reduce_range: bool = False
    keep: tuple[str, ...] = ()


RECIPES = (Recipe("s7", reduce_range=True), Recipe("s8"), Recipe("u8", signed=False))
"""Tried in this order; see `choose` in build.py."""


def quantise(fp32: Path, int8: Path, recipe: Recipe) -> None:
    """Writes the int8 graph: same inputs and outputs as the fp32 one.

    Raises:
        ModelError: the graph has no word embedding that can be told.
    """
    model = onnx.load(str(fp32))
    quantise_embedding(model)
    kept = [node.name for node in model.graph.node if any(part in node.name for part in recipe.keep)]
    quantize_dynamic(
        model,
        str(int8),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=recipe.reduce_range,
        weight_type=QuantType.QInt8 if recipe.signed else QuantType.QUInt8,
        nodes_to_exclude=kept,
        # without it the quantiser cannot type the outputs of nodes that it does not know
        extra_options={"DefaultTensorType": TensorProto.FLOAT, "MatMulConstBOnly": True},
    )
    onnx.checker.check_model(str(int8))


def quantise_embedding(model: onnx.ModelProto) -> None:
    """Stores the word embedding as int8 rows with one float32 scale per row, in place.

    One scale for the whole table would cost the rare words their detail: the norms of rows differ severalfold.

    Raises:
        ModelError: no `Gather` by `input_ids` in the graph.
    """
    graph = model.graph
    node = next((n for n in graph.node if n.op_type == "Gather" and n.input[1] == "input_ids"), None)
    table = next((t for t in graph.initializer if node and t.name == node.input[0]), None)
    if node is None or table is None:
        raise ModelError("no word embedding found: expected a Gather of a constant by input_ids")
    if sum(table.name in other.input for other in graph.node) > 1:
        raise ModelError(f"the word embedding {table.name} is used twice (tied to an output); export it as fp32")
    rows, scales = by_row(numpy_helper.to_array(table))
    graph.initializer.remove(table)
    graph.initializer.extend(
        [numpy_helper.from_array(rows, f"{table.name}_rows"), numpy_helper.from_array(scales, f"{table.name}_scales")]
    )
    _replace(graph, node, _lookup(table.name, node.output[0]))


def by_row(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale per row: float32 [rows, width] to int8 [rows, width] and float32 [rows, 1].

    The error of an entry is at most half of its row's scale; a row of zeros has scale 1.
    """
    largest = np.abs(table).max(1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(table / scales), -127, 127).astype(np.int8), scales


def _lookup(name: str, output: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gather", [f"{name}_rows", "input_ids"], [f"{name}_row"], f"{name}/rows"),
        helper.make_node("Gather", [f"{name}_scales", "input_ids"], [f"{name}_scale"], f"{name}/scales"),
        helper.make_node("Cast", [f"{name}_row"], [f"{name}_float"], f"{name}/cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [output], f"{name}/scaled"),
    ]


def _replace(graph: onnx.GraphProto, old: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
    """Puts nodes in the place of one: the order of nodes is the order of running them."""
    place = next(index for index, node in enumerate(graph.node) if node.name == old.name)
    nodes = [*graph.node[:place], *new, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
