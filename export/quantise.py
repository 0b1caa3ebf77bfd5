"""From the fp32 graph to int8. Needs `onnx`; no torch.

Two parts: the weights of the matrix products, multiplied in int8 with activations that are scaled per run (dynamic),
and the word embedding, which is most of the file and is only looked up.

ONNX Runtime's own quantiser does the same with weights rounded to nearest and no smoothing; on multilingual-e5 it
changed 10 % of the labels. Standard operators only; ONNX Runtime fuses each group into one kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from crosswind.errors import ModelError
from crosswind.export.calibration import Floats, Inputs, Product, products
from crosswind.export.rounding import by_products, column_scales
from crosswind.export.smoothing import APART, smooth

TINY = 1e-6
BLOCK = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the matrix products are computed.

    Attributes:
        bits: of the weights. With 7, two products of u8 and s8 fit into 16 bits; with 8, x86 processors without VNNI
            clip them silently, and the scores would depend on the machine's age.
        apart: channels of each input that are multiplied in fp32.
        by_token: activations are divided by each token's largest before they are rounded.
        fine: products whose activations are rounded twice, the second time what the first left over: as exact as 15
            bits, for twice the multiplications. `narrowing`: those with more inputs than outputs, which is where a
            feed-forward block ends, and where the activations are hardest to round.
    """

    bits: int = 7
    apart: int = 4
    by_token: bool = False
    fine: Literal["none", "narrowing", "all"] = "none"

    def parts(self, inputs: int, outputs: int) -> int:
        """How many times the activations of a product are rounded."""
        return 2 if self.fine == "all" or (self.fine == "narrowing" and inputs > outputs) else 1

    @property
    def name(self) -> str:
        """For reports."""
        token = ", scaled by token" * self.by_token
        return f"{self.bits} bits, {self.apart} channels apart{token}, fine: {self.fine}"

    @property
    def limit(self) -> int:
        """The largest stored weight."""
        return int(2 ** (self.bits - 1)) - 1


RECIPES = (
    Recipe(by_token=True),
    Recipe(8, 4, True),
    Recipe(8, 4, True, "narrowing"),
    Recipe(8, 4, True, "all"),
)
"""From fast and portable to exact; the export takes the first that passes its gates.

On a hardly trained multilingual-e5 (12 × 384, many near ties, 354 texts) the first two moved topic logits by 0.023 and
0.019 on average, and 98.6 and 99.2 % of the topics agreed (the second on 1,044 texts: 98.3 %). ONNX Runtime's own
quantiser: 0.14 and 90 %.
"""


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
        parts = recipe.parts(*product.weights.dims)
        nodes = [] if name in prepared else _activations(graph, name, recipe.by_token, parts)
        prepared.add(name)
        _replace(graph, product.node, [*nodes, *_integer_product(graph, product, recipe, inputs[name], parts)])


def _activations(graph: onnx.GraphProto, name: str, by_token: bool, parts: int) -> list[onnx.NodeProto]:
    """Rounds one input to uint8; products that share it share this. The second part is what the first rounds off."""
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
    for part in range(parts):
        rounded = [f"{name}/u8_{part}", f"{name}/scale_{part}", f"{name}/zero_{part}"]
        nodes.append(helper.make_node("DynamicQuantizeLinear", [source], rounded, rounded[0]))
        if part + 1 < parts:
            back, rest = f"{name}/back_{part}", f"{name}/rest_{part}"
            nodes.append(helper.make_node("DequantizeLinear", rounded, [back], back))
            nodes.append(helper.make_node("Sub", [source, back], [rest], rest))
            source = rest
    return nodes


def _integer_product(
    graph: onnx.GraphProto, product: Product, recipe: Recipe, inputs: Inputs, parts: int
) -> list[onnx.NodeProto]:
    """The nodes of one product, each part in the pattern that ONNX Runtime fuses."""
    weights = numpy_helper.to_array(product.weights)
    scales = column_scales(weights, recipe.limit)
    rounded = by_products(weights, scales, recipe.limit, inputs.moment)
    name, source, output = product.weights.name, product.node.input[0], product.node.output[0]
    graph.initializer.remove(product.weights)
    graph.initializer.append(numpy_helper.from_array(rounded, f"{name}/s8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scales"))
    last = f"{output}/even" if recipe.by_token else output
    found = [last] if parts == 1 else [f"{output}/part_{part}" for part in range(parts)]
    nodes = [node for part in range(parts) for node in _part(name, source, found[part], part)]
    if parts > 1:
        nodes.append(helper.make_node("Sum", found, [last], f"{output}/parts"))
    if recipe.by_token:
        nodes.append(helper.make_node("Mul", [last, f"{source}/token"], [output], f"{output}/token"))
    return nodes


def _part(weights: str, source: str, output: str, part: int) -> list[onnx.NodeProto]:
    scale, product, cast = f"{output}/scale", f"{output}/s32", f"{output}/cast"
    operands = [f"{source}/u8_{part}", f"{weights}/s8", f"{source}/zero_{part}"]
    return [
        helper.make_node("Mul", [f"{source}/scale_{part}", f"{weights}/scales"], [scale], scale),
        helper.make_node("MatMulInteger", operands, [product], product),
        helper.make_node("Cast", [product], [cast], cast, to=TensorProto.FLOAT),
        helper.make_node("Mul", [cast, scale], [output], f"{output}/scaled"),
    ]


def quantise_embedding(model: onnx.ModelProto) -> None:
    """Stores the word embedding in fewer bits, in place: 4 where that loses nothing, else 8 (see `by_row`).

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
    graph.initializer.remove(table)
    nodes, constants = word_lookup(node.input[0], node.output[0], numpy_helper.to_array(table))
    graph.initializer.extend(constants)
    _replace(graph, node, nodes)


def word_lookup(name: str, output: str, table: Floats) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants of the word embedding: `input_ids` [batch, length] to float32 [batch, length, width].

    Args:
        name: what the names of the constants begin with.
    """
    packed = pack(table)
    return _eight_bits(name, output, table) if packed is None else _four_bits(name, output, *packed)


def _eight_bits(name: str, output: str, table: Floats) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Signed bytes with one float32 scale per row, looked up and multiplied."""
    rows, scales = by_row(table)
    constants = [numpy_helper.from_array(rows, f"{name}_rows"), numpy_helper.from_array(scales, f"{name}_scales")]
    nodes = [
        helper.make_node("Gather", [f"{name}_rows", "input_ids"], [f"{name}_row"], f"{name}/rows"),
        helper.make_node("Gather", [f"{name}_scales", "input_ids"], [f"{name}_scale"], f"{name}/scales"),
        helper.make_node("Cast", [f"{name}_row"], [f"{name}_float"], f"{name}/cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [output], f"{name}/scaled"),
    ]
    return nodes, constants


def _four_bits(
    name: str, output: str, packed: NDArray[np.uint8], scales: NDArray[np.float16]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Two numbers to the byte and a float16 scale per block (see `pack`), looked up and unpacked."""
    blocks = scales.shape[1]
    constants = {
        "packed": packed, "scales": scales, "low": np.uint8(15), "shift": np.uint8(4), "middle": np.float32(8),
        "blocks": np.array([0, 0, blocks, BLOCK], np.int64), "flat": np.array([0, 0, blocks * BLOCK], np.int64),
        "last": np.array([-1], np.int64),
    }  # fmt: skip

    def own(short: str) -> str:
        return short if short in ("input_ids", output) else f"{name}_{short}"

    def step(kind: str, inputs: Sequence[str], result: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, [own(i) for i in inputs], [own(result)], own(result), **attributes)

    nodes = [
        step("Gather", ["packed", "input_ids"], "bytes"),
        step("BitwiseAnd", ["bytes", "low"], "first"),
        step("BitShift", ["bytes", "shift"], "second", direction="RIGHT"),
        step("Concat", ["first", "second"], "nibbles", axis=-1),
        step("Cast", ["nibbles"], "numbers", to=TensorProto.FLOAT),
        step("Sub", ["numbers", "middle"], "signed"),
        step("Reshape", ["signed", "blocks"], "blocked"),
        step("Gather", ["scales", "input_ids"], "half"),
        step("Cast", ["half"], "float", to=TensorProto.FLOAT),
        step("Unsqueeze", ["float", "last"], "scale"),
        step("Mul", ["blocked", "scale"], "scaled"),
        step("Reshape", ["scaled", "flat"], output),
    ]
    return nodes, [numpy_helper.from_array(np.asarray(v), f"{name}_{k}") for k, v in constants.items()]


def pack(table: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16]] | None:
    """Packs a table that came from blocks of 32 four-bit numbers (llama.cpp's Q4_0) back into such blocks.

    In each block the entry that is largest by magnitude was stored as -8, so the scale is that entry over -8.

    Args:
        table: float32 [rows, width].

    Returns:
        uint8 [rows, width / 2], the low half of each byte for the first half of the row, the high for the second, each
        plus 8; and float16 [rows, width / 32] scales. None where anything would be lost.
    """
    rows, width = table.shape
    if width % (2 * BLOCK):
        return None
    blocks = table.reshape(rows, -1, BLOCK)
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[..., None], 2)[..., 0]
    scales = (peak / -8).astype(np.float16)
    wide = scales.astype(np.float32)[..., None]
    numbers = np.rint(np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0))
    if numbers.min(initial=0) < -8 or numbers.max(initial=0) > 7 or not np.array_equal(numbers * wide, blocks):
        return None
    nibbles: NDArray[np.uint8] = (numbers + 8).astype(np.uint8).reshape(rows, width)
    packed: NDArray[np.uint8] = nibbles[:, : width // 2] + nibbles[:, width // 2 :] * np.uint8(16)
    return packed, scales


def by_row(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8 with one scale per row: float32 [rows, width] to int8 [rows, width] and float32 [rows, 1].

    One scale for the whole table would cost the rare words their detail: the norms of rows differ severalfold. The
    error of an entry is at most half of its row's scale; a row of zeros has scale 1.
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
