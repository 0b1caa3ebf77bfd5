"""What a teacher has to say of a run's rows and parallel pairs, and the student's distance from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from crosswind.models.distillation import Judgement, Teacher, distillation_loss, spread, vector_loss
from crosswind.models.encoder import layers_of
from crosswind.models.network import Network
from crosswind.models.tokens import Plan

SHRINK = 0.1
"""Share of the mean variance added to each direction's, so that those which carry noise only do not count in full."""


def same_way(student: int, teacher: int, frozen: int) -> dict[int, int]:
    """The student's inner depths that learn -> the teacher's where the layer lay that comes next in the student.

    So a layer that was kept (see `spread`) is given what it was given in the teacher.

    >>> same_way(6, 12, 0)
    {1: 2, 2: 4, 3: 7, 4: 9, 5: 11}
    >>> same_way(7, 12, 3)
    {4: 6, 5: 8, 6: 11}
    """
    if student > teacher:  # a student of other descent: at the same share of the way
        return {depth: round(depth * teacher / student) for depth in range(frozen + 1, student)}
    kept = spread(teacher, student, frozen)
    return {depth: kept[depth] for depth in range(frozen + 1, student)}


@dataclass(frozen=True)
class Scale:
    """Vectors of one depth with the same variance in every direction: (vector - mean [width]) @ matrix [width, width].

    Pooled vectors of all texts point nearly one way, and what tells two texts apart lies in directions of little
    variance: a plain cosine would hardly see it.
    """

    mean: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> "Scale":
        """That of vectors [texts, width]."""
        rows = vectors.double()
        mean = rows.mean(0)
        values, directions = torch.linalg.eigh(torch.cov(rows.T, correction=0))
        return cls(mean.float(), (directions / (values + SHRINK * values.mean()).sqrt()).float())

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors [batch, width] on this scale."""
        return (vectors.float() - self.mean) @ self.matrix

    def to(self, device: str) -> "Scale":
        """The same on a device."""
        return Scale(self.mean.to(device), self.matrix.to(device))


class Lessons:
    """A teacher's judgement of some rows and of the English half of some pairs, made once, before the first step.

    Args:
        rows: the texts of the run.
        seen: which of them any epoch takes; the others are not judged.
        english: the English halves.
    """

    def __init__(self, teacher: Teacher, student: Network, plan: Plan, rows: Sequence[str], seen: Sequence[int],
                 english: Sequence[str]) -> None:  # fmt: skip
        self._teacher, self._device = teacher, plan.device
        self.same_width = bool(teacher.network.encoder.config.hidden_size == student.encoder.config.hidden_size)
        has, taught_by = (len(layers_of(network.encoder)) for network in (student, teacher.network))
        self._depths = same_way(has, taught_by, plan.freeze) if self.same_width and teacher.depth_weight else {}
        wanted = sorted(set(self._depths.values()))
        some = teacher.judge([rows[i] for i in seen], plan, "the teacher judges", wanted)
        self._scales = {depth: Scale.of(some.vectors[depth]).to(plan.device) for depth in wanted}
        self.rows = some.spread_over(seen, len(rows))
        # Vectors of another width are nothing to be pulled to; the trainer then takes the student's own.
        apart = not english or not self.same_width
        self.english = None if apart else teacher.judge(english, plan, "and parallel text", wanted)

    @property
    def depths(self) -> Sequence[int]:
        """The student's inner depths whose pooled vectors `loss` and `distance` ask for."""
        return list(self._depths)

    def loss(
        self, logits: Mapping[str, Tensor], pools: Mapping[int, Tensor], chosen: Sequence[int], weights: Tensor
    ) -> Tensor:
        """How far the student is from the teacher on some of the rows.

        Args:
            logits: the student's, [batch, labels] per task.
            pools: its pooled vectors [batch, width] per depth; see `Network.pools_from`.
            chosen: which rows they are of.
            weights: float [batch], each row's weight.
        """
        teacher, wanted = self._teacher, self.rows.of(chosen, self._device)
        answers = distillation_loss(logits, wanted.logits, weights, teacher.temperature)
        whole = teacher.vector_weight * vector_loss(pools[max(pools)], wanted.pooled, weights)
        return teacher.weight * answers + whole + self.distance(pools, wanted, weights)

    def distance(self, pools: Mapping[int, Tensor], wanted: Judgement, weights: Tensor) -> Tensor:
        """That of the inner layers' vectors: one minus their cosine to the teacher's, summed over the depths."""
        total = torch.zeros((), dtype=torch.float32, device=weights.device)
        for mine, theirs in self._depths.items():
            scale = self._scales[theirs]
            away = 1 - cosine_similarity(scale(pools[mine]), scale(wanted.vectors[theirs]))
            total = total + (away * weights).sum() / len(weights)
        return self._teacher.depth_weight * total
