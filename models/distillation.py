"""Knowledge distillation (Hinton et al. 2015): a student of fewer layers learns a teacher's judgement of every row.

The student starts as the teacher with some of its layers left out. Rows without a label for a head teach it as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from crosswind.errors import ModelError
from crosswind.models.encoder import keep_layers, layers_of
from crosswind.models.evaluation import Classifier, classifier
from crosswind.models.network import Network, Task, read_manifest


@dataclass(frozen=True)
class Teacher:
    """A trained model and how it teaches.

    Attributes:
        temperature: softens both sides' probabilities, so that the wrong answers' order is learned too.
        weight: of its loss beside the labels'.
    """

    name: str
    classify: Classifier
    temperature: float = 2.0
    weight: float = 1.0

    def judge(self, texts: Sequence[str], tasks: Sequence[Task]) -> dict[str, Tensor]:
        """Its logits, float32 [texts, labels] per task."""
        found = self.classify(texts) if texts else {}
        return {task.name: torch.from_numpy(found[task.name]) for task in tasks if texts}


def open_teacher(folder: Path, tasks: Sequence[Task]) -> Teacher:
    """A MODEL_DIR as a teacher.

    Raises:
        ModelError: it is none, or its heads are not the student's.
    """
    manifest = read_manifest(folder)
    has = {task.name: task.labels for task in manifest.tasks}
    for task in tasks:
        if has.get(task.name) != task.labels:
            raise ModelError(f"--teacher {folder}: its head {task.name!r} has the labels {has.get(task.name)}; the "
                             f"student's are {task.labels}")  # fmt: skip
    return Teacher(folder.resolve().name, classifier(folder, title="the teacher judges"))


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
