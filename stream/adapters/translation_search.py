"""Greedy and beam search in numpy, over any model that gives the next piece's logits.

Scores and the order of ties are those of transformers' `generate`: the sum of the log-probabilities, the end included,
over the number of pieces to the power of the length penalty (Wu et al. 2016 use another form; Marian's models are
tuned with this one).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Step = Callable[[NDArray[np.int64], NDArray[np.int64] | None], NDArray[np.float32]]
"""(last pieces [n], which former row each row goes on from [n], None at first) -> logits of the next [n, pieces]."""
_NEVER: Final = -1e9


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        beams: 1: greedy.
        banned: pieces that are never chosen, as the padding.
    """

    start: int
    end: int
    beams: int
    length_penalty: float = 1.0
    banned: tuple[int, ...] = ()


@dataclass
class _Found:
    """The finished translations of one text, best first, at most `beams` of them."""

    beams: int
    kept: list[tuple[float, list[int]]] = field(default_factory=list)

    def add(self, score: float, pieces: list[int]) -> None:
        self.kept = sorted([*self.kept, (score, pieces)], key=lambda one: -one[0])[: self.beams]

    def done(self, best: float) -> bool:
        """Whether nothing that still grows can displace what is kept, at the score it would have by ending now."""
        return len(self.kept) == self.beams and (self.beams == 1 or best <= self.kept[-1][0])


def search(step: Step, limits: Sequence[int], plan: Search) -> list[list[int]]:
    """The best translation of each text, as ids without start and end.

    Args:
        step: asked with `len(limits) * plan.beams` rows, the beams of a text beside each other.
        limits: pieces of each text's translation at most, the end included.
    """
    texts, beams, most = len(limits), plan.beams, np.asarray(limits)
    rows = np.arange(texts)[:, None]
    scores = np.full((texts, beams), _NEVER)
    scores[:, 0] = 0.0  # the beams are alike at first: only one of them may branch
    pieces = np.full((texts, beams, 1), plan.start, dtype=np.int64)
    found, open_ = [_Found(beams) for _ in range(texts)], np.ones(texts, dtype=bool)
    order: NDArray[np.int64] | None = None
    for length in range(1, max(limits) + 1):
        logits = step(pieces[:, :, -1].reshape(-1), order)
        given = _log_softmax(logits, plan, (most <= length).repeat(beams)).reshape(texts, beams, -1)
        totals = (scores[:, :, None] + given).reshape(texts, -1)
        best = _best(totals, 2 * beams)
        beam, piece = np.divmod(best, given.shape[2])
        values = np.take_along_axis(totals, best, 1)
        ended = piece == plan.end
        for text in np.flatnonzero(open_):
            for rank in np.flatnonzero(ended[text, :beams]):
                if values[text, rank] > _NEVER / 2:
                    ids = pieces[text, beam[text, rank], 1:].tolist()
                    found[text].add(float(values[text, rank]) / length**plan.length_penalty, ids)
        going = np.argsort(ended, axis=1, kind="stable")[:, :beams]
        scores = np.take_along_axis(np.where(ended, _NEVER, values), going, 1)
        beam, piece = np.take_along_axis(beam, going, 1), np.take_along_axis(piece, going, 1)
        pieces = np.concatenate([pieces[rows, beam], piece[:, :, None]], axis=2)
        order = (rows * beams + beam).reshape(-1)
        for text in np.flatnonzero(open_):
            best_open = float(scores[text, 0]) / length**plan.length_penalty
            open_[text] = length < most[text] and not found[text].done(best_open)
        if not open_.any():
            break
    return [one.kept[0][1] if one.kept else [] for one in found]


def _best(totals: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Places of the `count` largest of each row, the largest first."""
    places = np.argpartition(-totals, min(count, totals.shape[1] - 1), axis=1)[:, :count]
    places = np.sort(places, axis=1)
    order = np.argsort(-np.take_along_axis(totals, places, 1), axis=1, kind="stable")
    chosen: NDArray[np.int64] = np.take_along_axis(places, order, 1)
    return chosen


def _log_softmax(logits: NDArray[np.float32], plan: Search, last: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log-probabilities; in rows that are at their last place only the end is left."""
    raised = logits.astype(np.float64)
    raised[:, list(plan.banned)] = _NEVER
    shifted = raised - raised.max(axis=1, keepdims=True)
    given: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    ending = given[last, plan.end]
    given[last] = 2 * _NEVER
    given[last, plan.end] = ending
    return given
