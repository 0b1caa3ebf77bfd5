"""Knowledge distillation (Hinton et al. 2015): a student of fewer layers learns a teacher's judgement of every row.

The student starts as the teacher with some of its layers left out. Rows without a label for a head teach it as well.
Beside the answers it learns the teacher's pooled vector (as DistilBERT does; Sanh et al. 2019), which says more of a
text than eighteen logits, and the vector of a sentence's English half from its translations (Reimers and Gurevych
2020). Each inner layer learns the pooled vector that the next layer which was kept was given in the teacher (after
TinyBERT; Jiao et al. 2020): the inner layers are what stories are told apart by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """What a teacher makes of texts.

    Attributes:
        logits: float32 [texts, labels] per task.
        vectors: float16 [texts, width], pooled, per depth: after so many of its layers.
    """

    logits: dict[str, Tensor]
    vectors: dict[int, Tensor]

    @property
    def pooled(self) -> Tensor:
        """The vectors after all layers."""
        return self.vectors[max(self.vectors)]

    def of(self, chosen: Sequence[int], device: str) -> "Judgement":
        """That of some of the texts."""
        picked = list(chosen)
        return Judgement({name: v[picked].to(device) for name, v in self.logits.items()},
                         {depth: v[picked].to(device) for depth, v in self.vectors.items()})  # fmt: skip

    def spread_over(self, places: Sequence[int], size: int) -> "Judgement":
        """Each text put at its place among so many, zeros elsewhere."""
        return Judgement({name: _at(v, places, size) for name, v in self.logits.items()},
                         {depth: _at(v, places, size) for depth, v in self.vectors.items()})  # fmt: skip


def _at(values: Tensor, places: Sequence[int], size: int) -> Tensor:
    whole = values.new_zeros((size, *values.shape[1:]))
    whole[list(places)] = values
    return whole


@dataclass(frozen=True)
class Teacher:
    """A trained model and how it teaches.

    Attributes:
        temperature: softens both sides' probabilities, so that the wrong answers' order is learned too.
        weight: of its answers' loss beside the labels'.
        vector_weight: of its vectors' loss; that of a student of another width is 0.
        depth_weight: of the loss of each inner layer's vectors; likewise.
    """

    name: str
    network: Network
    tokenizer: "PreTrainedTokenizerFast"
    manifest: Manifest
    temperature: float = 2.0
    weight: float = 1.0
    vector_weight: float = 4.0
    depth_weight: float = 1.0

    def settings(self) -> list[Any]:
        """What a checkpoint must agree on."""
        return [self.name, self.temperature, self.weight, self.vector_weight, self.depth_weight]

    def judge(self, texts: Sequence[str], plan: Plan, title: str, depths: Sequence[int] = ()) -> Judgement:
        """Its answers, on the device and in the arithmetic of the plan; shows a progress bar.

        Args:
            depths: after how many of its layers vectors are asked for, beside those after all.
        """
        whole = replace(plan, freeze=0)
        ids = encode(self.tokenizer, [self.manifest.prefix + text for text in texts], self.manifest.max_tokens)
        network = self.network.to(plan.device)
        logits, vectors = judge(network, Tokens(ids, network, whole, ""), whole, title=title, depths=depths)
        return Judgement({name: torch.from_numpy(v) for name, v in logits.items()},
                         {depth: torch.from_numpy(v) for depth, v in vectors.items()})  # fmt: skip


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


def spread(have: int, keep: int, still: int = 0) -> list[int]:
    """Which layers a student keeps: evenly spread, the first and the last among them (as DistilBERT did).

    Args:
        still: lowest layers that do not learn: they are kept, whole, and the others spread over those above.

    >>> spread(12, 6)
    [0, 2, 4, 7, 9, 11]
    >>> spread(12, 7, still=3)
    [0, 1, 2, 3, 6, 8, 11]

    Raises:
        ModelError: there are fewer.
    """
    if not 1 <= keep <= have:
        raise ModelError(f"--layers {keep}: the encoder has {have}")
    if keep == have:
        return list(range(have))
    still = min(still, keep - 1)
    above, free = have - still, keep - still
    upper = [above - 1] if free == 1 else [round(i * (above - 1) / (free - 1)) for i in range(free)]
    return [*range(still), *(still + layer for layer in upper)]


def shorten(network: Network, keep: int, still: int = 0) -> None:
    """Leaves so many layers of a network's encoder, in place; see `spread`."""
    keep_layers(network.encoder, spread(len(layers_of(network.encoder)), keep, still))
