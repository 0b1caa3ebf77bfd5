"""A BERT encoder as an int8 graph of few operators, built from its weights. Needs `onnx`; no torch.

At 20 tokens an operator costs as much in its start as in its arithmetic. Of the graph that `quantise` makes out of the
exporter's, matrix products take 40 % of the time; the rest goes into a thousand small operators. Here a layer has
about forty, attention is ONNX Runtime's own fused operator (domain `com.microsoft`), and every scale is a constant or a
token's own, so that texts of one length can share a run: the score of an article does not depend on the articles beside
it, bit by bit.

Activations are rounded twice to 8 bits, the second time what the first left over: as exact as 15 bits, for twice the
multiplications, which are cheap beside the small operators that any finer way with one rounding needs. What attention
gives is even enough for one rounding, after each token is divided by its largest entry.

Attention takes no mask: it cost a twentieth of the time of a text that runs alone, and texts of one length need none. A
run with padding gives logits that are no numbers, which nothing takes for a score.

Measured at 12 x 384 on two threads, texts of 24 tokens one by one, by three and by eight, in turns: 257, 347 and 405
texts/s. With products that widen rounded once, by token, after smoothing and without the channels that stand out: 239,
312 and 359; with a mask and attention's output rounded twice as well: 218, 308 and 332. One operator for skip and norm
together was slower than two.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from crosswind.errors import ModelError
from crosswind.export.calibration import Floats, Inputs, products
from crosswind.export.quantise import word_lookup
from crosswind.export.rounding import by_products, column_scales
from crosswind.export.weights import parameter, read_weights

MICROSOFT: Final = "com.microsoft"
OPSET: Final = 18
NAME: Final = "fused: 8 bits, rounded twice or scaled by token"
MARGIN: Final = 1.5
"""How far beyond the largest activation seen a live one may lie before it is clipped; it costs half a bit of 15."""
STEPS: Final = 127
ATTENTION: Final = ("query", "key", "value")
Weights = Mapping[str, Floats]


@dataclass(frozen=True)
class Shape:
    """What the weights do not say of themselves."""

    layers: int
    heads: int
    epsilon: float


@dataclass
class Graph:
    """The graph while it is built."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: Any) -> str:
        """Keeps a value under that name; one that is there stays. Gives the name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def integers(self, *values: int) -> str:
        """A constant of int64, for axes and shapes."""
        return self.constant(f"integers/{'_'.join(map(str, values))}", np.array(values, np.int64))

    def add(self, kind: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any) -> str:
        """A node at the end, called after its one output, which it gives."""
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, domain=domain, **attributes))
        return name


def fuse(fp32: Path, int8: Path, shape: Shape, inputs: Mapping[str, Inputs], heads: Mapping[str, int]) -> None:
    """Writes the int8 graph of an exporter's fp32 graph: same inputs and outputs.

    Args:
        inputs: of each product, see `calibrate`.

    Raises:
        ModelError: a weight is missing.
    """
    graph = onnx.load(str(fp32)).graph
    by_weight = {parameter(product.node.output[0]): inputs[product.node.input[0]] for product in products(graph)}
    model = build(read_weights(graph), shape, by_weight, heads)
    onnx.checker.check_model(model)
    onnx.save(model, str(int8))


def build(weights: Weights, shape: Shape, inputs: Mapping[str, Inputs], heads: Mapping[str, int]) -> onnx.ModelProto:
    """The graph: `input_ids` and `attention_mask` int64 [batch, length] to each head's logits and `embedding`.

    The mask must be all ones; where it is not, the row's logits and embedding are NaN.

    Args:
        weights: by the names of a BertModel's state, matrices [outputs, inputs]; `heads.<name>.weight` and `.bias`.
        inputs: what goes into the product of each matrix, by the matrix' name (see `calibrate`).
        heads: name -> number of labels.

    Raises:
        ModelError: a weight is missing.
    """
    graph = Graph()
    try:
        hidden = _embedding(graph, weights, shape)
        with threadpool_limits(1):
            for layer in range(shape.layers):
                hidden = _layer(graph, weights, shape, inputs, f"encoder.layer.{layer}", hidden)
        outputs = _pooled(graph, weights, hidden, heads)
    except KeyError as error:
        raise ModelError(f"the encoder has no weights {error}; only the layout of BERT is known here") from error
    dims = ["batch", "length"]
    given = [helper.make_tensor_value_info(name, TensorProto.INT64, dims) for name in ("input_ids", "attention_mask")]
    made = helper.make_graph(graph.nodes, "crosswind", given, outputs, list(graph.constants.values()))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def _embedding(graph: Graph, weights: Weights, shape: Shape) -> str:
    nodes, constants = word_lookup("words", "words", weights["embeddings.word_embeddings.weight"])
    graph.nodes.extend(nodes)
    graph.constants |= {tensor.name: tensor for tensor in constants}
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    table = graph.constant("embeddings.position_embeddings.weight", positions[None].astype(np.float32))
    size = graph.add("Shape", ["input_ids"], "positions/shape")
    length = graph.add("Slice", [size, graph.integers(1), graph.integers(2)], "positions/length")
    own = graph.add("Slice", [table, graph.integers(0), length, graph.integers(1)], "positions")
    summed = graph.add("Add", ["words", own], "embeddings/sum")
    return _norm(graph, weights, shape, "embeddings.LayerNorm", summed)


def _layer(graph: Graph, weights: Weights, shape: Shape, inputs: Mapping[str, Inputs], at: str, hidden: str) -> str:
    """One layer."""
    own = [f"{at}.attention.self.{part}" for part in ATTENTION]
    matrix, bias = (np.concatenate([weights[f"{name}.{kind}"] for name in own]) for kind in ("weight", "bias"))
    joint = _twice(graph, f"{at}/qkv", hidden, matrix, bias, inputs[f"{own[0]}.weight"])
    parts = [f"{at}/{part}" for part in ATTENTION]
    graph.nodes.append(helper.make_node("Split", [joint], parts, f"{at}/split", axis=-1, num_outputs=3))
    attended = graph.add("MultiHeadAttention", parts, f"{at}/attention", MICROSOFT, num_heads=shape.heads)

    def dense(name: str, source: str, rounded: Callable[..., str]) -> str:
        matrix, bias = (weights[f"{at}.{name}.{kind}"] for kind in ("weight", "bias"))
        return rounded(graph, f"{at}.{name}", source, matrix, bias, inputs[f"{at}.{name}.weight"])

    def normed(name: str, source: str, residual: str) -> str:
        summed = graph.add("Add", [source, residual], f"{at}.{name}/residual")
        return _norm(graph, weights, shape, f"{at}.{name}.LayerNorm", summed)

    mixed = dense("attention.output.dense", attended, _by_token)
    middle = normed("attention.output", mixed, hidden)
    wide = dense("intermediate.dense", middle, _twice)
    bent = graph.add("Gelu", [wide], f"{at}/gelu", MICROSOFT)
    return normed("output", dense("output.dense", bent, _twice), middle)


def _bias(graph: Graph, weights: Weights, name: str) -> str:
    return graph.constant(f"{name}.bias", weights[f"{name}.bias"])


def _norm(graph: Graph, weights: Weights, shape: Shape, name: str, source: str) -> str:
    constants = [graph.constant(f"{name}.{kind}", weights[f"{name}.{kind}"]) for kind in ("weight", "bias")]
    return graph.add("LayerNormalization", [source, *constants], name, axis=-1, epsilon=shape.epsilon)


def _by_token(graph: Graph, name: str, source: str, weights: Floats, bias: Floats, seen: Inputs) -> str:
    """`source` @ weights.T + bias, each token divided by its largest entry before it is rounded."""
    size = graph.add("Abs", [source], f"{name}/abs")
    token = graph.add("ReduceMax", [size, graph.integers(-1)], f"{name}/largest", keepdims=1)
    even = graph.add("Div", [source, token], f"{name}/even")
    scale = graph.constant("scale/one", np.float32(1 / STEPS))
    rounded = graph.add("QuantizeLinear", [even, scale, _middle(graph)], f"{name}/u8")
    product = _integers(graph, name, rounded, scale, weights, seen, "token")
    scaled = graph.add("Mul", [product, token], f"{name}/scaled")
    return graph.add("Add", [scaled, graph.constant(f"{name}.bias", bias)], f"{name}/sum")


def _twice(graph: Graph, name: str, source: str, weights: Floats, bias: Floats, seen: Inputs) -> str:
    """`source` @ weights.T + bias, the activations rounded twice by constant scales."""
    coarse = float(seen.largest.max()) * MARGIN / STEPS
    first = graph.constant(f"{name}/coarse", np.float32(coarse))
    second = graph.constant(f"{name}/fine", np.float32(coarse / (2 * STEPS)))
    middle = _middle(graph)
    high = graph.add("QuantizeLinear", [source, first, middle], f"{name}/high")
    back = graph.add("DequantizeLinear", [high, first, middle], f"{name}/back")
    rest = graph.add("Sub", [source, back], f"{name}/rest")
    low = graph.add("QuantizeLinear", [rest, second, middle], f"{name}/low")
    added = graph.constant(f"{name}.bias", bias)
    parts = [_integers(graph, name, high, first, weights, seen, "big", added),
             _integers(graph, name, low, second, weights, seen, "small")]  # fmt: skip
    return graph.add("Add", parts, f"{name}/sum")


def _integers(graph: Graph, name: str, source: str, scale: str, weights: Floats, seen: Inputs, part: str,
              bias: str = "") -> str:  # fmt: skip
    """uint8 `source` times the rounded weights.T, scaled back to float, plus a bias [outputs]."""
    if f"{name}/s8" not in graph.constants:
        matrix = np.ascontiguousarray(weights.T, np.float32)
        columns = column_scales(matrix, STEPS)
        graph.constant(f"{name}/columns", columns)
        graph.constant(f"{name}/s8", by_products(matrix, columns, STEPS, seen.moment))
    operands = [source, f"{name}/s8", scale, f"{name}/columns", _middle(graph),
                *(["", bias] if bias else [])]  # fmt: skip
    return graph.add("MatMulIntegerToFloat", operands, f"{name}/{part}", MICROSOFT)


def _middle(graph: Graph) -> str:
    return graph.constant("middle", np.uint8(STEPS + 1))


def _pooled(graph: Graph, weights: Weights, hidden: str, heads: Mapping[str, int]) -> list[onnx.ValueInfoProto]:
    """Mean over the tokens, then the heads; gives the graph's outputs.

    All shares of a row with padding are zero, so that its mean is 0 / 0.

    Sums go over the last axis, and by hand: over a middle axis, and in a product, one row takes another path through
    the library than many, which ends in other last bits.
    """
    mask = graph.add("Cast", ["attention_mask"], "pool/mask", to=TensorProto.FLOAT)
    whole = graph.add("ReduceMin", [mask, graph.integers(-1)], "pool/whole", keepdims=1)
    floats = graph.add("Mul", [mask, whole], "pool/floats")
    turned = graph.add("Transpose", [hidden], "pool/turned", perm=[0, 2, 1])
    weighed = graph.add("Mul", [turned, graph.add("Unsqueeze", [floats, graph.integers(1)], "pool/shares")],
                        "pool/weighed")  # fmt: skip
    total = graph.add("ReduceSum", [weighed, graph.integers(-1)], "pool/sum", keepdims=0)
    count = graph.add("ReduceSum", [floats, graph.integers(-1)], "pool/count", keepdims=1)
    graph.add("Div", [total, count], "embedding")
    wide = graph.add("Unsqueeze", ["embedding", graph.integers(1)], "heads/wide")
    outputs = []
    for name, labels in heads.items():
        matrix = graph.constant(f"heads.{name}.weight", weights[f"heads.{name}.weight"])
        each = graph.add("Mul", [wide, matrix], f"heads.{name}/each")
        summed = graph.add("ReduceSum", [each, graph.integers(-1)], f"heads.{name}/sum", keepdims=0)
        graph.add("Add", [summed, _bias(graph, weights, f"heads.{name}")], name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", labels]))
    width = weights["embeddings.LayerNorm.weight"].shape[0]
    return [*outputs, helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])]
