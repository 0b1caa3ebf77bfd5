"""Weights out of a graph again, by the names of the network they came from. Needs `onnx`; no torch.

Reads the fp32 graph of the exporter and both kinds of int8 graph (`quantise`, `fused`); what int8 rounded stays so.
"""

from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from crosswind.export.calibration import Floats
from crosswind.export.quantise import BLOCK

ENCODER: Final = "network.encoder."
WORDS: Final = "embeddings.word_embeddings.weight"
TYPES: Final = "embeddings.token_type_embeddings.weight"
Constants = dict[str, Any]


def parameter(output: str) -> str:
    """`/encoder/encoder/layer.0/output/dense/MatMul_output_0/…` to `encoder.layer.0.output.dense.weight`."""
    return output.split("/MatMul_output")[0].removeprefix("/encoder/").replace("/", ".") + ".weight"


def read_weights(graph: onnx.GraphProto) -> dict[str, Floats]:
    """Name -> weights, matrices [outputs, inputs] as PyTorch keeps them; heads as `heads.<name>.weight`."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # The exporter keeps equal tensors once, and lets the others be copies of it.
    copies = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    constants |= {name: constants[origin] for name, origin in copies.items() if origin in constants}
    found = {name.removeprefix(ENCODER).removeprefix("network."): np.array(value, np.float32)
             for name, value in constants.items() if name.endswith((".weight", ".bias"))}  # fmt: skip
    for words in ("words", f"{ENCODER}{WORDS}"):
        if f"{words}_packed" in constants:
            found[WORDS] = _unpacked(constants[f"{words}_packed"], constants[f"{words}_scales"])
        elif f"{words}_rows" in constants:
            found[WORDS] = constants[f"{words}_rows"] * constants[f"{words}_scales"]
    if "words_scales" in constants:  # a built graph adds the first type's row to the positions
        found[TYPES] = np.zeros((2, found[WORDS].shape[1]), np.float32)
    for node in graph.node:
        weights = node.input[1] if len(node.input) > 1 else ""
        if node.op_type == "MatMulInteger":
            found[parameter(node.output[0])] = _surgical(constants, node.input[0], weights.removesuffix("/s8")).T
        elif node.op_type == "MatMul" and weights in constants and not weights.endswith("/apart"):
            found[parameter(node.output[0])] = constants[weights].T.astype(np.float32)
    for name in [n.removesuffix("/s8") for n in constants if n.endswith("/s8") and not n.startswith("onnx::")]:
        found |= weights_of(constants, name)
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def _surgical(constants: Constants, source: str, name: str) -> Floats:
    """A product of `quantise`, [inputs, outputs]: its constants are named by its input."""
    smooth = source.rsplit("/", 1)[0]
    channels = f"{smooth.removesuffix('/smooth')}/apart_channels"
    return _product(constants, name, f"{name}/scales", f"{smooth}_by", channels)


def weights_of(constants: Constants, name: str) -> dict[str, Floats]:
    """Of a product of `fused`, by the names of the network: its matrix [outputs, inputs]. Query, key and value are one
    product: three matrices and three biases.
    """
    matrix = _product(constants, name, f"{name}/columns", f"{name}/by", f"{name}/channels").T
    if not name.endswith("/qkv"):
        return {f"{name}.weight": matrix}
    own = [name.replace("/qkv", f".attention.self.{part}") for part in ("query", "key", "value")]
    weights = dict(zip((f"{n}.weight" for n in own), np.split(matrix, 3), strict=True))
    return weights | dict(zip((f"{n}.bias" for n in own), np.split(constants[f"{name}.bias"], 3), strict=True))


def _product(constants: Constants, name: str, columns: str, by: str, channels: str) -> Floats:
    """The float matrix [inputs, outputs]: steps, over the channels' factors, and the part that stayed apart."""
    matrix: Floats = constants[f"{name}/s8"].astype(np.float32) * constants[columns]
    if by in constants:
        matrix = matrix * constants[by][:, None]
    if channels in constants:
        matrix[constants[channels]] = constants[f"{name}/apart"]
    return matrix


def _unpacked(packed: Any, scales: Any) -> Floats:
    """Rows of `quantise.pack` back to float32 [rows, width]."""
    numbers = np.concatenate([packed & 15, packed >> 4], 1).astype(np.float32) - 8
    blocks: Floats = numbers.reshape(len(packed), -1, BLOCK) * scales.astype(np.float32)[..., None]
    return blocks.reshape(len(packed), -1)
