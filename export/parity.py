"""Compares two runs of one model on the same texts, language by language, and judges the difference. Pure numpy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from crosswind.export.bundle import Head
from crosswind.models.metrics import f1_from, softmax
from crosswind.models.rows import Row

ALL = "*"
"""The key of the comparison over all languages."""

FP32_LIMIT = 1e-4
AGREEMENT = 0.99
F1_DROP = 0.005
LEVEL = 0.01
"""A language fails only where chance alone would explain its figure in fewer than one export in a hundred."""
ROUNDS = 2000

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One head in one language (or `ALL`): the reference against the exported model.

    Attributes:
        texts, labelled: texts compared, and those with a known right label.
        largest, mean: absolute difference of the logits.
        flips: texts whose answer changed.
        f1_before, f1_after: macro-F1; None where nothing is labelled.
        drop_low: lower 99 % bound of the macro-F1 drop (paired bootstrap); None where nothing is labelled.
    """

    lang: str
    head: str
    texts: int
    labelled: int
    largest: float
    mean: float
    flips: int
    f1_before: float | None
    f1_after: float | None
    drop_low: float | None

    @property
    def agreement(self) -> float:
        """Share of texts with the same answer."""
        return 1 - self.flips / self.texts

    @property
    def drop(self) -> float | None:
        """How much macro-F1 fell; negative where it rose."""
        return None if self.f1_before is None or self.f1_after is None else self.f1_before - self.f1_after

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "agreement": self.agreement, "drop": self.drop}


class State(StrEnum):
    """What a gate says. `UNDECIDED`: beyond the limit, but by no more than chance does with so few texts."""

    HELD = "held"
    UNDECIDED = "undecided"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate in one language."""

    lang: str
    head: str
    measure: str
    value: float
    limit: float
    state: State
    texts: int

    def __str__(self) -> str:
        where = "all languages" if self.lang == ALL else self.lang
        found = f"{self.value:.2%}" if self.measure == "agreement" else f"{self.value:.2g}"
        if self.measure == "macro-F1 drop":
            found, limit = f"{100 * self.value:.2f} points", f"{100 * self.limit:.2f} points"
        else:
            limit = f"{self.limit:.0%}" if self.measure == "agreement" else f"{self.limit:g}"
        return f"{where}, {self.head}: {self.measure} {found}, limit {limit} ({self.texts} texts)"


def answers(logits: NDArray[np.float32], head: Head, unsure_below: float) -> Ints:
    """What serving answers, [n]: the likeliest label; an unsure sentiment counts as neutral, as in `OnnxScorer`."""
    probabilities = softmax(logits, head.temperature)
    chosen: Ints = probabilities.argmax(1).astype(np.int64)
    if head.name == "sentiment" and "neutral" in head.labels:
        chosen[probabilities.max(1) < unsure_below] = head.labels.index("neutral")
    return chosen


def compare(
    rows: Sequence[Row], head: Head, before: NDArray[np.float32], after: NDArray[np.float32], unsure_below: float,
    other: tuple[Head, float] | None = None,
) -> list[Comparison]:  # fmt: skip
    """One comparison per language and one over `ALL`, which comes first.

    Args:
        before, after: logits [n, labels] of the reference and of the exported model, for the n rows.
        other: head and threshold that `after` is answered by, its labels in the order of `head`'s; None: by the same.
    """
    with np.errstate(invalid="ignore"):  # what is no number is for `judge` to refuse
        old, new = answers(before, head, unsure_below), answers(after, *(other or (head, unsure_below)))
        difference = np.abs(before.astype(np.float64) - after)
    places = {label: index for index, label in enumerate(head.labels)}
    truth = np.asarray([places.get(row.label(head.name) or "", -1) for row in rows], np.int64)
    langs = np.asarray([row.lang for row in rows])
    found = []
    for lang in [ALL, *sorted(set(langs.tolist()))]:
        mask = np.full(len(rows), True) if lang == ALL else langs == lang
        known = mask & (truth >= 0)
        f1 = _f1(truth[known], old[known], new[known], len(head.labels))
        changed, logits = int((old[mask] != new[mask]).sum()), difference[mask]
        sizes = (int(mask.sum()), int(known.sum()))
        found.append(Comparison(lang, head.name, *sizes, float(logits.max()), float(logits.mean()), changed, *f1))
    return found


def judge(precision: str, comparisons: Sequence[Comparison], strict: bool = False) -> list[Verdict]:
    """The gates of a precision.

    fp32: no logit differs by more than 1e-4, in any language. int8: agreement of at least 99 % and a macro-F1 drop
    of at most half a point, as measured over all languages; and in each language, where a set of 50 texts cannot tell
    98 % from 99 %, unless chance alone explains the excess in more than 1 of 100 exports (exact binomial test for
    agreement, paired bootstrap for macro-F1). Such a language is `UNDECIDED`, and is named in the report.

    Logits that are no finite numbers fail at every precision: a NaN is beyond no limit, and answers the same label.

    Args:
        strict: the measured figure decides in each language too.
    """
    if precision == "fp32":
        return [_verdict(c, "logit difference", c.largest, FP32_LIMIT, not c.largest <= FP32_LIMIT, True)
                for c in comparisons]  # fmt: skip
    verdicts = []
    for c in comparisons:
        if not isfinite(c.largest):
            verdicts.append(_verdict(c, "logit difference", c.largest, inf, True, True))
        sure = strict or c.lang == ALL
        certain = sure or binomial_tail(c.texts, c.flips, 1 - AGREEMENT) < LEVEL
        verdicts.append(_verdict(c, "agreement", c.agreement, AGREEMENT, c.agreement < AGREEMENT, certain))
        if c.drop is not None and c.drop_low is not None:
            certain = sure or c.drop_low > F1_DROP
            verdicts.append(_verdict(c, "macro-F1 drop", c.drop, F1_DROP, c.drop > F1_DROP, certain))
    return verdicts


def binomial_tail(n: int, k: int, p: float) -> float:
    """Probability of k or more events in n trials of probability p.

    >>> round(binomial_tail(50, 2, 0.01), 4)
    0.0894
    """
    return float(bdtrc(k - 1, n, p))


def _verdict(c: Comparison, measure: str, value: float, limit: float, beyond: bool, certain: bool) -> Verdict:
    state = State.HELD if not beyond else State.FAILED if certain else State.UNDECIDED
    return Verdict(c.lang, c.head, measure, value, limit, state, c.texts)


def _f1(truth: Ints, old: Ints, new: Ints, labels: int) -> tuple[float | None, float | None, float | None]:
    """Macro-F1 before and after, and the drop's lower bound over texts drawn with replacement (seed fixed)."""
    if not len(truth):
        return None, None, None
    size = labels**3
    joint = np.bincount((truth * labels + old) * labels + new, minlength=size)
    before, after = _f1_pair(joint, labels)
    draws = np.random.default_rng(0).multinomial(len(truth), joint / len(truth), ROUNDS)
    drops = [a - b for a, b in (_f1_pair(draw, labels) for draw in draws)]
    return before, after, float(np.quantile(drops, LEVEL))


def _f1_pair(joint: Ints, labels: int) -> tuple[float, float]:
    cube = joint.reshape(labels, labels, labels)
    return f1_from(cube.sum(2)), f1_from(cube.sum(1))
