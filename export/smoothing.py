"""Makes a graph fit for int8: the same function, with activations that one scale can hold.

Dynamic int8 has one scale for all activations of a matrix product. In encoders of the BERT family a handful of
channels are ten times larger than the rest (multilingual-e5, 12 × 384: 58 against 4.8 in one feed-forward layer), and
everything else is rounded to a few steps: logits moved by 0.15 on average, labels changed in 10 % of texts. So

1. the largest channels of each input are multiplied apart, in fp32 (LLM.int8, Dettmers et al. 2022, with fixed
   channels), and are zero in the rest;
2. the rest is divided by a factor per channel, and the weights' rows multiplied by it (SmoothQuant, Xiao et al. 2023).

With both, logits moved by 0.03. Torch-free; works in place on an ONNX model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from crosswind.export.calibration import Floats, Inputs, Product, products

APART = "/apart"
"""Ends the name of a product that stays in fp32."""

STRENGTH = 0.5
"""SmoothQuant's alpha: 0 moves nothing from activations to weights, 1 everything."""


@dataclass(frozen=True)
class _Plan:
    """What happens to one input: its factors per channel, and the channels that go apart."""

    name: str
    factors: Floats
    out: NDArray[np.intp]

    @property
    def scaled(self) -> str:
        return f"{self.name}/smooth"

    @property
    def taken(self) -> str:
        return f"{self.name}{APART}"

    @property
    def inverse(self) -> Floats:
        inverse: Floats = (1 / self.factors).astype(np.float32)
        inverse[self.out] = 0
        return inverse


def smooth(model: onnx.ModelProto, inputs: dict[str, Inputs], apart: int) -> dict[str, Inputs]:
    """Rewrites every product of a graph, in place; the function stays the same up to rounding.

    Args:
        inputs: of each product, see `calibrate`.
        apart: channels per input that stay in fp32.

    Returns:
        The inputs of the products that are left for int8.
    """
    graph = model.graph
    by_input: dict[str, list[Product]] = {}
    for product in products(graph):
        by_input.setdefault(product.node.input[0], []).append(product)
    after: dict[str, Inputs] = {}
    early: dict[str, list[onnx.NodeProto]] = {}
    late: dict[str, list[onnx.NodeProto]] = {}
    for name, group in by_input.items():
        plan = _plan(name, inputs[name].largest, [numpy_helper.to_array(p.weights) for p in group], apart)
        after[plan.scaled] = inputs[name].scaled(plan.inverse)
        early[group[0].node.name] = _prepare(graph, plan)
        for product in group:
            late[product.node.name] = _split(graph, product, plan)
    _insert(graph, early, late)
    return after


def _plan(name: str, largest: Floats, weights: Sequence[Floats], apart: int) -> _Plan:
    return _Plan(name, *factors(largest, np.maximum.reduce([np.abs(matrix).max(1) for matrix in weights]), apart))


def factors(largest: Floats, heaviest: Floats, apart: int) -> tuple[Floats, NDArray[np.intp]]:
    """SmoothQuant's factors per channel, their geometric mean over the channels that stay being 1, and those that go.

    Args:
        largest: activation of each channel, [channels].
        heaviest: weight of each channel, [channels].
        apart: channels that go apart, the largest.
    """
    out = np.sort(np.argsort(-largest, kind="stable")[:apart])
    raw = np.maximum(largest, 1e-5) ** STRENGTH / np.maximum(heaviest, 1e-5) ** (1 - STRENGTH)
    stay = np.setdiff1d(np.arange(len(raw)), out)
    return (raw / np.exp(np.log(raw[stay]).mean())).astype(np.float32), out


def _prepare(graph: onnx.GraphProto, plan: _Plan) -> list[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(plan.inverse, f"{plan.scaled}_by"))
    nodes = [helper.make_node("Mul", [plan.name, f"{plan.scaled}_by"], [plan.scaled], plan.scaled)]
    if len(plan.out):
        channels = f"{plan.taken}_channels"
        graph.initializer.append(numpy_helper.from_array(plan.out.astype(np.int64), channels))
        nodes.append(helper.make_node("Gather", [plan.name, channels], [plan.taken], f"{plan.taken}/gather", axis=-1))
    return nodes


def _split(graph: onnx.GraphProto, product: Product, plan: _Plan) -> list[onnx.NodeProto]:
    """Int8's share stays in the product's place; gives fp32's share, and their sum under the product's old name."""
    before = numpy_helper.to_array(product.weights)
    rest = (before * plan.factors[:, None]).astype(np.float32)
    rest[plan.out] = 0
    node, name, output = product.node, product.node.input[1], product.node.output[0]
    product.weights.CopyFrom(numpy_helper.from_array(rest, name))
    node.input[0] = plan.scaled
    if not len(plan.out):
        return []
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(before[plan.out]), f"{name}{APART}"))
    node.output[0] = f"{output}/rest"
    return [
        helper.make_node("MatMul", [plan.taken, f"{name}{APART}"], [f"{output}{APART}"], f"{node.name}{APART}"),
        helper.make_node("Add", [f"{output}/rest", f"{output}{APART}"], [output], f"{node.name}/sum"),
    ]


def _insert(
    graph: onnx.GraphProto, early: dict[str, list[onnx.NodeProto]], late: dict[str, list[onnx.NodeProto]]
) -> None:
    """Puts nodes before and after those of these names: a graph's nodes are stored in the order of running."""
    nodes = [new for node in graph.node for new in (*early.get(node.name, ()), node, *late.get(node.name, ()))]
    del graph.node[:]
    graph.node.extend(nodes)
