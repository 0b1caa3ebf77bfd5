"""The mean of models that were trained from one base: often better than each, and easier to round to int8.

Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing
inference time, ICML 2022. What two models share bit by bit, such as word embeddings that stood still, stays as it is.
Two cuts of one vocabulary may differ then, and the mean has that of the first.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crosswind.errors import ModelError
from crosswind.models import calibration, evaluation
from crosswind.models.metrics import macro_f1
from crosswind.models.network import Manifest, Network, Task, load_model, read_manifest, save_model
from crosswind.models.rows import Row


def average(folders: Sequence[Path], out: Path, validation: Sequence[Row]) -> Manifest:
    """Write the MODEL_DIR with the mean weights of others, calibrated on `validation`.

    Raises:
        ModelError: fewer than two were given, one cannot be read, they are not of one shape and heads, or of two
            vocabularies whose word embeddings have moved.
    """
    if len(folders) < 2:
        raise ModelError("an average needs two MODEL_DIRs at least")
    network, tokenizer, manifest = load_model(folders[0])
    others = [load_model(folder) for folder in folders[1:]]
    for folder, (other, theirs, said) in zip(folders[1:], others, strict=True):
        if said.tasks != manifest.tasks or _shapes(other) != _shapes(network):
            raise ModelError(f"{folder}: not of the same layers and heads as {folders[0]}; average models that were "
                             "trained from one base")  # fmt: skip
        if theirs.get_vocab() != tokenizer.get_vocab():
            _take_vocabulary(other, theirs.get_vocab(), network, tokenizer.get_vocab(), folder)
    _to_mean(network, [other for other, _, _ in others])
    kept = Manifest(
        manifest.base, manifest.tasks, manifest.max_tokens, manifest.prefix, manifest.pooling,
        languages=sorted(set(manifest.languages).union(*(said.languages for _, _, said in others))),
        data=_all_data([manifest, *(said for _, _, said in others)]),
        command="crosswind average " + " ".join(folder.name for folder in folders),
    )  # fmt: skip
    save_model(out, network, tokenizer, kept)
    return calibration.calibrate(out, validation, evaluation.classifier(out))


def _shapes(network: Network) -> dict[str, torch.Size]:
    """The shapes of all that does not depend on the vocabulary."""
    pieces = _pieces(network)
    return {name: tensor.shape for name, tensor in network.state_dict(keep_vars=True).items() if tensor is not pieces}


def held_out_scores(folder: Path, rows: Sequence[Row]) -> dict[str, float]:
    """Task -> the mean over languages of macro-F1 on `rows`, by which a training chooses its best epoch, too.

    Raises:
        ModelError: the folder is not a MODEL_DIR.
    """
    logits = evaluation.classifier(folder, title=folder.name)([row.text for row in rows])
    return {task.name: _mean_over_languages(task, logits[task.name].argmax(1), rows)
            for task in read_manifest(folder).tasks if any(row.label(task.name) for row in rows)}  # fmt: skip


def _mean_over_languages(task: Task, answers: NDArray[np.int64], rows: Sequence[Row]) -> float:
    found: dict[str, tuple[list[int], list[int]]] = {}
    for row, answer in zip(rows, answers, strict=True):
        if row.label(task.name) is not None:
            truth, given = found.setdefault(row.lang, ([], []))
            truth.append(task.labels.index(str(row.label(task.name))))
            given.append(int(answer))
    return float(np.mean([macro_f1(truth, given) for truth, given in found.values()]))


def _pieces(network: Network) -> torch.Tensor:
    """The word embeddings, [pieces, width]."""
    weight = network.encoder.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _take_vocabulary(
    other: Network, theirs: Mapping[str, int], network: Network, ours: Mapping[str, int], folder: Path
) -> None:
    """Gives `other` the word embeddings of `network`, which must say the same of every piece that both know."""
    shared = sorted(ours.keys() & theirs.keys())
    ids = [torch.tensor([vocabulary[piece] for piece in shared], dtype=torch.long) for vocabulary in (ours, theirs)]
    mine, its = _pieces(network), _pieces(other)
    if not shared or not torch.equal(mine[ids[0]], its[ids[1]]):
        raise ModelError(f"{folder}: its vocabulary is another one, and its word embeddings have moved; average it "
                         "with models that have the same vocabulary")  # fmt: skip
    other.encoder.set_input_embeddings(network.encoder.get_input_embeddings())


@torch.no_grad()
def _to_mean(network: Network, others: Sequence[Network]) -> None:
    states = [other.state_dict() for other in others]
    for name, tensor in network.state_dict().items():
        theirs = [state[name] for state in states]
        if tensor.is_floating_point() and not all(torch.equal(tensor, one) for one in theirs):
            tensor.copy_(torch.stack([tensor.double(), *(one.double() for one in theirs)]).mean(0))


def _all_data(manifests: Sequence[Manifest]) -> list[dict[str, object]]:
    """Every source that shaped one of them, once; of a source with several numbers of rows the largest."""
    found: dict[str, dict[str, object]] = {}
    for manifest in manifests:
        for entry in manifest.data:
            known = found.setdefault(entry["name"], dict(entry))
            if "rows" in known and entry.get("rows", 0) > known["rows"]:
                known["rows"] = entry["rows"]
    return list(found.values())
