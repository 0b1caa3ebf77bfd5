"""From the fp32 graph to int8. Needs `onnx`; no torch.

Two parts: the weights of the matrix products, multiplied in int8 with activations that are scaled per run (dynamic),
and the word embedding, which is most of the file and is only looked up.

ONNX Runtime's own quantiser does the same with weights rounded to nearest and no smoothing; on multilingual-e5 it
changed 10 % of the labels. Standard operators only; ONNX Runtime fuses each group into one kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_limits

from crosswind.errors import ModelError
from crosswind.export.calibration import Floats, Inputs, Product, products
from crosswind.export.rounding import by_products, column_scales
from crosswind.export.smoothing import APART, smooth

TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the matrix products are computed.

    Attributes:
        bits: of the weights. With 7, two products of u8 and s8 fit into 16 bits; with 8, x86 processors without VNNI
            clip them silently, and the scores would depend on the machine's age.
        apart: channels of each input that are multiplied in fp32.
        by_token: activations are divided by each token's largest before they are rounded.
    """

    bits: int = 7
    apart: int = 4
    by_token: bool = False

    @property
    def name(self) -> str:
        """For reports."""
        return f"{self.bits} bits, {self.apart} channels apart" + ", scaled by token" * self.by_token

    @property
    def limit(self) -> int:
        """The largest stored weight."""
        return int(2 ** (self.bits - 1)) - 1


RECIPES = (Recipe(), Recipe(by_token=True), Recipe(apart=16, by_token=True), Recipe(8, 16, True))
"""From fast to exact; the export takes the first that passes its gates. The last one needs VNNI or ARM to be exact."""


def quantise(fp32: Path, int8: Path, recipe: Recipe, inputs: dict[str, Inputs]) -> None:
    """Writes the int8 graph: same inputs and outputs as the fp32 one.

    Args:
        inputs: of each product, see `calibrate`.

    Raises:
        ModelError: the graph has no word embedding that can be told.
    """
    model = onnx.load(str(fp32))
    quantise_embedding(model)
    smoothed = smooth(model, inputs, recipe.apart)
    with threadpool_limits(1):
        _quantise_products(model.graph, recipe, smoothed)
    onnx.save(model, str(int8))
    onnx.checker.check_model(str(int8))


def _quantise_products(graph: onnx.GraphProto, recipe: Recipe, inputs: dict[str, Inputs]) -> None:
    prepared: set[str] = set()
    for product in products(graph):
        name = product.node.input[0]
        if product.node.name.endswith(APART):
            continue
        nodes = [] if name in prepared else _activations(graph, name, recipe.by_token)
        prepared.add(name)
        _replace(graph, product.node, [*nodes, *_integer_product(graph, product, recipe, inputs[name])])


def _activations(graph: onnx.GraphProto, name: str, by_token: bool) -> list[onnx.NodeProto]:
    """Rounds one input to uint8; the products that share it share this."""
    nodes, source = [], name
    if by_token:
        constants = {tensor.name for tensor in graph.initializer}
        if "last_axis" not in constants:
            graph.initializer.append(numpy_helper.from_array(np.asarray([-1], np.int64), "last_axis"))
            graph.initializer.append(numpy_helper.from_array(np.asarray(TINY, np.float32), "tiny"))
        source = f"{name}/even"
        nodes = [
            helper.make_node("Abs", [name], [f"{name}/abs"], f"{name}/abs"),
            helper.make_node("ReduceMax", [f"{name}/abs", "last_axis"], [f"{name}/max"], f"{name}/max", keepdims=1),
            helper.make_node("Max", [f"{name}/max", "tiny"], [f"{name}/token"], f"{name}/token"),
            helper.make_node("Div", [name, f"{name}/token"], [source], source),
        ]
    outputs = [f"{name}/u8", f"{name}/scale", f"{name}/zero"]
    return [*nodes, helper.make_node("DynamicQuantizeLinear", [source], outputs, f"{name}/u8")]


def _integer_product(
    graph: onnx.GraphProto, product: Product, recipe: Recipe, inputs: Inputs
) -> list[onnx.NodeProto]:
    """The nodes of one product, in the pattern that ONNX Runtime fuses."""
    weights = numpy_helper.to_array(product.weights)
    scales = column_scales(weights, recipe.limit)
    rounded = by_products(weights, scales, recipe.limit, inputs.moment)
    name, source, output = product.weights.name, product.node.input[0], product.node.output[0]
    graph.initializer.remove(product.weights)
    graph.initializer.append(numpy_helper.from_array(rounded, f"{name}/s8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scales"))
    last = f"{output}/even" if recipe.by_token else output
    nodes = [
        helper.make_node("Mul", [f"{source}/scale", f"{name}/scales"], [f"{output}/scale"], f"{output}/scale"),
        helper.make_node("MatMulInteger", [f"{source}/u8", f"{name}/s8", f"{source}/zero"], [f"{output}/s32"],
                         f"{output}/s32"),
        helper.make_node("Cast", [f"{output}/s32"], [f"{output}/cast"], f"{output}/cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}/cast", f"{output}/scale"], [last], f"{output}/scaled"),
    ]  # fmt: skip
    if recipe.by_token:
        nodes.append(helper.make_node("Mul", [last, f"{source}/token"], [output], f"{output}/token"))
    return nodes


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
        raise ModelError("no word embedding found: expected a Gather of a constant by input_ids; export it as fp32")
    if sum(table.name in other.input for other in graph.node) > 1:
        raise ModelError(f"the word embedding {table.name} is used twice (tied to an output); export it as fp32")
    rows, scales = by_row(numpy_helper.to_array(table))
    name, output = table.name, node.output[0]
    graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(rows, f"{name}_rows"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
    _replace(graph, node, [
        helper.make_node("Gather", [f"{name}_rows", "input_ids"], [f"{name}_row"], f"{name}/rows"),
        helper.make_node("Gather", [f"{name}_scales", "input_ids"], [f"{name}_scale"], f"{name}/scales"),
        helper.make_node("Cast", [f"{name}_row"], [f"{name}_float"], f"{name}/cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [output], f"{name}/scaled"),
    ])  # fmt: skip


def by_row(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 with one scale per row: float32 [rows, width] to int8 [rows, width] and float32 [rows, 1].

    The error of an entry is at most half of its row's scale; a row of zeros has scale 1.
    """
    largest = np.abs(table).max(1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.clip(np.rint(table / scales), -127, 127).astype(np.int8), scales


def _replace(graph: onnx.GraphProto, old: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
    """Puts nodes in the place of one: a graph's nodes are stored in the order of running."""
    place = next(index for index, node in enumerate(graph.node) if node.output[0] == old.output[0])
    nodes = [*graph.node[:place], *new, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
