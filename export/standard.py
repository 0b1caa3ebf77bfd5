"""An int8 graph of `fused` in standard operators and float products, for runtimes that compile graphs themselves.

What `fused` spells out for ONNX Runtime (rounding twice, its own attention) keeps other runtimes from what they do
well: OpenVINO fuses a product with all that follows it and computes in bfloat16 where the processor can. So the weights
are turned back into floats and the rest is said plainly. They are the same weights, rounded to 8 bits and a scale per
column; activations are not rounded. Needs `onnx`; no torch.

Two things are said otherwise than the standard would allow, because OpenVINO 2026.4 computes them wrongly: shifts and
masks of bytes (the word embedding's 4 bits), and a product with a row that is summed over its last axis (the heads and
`meaning`) when several texts share a run.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crosswind.errors import ModelError
from crosswind.export.calibration import Floats
from crosswind.export.fused import ATTENTION, MICROSOFT, Graph
from crosswind.export.weights import Constants, weights_of

OPSET: Final = 20
"""The first with `Gelu`."""
ROUNDED: Final = "/s8"
JOINT: Final = "/qkv"
MASK: Final = "attention/mask"
MASKED: Final = np.float32(-1e9)
STEPS: Final = ("abs", "largest", "even", "u8", "token", "scaled", "high", "back", "rest", "low", "big", "small")
"""Nodes of a product in `fused`, besides its last, `sum`."""
FIRST: Final = ("abs", "high")
"""Those that take the product's input."""


@dataclass(kw_only=True)
class _Rewriting(Graph):
    """The graph while it is rewritten.

    Attributes:
        given: the values of the constants that there were, by name.
        sources: of each product, what goes into it.
        head: width of an attention head.
        thin: of an output with an axis put in, the one without.
        each: of an elementwise product with a matrix, both.
    """

    given: Constants
    sources: dict[str, str]
    head: int
    thin: dict[str, str] = field(default_factory=dict)
    each: dict[str, tuple[str, str]] = field(default_factory=dict)


def is_fused(model: onnx.ModelProto) -> bool:
    """Whether the graph is one of `fused`, which `standard` can rewrite."""
    return any(node.op_type == "MatMulIntegerToFloat" for node in model.graph.node)


def standard(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same inputs and outputs; weights as float32. The model that is given is not changed.

    Raises:
        ModelError: a node is neither standard nor one that `fused` makes now.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    products = {name.removesuffix(ROUNDED) for name in constants if name.endswith(ROUNDED)}
    firsts = {f"{name}/{step}": name for name in products for step in FIRST}
    sources = {firsts[node.name]: node.input[0] for node in graph.node if node.name in firsts}
    given = {name: numpy_helper.to_array(tensor) for name, tensor in constants.items()}
    new = _Rewriting(constants=constants, given=given, sources=sources, head=_head(graph))
    _mask(new)
    gone = {f"{name}/{step}" for name in products for step in STEPS}
    for node in graph.node:
        if node.name not in gone:
            _rewrite(new, node)
    used = {name for node in new.nodes for name in node.input}
    kept = [tensor for name, tensor in new.constants.items() if name in used]
    made = helper.make_graph(new.nodes, graph.name, list(graph.input), list(graph.output), kept)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


def _head(graph: onnx.GraphProto) -> int:
    """Width of an attention head: the layer norms say the encoder's, attention how many there are."""
    heads = next(a.i for node in graph.node for a in node.attribute if a.name == "num_heads")
    norm = next(node.input[1] for node in graph.node if node.op_type == "LayerNormalization")
    return int(next(tensor.dims[0] for tensor in graph.initializer if tensor.name == norm) // heads)


def _rewrite(new: _Rewriting, node: onnx.NodeProto) -> None:
    product, last = node.name.removesuffix("/sum"), node.output[0]
    if product.endswith(JOINT) and product in new.sources:
        return
    if product in new.sources:
        weights = weights_of(new.given, product)[f"{product}.weight"]
        _dense(new, product, weights, new.given[f"{product}.bias"], last)
    elif node.op_type == "Split" and node.input[0].endswith(f"{JOINT}/sum"):
        _apart(new, node)
    elif node.op_type == "MultiHeadAttention":
        _attention(new, node)
    elif node.op_type == "Gelu":
        new.add("Gelu", node.input, last)
    elif node.name in _NIBBLES:
        _NIBBLES[node.name](new)
    elif node.op_type == "Mul" and node.name.endswith("/each"):
        new.each[last] = (new.thin[node.input[0]], node.input[1])
    elif node.op_type == "ReduceSum" and node.input[0] in new.each:
        new.add("Gemm", new.each[node.input[0]], last, transB=1)
    elif node.name == "pool/floats":  # there zero for a row with padding, which this graph can take
        new.add("Identity", node.input[:1], last)
    elif node.domain:
        raise ModelError(f"{node.op_type} of {MICROSOFT}: not an operator that `crosswind export` builds graphs of")
    else:
        if node.op_type == "Unsqueeze":
            new.thin[last] = node.input[0]
        new.nodes.append(node)


def _apart(new: _Rewriting, node: onnx.NodeProto) -> None:
    """Query, key and value by a product each, the query already over the root of a head's width."""
    product = node.input[0].removesuffix("/sum")
    weights = weights_of(new.given, product)
    for name, part in zip(ATTENTION, node.output, strict=True):
        own = product.replace(JOINT, f".attention.self.{name}")
        factor = np.float32(1 / math.sqrt(new.head) if name == "query" else 1)
        _dense(new, product, weights[f"{own}.weight"] * factor, weights[f"{own}.bias"] * factor, part)


def _dense(new: _Rewriting, product: str, weights: Floats, bias: Floats, output: str) -> None:
    """What goes into the product, times weights [outputs, inputs] turned, plus bias."""
    matrix = new.constant(f"{output}/matrix", np.ascontiguousarray(weights.T))
    turned = new.add("MatMul", [new.sources[product], matrix], f"{output}/product")
    new.add("Add", [turned, new.constant(f"{output}/bias", bias)], output)


def _attention(new: _Rewriting, node: onnx.NodeProto) -> None:
    """Of query, key and value, [batch, length, width] each, and the mask, which `fused` goes without."""
    if len(node.input) != len(ATTENTION):
        raise ModelError("attention takes a bias or a mask, as in graphs of an older export: export the model again")
    at = node.name
    split, joint = new.integers(0, 0, -1, new.head), new.integers(0, 0, -1)
    query, key, value = (new.add("Reshape", [part, split], f"{part}/split") for part in node.input)
    query = new.add("Transpose", [query], f"{at}/rows", perm=[0, 2, 1, 3])
    key = new.add("Transpose", [key], f"{at}/columns", perm=[0, 2, 3, 1])
    value = new.add("Transpose", [value], f"{at}/values", perm=[0, 2, 1, 3])
    scores = new.add("Add", [new.add("MatMul", [query, key], f"{at}/products"), MASK], f"{at}/scores")
    mixed = new.add("MatMul", [new.add("Softmax", [scores], f"{at}/shares", axis=-1), value], f"{at}/mixed")
    new.add("Reshape", [new.add("Transpose", [mixed], f"{at}/back", perm=[0, 2, 1, 3]), joint], node.output[0])


def _mask(new: _Rewriting) -> None:
    """0 for a token and `MASKED` for padding, [batch, 1, 1, length]: what attention adds to its scores."""
    floats = new.add("Cast", ["attention_mask"], "attention/kept", to=TensorProto.FLOAT)
    wide = new.add("Unsqueeze", [floats, new.integers(1, 2)], "attention/wide")
    gone = new.add("Sub", [new.constant("attention/one", np.float32(1)), wide], "attention/gone")
    new.add("Mul", [gone, new.constant("attention/masked", MASKED)], MASK)


def _bytes(new: _Rewriting) -> None:
    new.add("Gather", ["words_packed", "input_ids"], "words/bytes")
    new.add("Cast", ["words/bytes"], "words_bytes", to=TensorProto.FLOAT)


def _halves(new: _Rewriting) -> None:
    """The upper four bits of a byte, then the lower; floats this small are exact in bfloat16, too."""
    sixteen = new.constant("words/sixteen", np.float32(16))
    parts = new.add("Mul", ["words_bytes", new.constant("words/sixteenth", np.float32(1 / 16))], "words/sixteenths")
    upper = new.add("Floor", [parts], "words_second")
    new.add("Sub", ["words_bytes", new.add("Mul", [upper, sixteen], "words/upper")], "words_first")


_NIBBLES: Final[dict[str, Callable[[_Rewriting], object]]] = {
    "words_bytes": _bytes,
    "words_first": lambda new: None,
    "words_second": _halves,
    "words_numbers": lambda new: new.add("Identity", ["words_nibbles"], "words_numbers"),
}
"""Of `quantise.word_lookup`'s nodes those that compute with bytes, and what takes their place."""
