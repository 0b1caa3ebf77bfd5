"""Whether an article tells a story that is already there: evidence against each of its tellings, and their mean."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from crosswind.stream.domain.stories.evidence import Told, Weigher, within
from crosswind.stream.domain.stories.facts import agreement, overlaps
from crosswind.stream.domain.stories.meaning import cosines

LOOKED_INTO = 2
"""Stories whose names are compared with an article's: those for which all else speaks most. Names are costly."""


class Reason(StrEnum):
    """Why an article is in its story."""

    NEW = "new"
    SAME_TEXT = "same-text"
    SAME_MEANING = "same-meaning"
    FACTS_AGREE = "facts-agree"


@dataclass(frozen=True, slots=True)
class Criteria:
    """Where the lines are drawn.

    They are near the best both of the tuning part of `bench/stories.py` and of the translations that are learned from,
    told soon and told slowly.

    Attributes:
        text: share of common letter runs from which two headlines are one text.
        join: mean log-odds with the tellings of a story from which an article joins it.
        merge: mean log-odds between the tellings of two stories from which an article that fits both makes them one.
        tags: log-odds that a shared entity of the feed adds; and that two of one language which share none lose.
        near: cosine with a story's centre below which it is not looked at.
        sure: cosine from which an article that joins is said to do so by its meaning, not by facts.
        patience: hours of event time in which a story that nobody tells loses 1 of its log-odds: what is told again is
            told soon. Whole days old, it needs much evidence.
    """

    text: float = 0.6
    join: float = -1.0
    merge: float = -0.5
    tags: float = 0.5
    near: float = 0.3
    sure: float = 0.8
    patience: float = 4.0


class Candidate(NamedTuple):
    """A story that an article is compared with.

    Attributes:
        cosine: of the article's meaning with the story's centre.
        hours: event time between the article and the story's last telling.
        known: whether the story has told this very text.
    """

    story_id: str
    cosine: float
    hours: float
    tellings: Sequence[Told]
    known: bool = False


class Match(NamedTuple):
    """How well an article fits a story.

    Attributes:
        cosine: with the story's centre.
        weight: mean log-odds with its tellings; None where there are no meanings to compare.
        text: the largest share of common letter runs with one of its headlines; from `Criteria.text` on, 0 where
            figures or entities contradict.
    """

    story_id: str
    cosine: float
    weight: float | None
    text: float


def compare(article: Told, candidates: Sequence[Candidate], weigher: Weigher, criteria: Criteria) -> list[Match]:
    """Weighs an article against the tellings of some stories."""
    flat = [told for candidate in candidates for told in candidate.tellings]
    close = cosines(article.meaning, [told.meaning for told in flat])
    letters = overlaps(article.facts.shingles, [told.facts.shingles for told in flat])
    weighed: list[_Weighed] = []
    texts, first = [], 0
    for candidate in candidates:
        part = slice(first, first := first + len(candidate.tellings))
        pairs = [(article, told) for told in candidate.tellings]
        weighed.append(_weighed(pairs, close[part], letters[part], weigher, criteria, candidate.hours))
        # a story remembers the keys of all its headlines, also of those beyond the tellings that are compared
        texts.append(1.0 if candidate.known else _text(pairs, letters[part], criteria.text))
    weights = _weights(weighed, weigher, criteria)
    return [
        Match(candidate.story_id, candidate.cosine, weight, text)
        for candidate, weight, text in zip(candidates, weights, texts, strict=True)
    ]


def _weights(weighed: Sequence["_Weighed"], weigher: Weigher, criteria: Criteria) -> list[float | None]:
    """Names are only asked about where they can change what is done: the likeliest stories come first."""
    found: list[float | None] = [one.plain if one.pairs else None for one in weighed]
    order = sorted((place for place, one in enumerate(weighed) if one.pairs), key=lambda place: -weighed[place].plain)
    best = criteria.join
    for place in order[:LOOKED_INTO]:
        one, least = weighed[place], min(criteria.merge, best)
        weight = one.weight(weigher, least)
        found[place] = weight if weight >= least else min(one.plain, weight)
        best = max(best, weight)
    return found


def together(some: Sequence[Told], others: Sequence[Told], weigher: Weigher, criteria: Criteria) -> float | None:
    """Mean log-odds over all pairs that have meanings, one of each side: average linkage. None where no pair has.

    Below `criteria.merge` it may be more than the mean, never as much as that line.
    """
    pairs = [(one, other) for one in some for other in others]
    close = [value for one in some for value in cosines(one.meaning, [other.meaning for other in others])]
    shingles = [other.facts.shingles for other in others]
    letters = [share for one in some for share in overlaps(one.facts.shingles, shingles)]
    one = _weighed(pairs, close, letters, weigher, criteria, 0.0)
    return one.weight(weigher, criteria.merge) if one.pairs else None


class _Weighed(NamedTuple):
    """Pairs as far as they are weighed without their names.

    Attributes:
        odds: log-odds of each pair.
        extra: what entities and time add to the mean.
        plain: the mean.
    """

    pairs: Sequence[tuple[Told, Told]]
    odds: Sequence[float]
    extra: float
    plain: float

    def weight(self, weigher: Weigher, least: float) -> float:
        """The mean log-odds with names; as soon as that cannot come to `least`, what it cannot exceed."""
        named = [within(odds + weigher.most) for odds in self.odds]
        count = len(named)
        for place, (odds, pair) in enumerate(zip(self.odds, self.pairs, strict=True)):
            if (bound := sum(named) / count + self.extra) < least:
                return bound
            named[place] = within(odds + weigher.names(*pair))
        return sum(named) / count + self.extra


def _weighed(
    pairs: Sequence[tuple[Told, Told]], close: Sequence[float], letters: Sequence[float], weigher: Weigher,
    criteria: Criteria, hours: float,
) -> _Weighed:  # fmt: skip
    kept: list[tuple[Told, Told]] = []
    odds: list[float] = []
    total = tags = 0.0
    for pair, near, share in zip(pairs, close, letters, strict=True):
        one, other = pair
        if one.meaning and other.meaning:
            kept.append(pair)
            odds.append(found := weigher.plain(one, other, near, share))
            total += within(found)
            if one.tags and other.tags:
                tags += _tagged(one, other)
    if not kept:
        return _Weighed((), (), 0.0, 0.0)
    extra = criteria.tags * tags / len(kept) - hours / criteria.patience
    return _Weighed(kept, odds, extra, total / len(kept) + extra)


def choose(matches: Collection[Match], criteria: Criteria) -> tuple[Match | None, Reason]:
    """The story an article belongs to, and why; none: it begins one. Ties go to the smaller id."""
    ranked = sorted(matches, key=lambda match: (-match.text, -(match.weight or 0.0), match.story_id))
    if ranked and ranked[0].text >= criteria.text and _likely(ranked[0], criteria):
        return ranked[0], Reason.SAME_TEXT
    weighed = [(match.weight, match) for match in matches if match.weight is not None]
    if not weighed:
        return None, Reason.NEW
    weight, best = min(weighed, key=lambda pair: (-pair[0], pair[1].story_id))
    if weight < criteria.join:
        return None, Reason.NEW
    return best, Reason.SAME_MEANING if best.cosine >= criteria.sure else Reason.FACTS_AGREE


def _likely(match: Match, criteria: Criteria) -> bool:
    """One text word for word, or nearly, and nothing that speaks against it: in a template only the name may differ."""
    return match.text >= 1.0 or match.weight is None or match.weight >= criteria.join


def _text(pairs: Sequence[tuple[Told, Told]], letters: Sequence[float], least: float) -> float:
    """The largest share of common letter runs; from `least` on it is asked whether figures or entities contradict."""
    most = max(letters, default=0.0)
    if most < least:
        return most
    return max(0.0 if least <= share < 1.0 and _contradict(*pair) else share
               for pair, share in zip(pairs, letters, strict=True))  # fmt: skip


def _contradict(one: Told, other: Told) -> bool:
    return agreement(one.tags, other.tags) < 0 or agreement(one.facts.figures, other.facts.figures) < 0


def _tagged(one: Told, other: Told) -> float:
    """Entities may be written otherwise in another language: there, only a shared one says something."""
    found = agreement(one.tags, other.tags)
    return found if found > 0 or one.lang == other.lang else 0.0
