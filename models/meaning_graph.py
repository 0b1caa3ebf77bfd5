"""The output `meaning` inside a bundle's graph: weighed means over the tokens of some layers, times a matrix."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from crosswind.errors import ModelError
from crosswind.export.running import open_graph

OUTPUT = "meaning"
TABLE = f"{OUTPUT}/rarity"
"""Name of the constant in the graph that says how much each token weighs."""
Floats = NDArray[np.float64]


def layers_of(model: onnx.ModelProto) -> list[str]:
    """Names of the outputs of the embedding block and of each layer, lowest first.

    Raises:
        ModelError: it is no encoder with two normalisations per layer, like BERT, RoBERTa and XLM-R.
    """
    norms = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    if len(norms) < 3 or len(norms) % 2 == 0:
        raise ModelError(f"{len(norms)} layer normalisations found; a BERT-like encoder has one and two per layer")
    return norms[::2]


def add_pool(model: onnx.ModelProto, source: str, output: str) -> None:
    """Adds a node that is the mean of `source` [batch, length, width] over the tokens, weighed by the constant `TABLE`.

    Tokens outside of `attention_mask` weigh nothing. As in `fused.py`, sums go over the last axis: over a middle one,
    and in a product of matrices, one row takes another path through the library than many, which ends in other last
    bits, and a text would mean something else beside others than alone.
    """
    graph = model.graph
    axes = {"middle": 1, "last": -1}
    graph.initializer.extend(
        numpy_helper.from_array(np.array([axis], np.int64), f"{output}/{name}") for name, axis in axes.items()
    )
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Cast", ["attention_mask"], "mask", {"to": TensorProto.FLOAT}),
        ("Gather", [TABLE, "input_ids"], "rarity_half", {}),
        ("Cast", [f"{output}/rarity_half"], "rarity", {"to": TensorProto.FLOAT}),
        ("Mul", [f"{output}/mask", f"{output}/rarity"], "weights", {}),
        ("Unsqueeze", [f"{output}/weights", f"{output}/middle"], "wide", {}),
        ("Transpose", [source], "turned", {"perm": [0, 2, 1]}),
        ("Mul", [f"{output}/turned", f"{output}/wide"], "weighed", {}),
        ("ReduceSum", [f"{output}/weighed", f"{output}/last"], "sum", {"keepdims": 0}),
        ("ReduceSum", [f"{output}/weights", f"{output}/last"], "count", {"keepdims": 1}),
        ("Div", [f"{output}/sum", f"{output}/count"], "mean", {}),
    )
    graph.node.extend(
        helper.make_node(kind, inputs, [f"{output}/{name}"], f"{output}/{name}", **more)
        for kind, inputs, name, more in steps
    )


def fold_in(
    model: onnx.ModelProto, layers: Sequence[int], weights: NDArray[np.float16], matrix: Floats, offset: Floats
) -> None:
    """Adds the output `meaning`, float32 [batch, DIMENSIONS], in place; one that is there is replaced.

    Args:
        weights: of the tokens; see `rarity`.
        matrix, offset: [width of all layers, dimensions] and [dimensions]; `meaning` is means @ matrix + offset.
    """
    remove(model)
    graph, names = model.graph, layers_of(model)
    pools = [f"{OUTPUT}/{layer}" for layer in layers]
    graph.initializer.append(numpy_helper.from_array(weights, TABLE))
    for layer, pool in zip(layers, pools, strict=True):
        add_pool(model, names[layer], pool)
    # Half the bytes in the file; the runtime turns it into float32 once, when it loads.
    graph.initializer.append(numpy_helper.from_array(matrix.T.astype(np.float16), f"{OUTPUT}/half"))
    graph.initializer.append(numpy_helper.from_array(offset.astype(np.float32), f"{OUTPUT}/offset"))
    steps: tuple[tuple[str, list[str], str, dict[str, Any]], ...] = (
        ("Concat", [f"{pool}/mean" for pool in pools], f"{OUTPUT}/means", {"axis": 1}),
        ("Unsqueeze", [f"{OUTPUT}/means", f"{pools[0]}/middle"], f"{OUTPUT}/wide", {}),
        ("Cast", [f"{OUTPUT}/half"], f"{OUTPUT}/matrix", {"to": TensorProto.FLOAT}),
        ("Mul", [f"{OUTPUT}/wide", f"{OUTPUT}/matrix"], f"{OUTPUT}/each", {}),
        ("ReduceSum", [f"{OUTPUT}/each", f"{pools[0]}/last"], f"{OUTPUT}/product", {"keepdims": 0}),
        ("Add", [f"{OUTPUT}/product", f"{OUTPUT}/offset"], OUTPUT, {}),
    )
    graph.node.extend(helper.make_node(kind, inputs, [name], name, **more) for kind, inputs, name, more in steps)
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", matrix.shape[1]]))


def remove(model: onnx.ModelProto) -> None:
    """Takes the output `meaning` and its nodes out, in place."""
    graph = model.graph
    kept = [node for node in graph.node if not node.output[0].startswith(f"{OUTPUT}/") and node.output[0] != OUTPUT]
    constants = [tensor for tensor in graph.initializer if not tensor.name.startswith(f"{OUTPUT}/")]
    outputs = [output for output in graph.output if output.name != OUTPUT]
    for field, values in ((graph.node, kept), (graph.initializer, constants), (graph.output, outputs)):
        del field[:]
        field.extend(values)


def features(
    model: onnx.ModelProto, layers: Sequence[int], weights: NDArray[np.float16], ids: Sequence[Sequence[int]],
    work: Path, told: Callable[[int], None] = lambda done: None, threads: int = 2,
) -> dict[int, Floats]:  # fmt: skip
    """Layer -> float64 [texts, width]: means over the tokens, weighed, one text per run, as serving does.

    The rest of the graph is left out, so the layers above cost nothing.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    remove(cut)
    names = layers_of(cut)
    cut.graph.initializer.append(numpy_helper.from_array(weights, TABLE))
    del cut.graph.output[:]
    for layer in layers:
        add_pool(cut, names[layer], f"pool_{layer}")
        cut.graph.output.append(helper.make_tensor_value_info(f"pool_{layer}/mean", TensorProto.FLOAT, None))
    onnx.save(cut, str(work))
    session = open_graph(work)
    wanted = [f"pool_{layer}/mean" for layer in layers]

    def run(text: Sequence[int]) -> list[Any]:
        feed = {"input_ids": np.array([text], np.int64), "attention_mask": np.ones((1, len(text)), np.int64)}
        return session.run(wanted, feed)  # type: ignore[no-any-return]

    rows = []
    with ThreadPoolExecutor(threads) as pool:  # one thread per text: two within a text would wait for each other
        for done, row in enumerate(pool.map(run, ids)):
            rows.append(row)
            told(done + 1)
    return {layer: np.asarray([row[n][0] for row in rows], np.float64) for n, layer in enumerate(layers)}
