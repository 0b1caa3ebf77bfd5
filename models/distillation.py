"""Knowledge distillation (Hinton et al. 2015): a student of fewer layers learns a teacher's judgement of every row.

The student starts as the teacher with some of its layers left out. Rows without a label for a head teach it as well.
Beside the answers it learns the teacher's pooled vector (as DistilBERT does; Sanh et al. 2019), which says more of a
text than eighteen logits, and the vector of a sentence's English half from its translations (Reimers and Gurevych
2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crosswind.errors import ModelError
from crosswind.models.dataset import encode
from crosswind.models.encoder import keep_layers, layers_of
from crosswind.models.network import Manifest, Network, Task, load_model
from crosswind.models.tokens import Plan, Tokens, judge

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Judgement:
    """What a teacher makes of texts: logits, float32 [texts, labels] per task, and pooled vectors [texts, width]."""

    logits: dict[str, Tensor]
    vectors: Tensor

    def of(self, chosen: Sequence[int], device: str) -> "Judgement":
        """That of some of the texts."""
        picked = list(chosen)
        return Judgement({name: v[picked].to(device) for name, v in self.logits.items()},
                         self.vectors[picked].to(device))  # fmt: skip


@dataclass(frozen=True)
class Teacher:
    """A trained model and how it teaches.

    Attributes:
        temperature: softens both sides' probabilities, so that the wrong answers' order is learned too.
        weight: of its answers' loss beside the labels'.
        vector_weight: of its vectors' loss; that of a student of another width is 0.
    """

    name: str
    network: Network
    tokenizer: "PreTrainedTokenizerFast"
    manifest: Manifest
    temperature: float = 2.0
    weight: float = 1.0
    vector_weight: float = 4.0

    def judge(self, texts: Sequence[str], plan: Plan, title: str) -> Judgement:
        """Its answers, on the device and in the arithmetic of the plan; shows a progress bar."""
        whole = replace(plan, freeze=0)
        ids = encode(self.tokenizer, [self.manifest.prefix + text for text in texts], self.manifest.max_tokens)
        network = self.network.to(plan.device)
        logits, vectors = judge(network, Tokens(ids, network, whole, ""), whole, title=title)
        return Judgement({name: torch.from_numpy(v) for name, v in logits.items()}, torch.from_numpy(vectors))


def open_teacher(folder: Path, tasks: Sequence[Task]) -> Teacher:
    """A MODEL_DIR as a teacher.

    Raises:
        ModelError: it is none, or its heads are not the student's.
    """
    network, tokenizer, manifest = load_model(folder)
    has = {task.name: task.labels for task in manifest.tasks}
    for task in tasks:
        if has.get(task.name) != task.labels:
            raise ModelError(f"--teacher {folder}: its head {task.name!r} has the labels {has.get(task.name)}; the "
                             f"student's are {task.labels}")  # fmt: skip
    return Teacher(folder.resolve().name, network, tokenizer, manifest)


def distillation_loss(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], weights: Tensor, temperature: float
) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened answers, summed over the heads.

    Args:
        given: the student's logits, [batch, labels] per task.
        wanted: the teacher's.
        weights: float [batch], each row's weight.

    Returns:
        A scalar; times the temperature squared, so that its gradient keeps its size beside the labels'.
    """
    total = torch.zeros((), dtype=torch.float32, device=weights.device)
    for name, logits in wanted.items():
        student = (given[name].float() / temperature).log_softmax(-1)
        teacher = (logits.float() / temperature).log_softmax(-1)
        rows = torch.nn.functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
        total = total + (rows * weights).sum() / len(weights)
    return total * temperature**2


def vector_loss(given: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """One minus the cosine of pooled vectors [batch, width], weighted by row; 0 where the widths differ."""
    if given.shape != wanted.shape:
        return torch.zeros((), dtype=torch.float32, device=weights.device)
    away = 1 - torch.nn.functional.cosine_similarity(given.float(), wanted.float())
    return (away * weights).sum() / len(weights)


def spread(have: int, keep: int) -> list[int]:
    """Which layers a student keeps: evenly spread, the first and the last among them (as DistilBERT did).

    >>> spread(12, 6)
    [0, 2, 4, 7, 9, 11]

    Raises:
        ModelError: there are fewer.
    """
    if not 1 <= keep <= have:
        raise ModelError(f"--layers {keep}: the encoder has {have}")
    return [have - 1] if keep == 1 else [round(i * (have - 1) / (keep - 1)) for i in range(keep)]


def shorten(network: Network, keep: int) -> None:
    """Leaves so many layers of a network's encoder, in place."""
    keep_layers(network.encoder, spread(len(layers_of(network.encoder)), keep))
