"""Whether an article tells a story that is already there: evidence against each of its tellings, and their mean."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crosswind.stream.domain.stories.evidence import Told, Weigher, within
from crosswind.stream.domain.stories.facts import agreement, overlap


class Reason(StrEnum):
    """Why an article is in its story."""

    NEW = "new"
    SAME_TEXT = "same-text"
    SAME_MEANING = "same-meaning"
    FACTS_AGREE = "facts-agree"


@dataclass(frozen=True, slots=True)
class Criteria:
    """Where the lines are drawn; chosen on the tuning part of `bench/stories.py`.

    Attributes:
        text: share of common letter runs from which two headlines are one text.
        join: mean log-odds with the tellings of a story from which an article joins it.
        merge: mean log-odds between the tellings of two stories from which an article that fits both makes them one.
        tags: log-odds that a shared entity of the feed adds; and that two of one language which share none lose.
        near: cosine with a story's centre below which it is not looked at.
        sure: cosine from which an article that joins is said to do so by its meaning, not by facts.
    """

    text: float = 0.6
    join: float = 0.5
    merge: float = -0.25
    tags: float = 0.5
    near: float = 0.3
    sure: float = 0.8


@dataclass(frozen=True, slots=True)
class Match:
    """How well an article fits a story.

    Attributes:
        cosine: with the story's centre.
        weight: mean log-odds with its tellings; None where there are no meanings to compare.
        text: the largest share of common letter runs with one of its headlines; 0 where figures or entities contradict.
    """

    story_id: str
    cosine: float
    weight: float | None
    text: float


def compare(
    story_id: str, cosine: float, article: Told, tellings: Sequence[Told], weigher: Weigher, criteria: Criteria
) -> Match:
    """Weighs an article against the tellings of a story."""
    text = max((_text(article, told) for told in tellings), default=0.0)
    return Match(story_id, cosine, together([article], tellings, weigher, criteria), text)


def together(some: Sequence[Told], others: Sequence[Told], weigher: Weigher, criteria: Criteria) -> float | None:
    """Mean log-odds over all pairs that have meanings, one of each side: average linkage. None where no pair has.

    Where the best of names could not lift it to a line, it is that bound: names are costly, and most stories are far.
    """
    pairs = [(one, other) for one in some for other in others if one.meaning and other.meaning]
    if not pairs:
        return None
    tagged = sum(criteria.tags * _tagged(one, other) for one, other in pairs)
    plain = [weigher.plain(one, other) for one, other in pairs]
    bound = (tagged + sum(within(odds + weigher.most) for odds in plain)) / len(pairs)
    if bound < min(criteria.join, criteria.merge):
        return bound
    found = (within(odds + weigher.names(one, other)) for odds, (one, other) in zip(plain, pairs, strict=True))
    return (tagged + sum(found)) / len(pairs)


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


def _text(one: Told, other: Told) -> float:
    share = overlap(one.facts.shingles, other.facts.shingles)
    contradicted = agreement(one.tags, other.tags) < 0 or agreement(one.facts.figures, other.facts.figures) < 0
    return share if share >= 1.0 or not contradicted else 0.0


def _tagged(one: Told, other: Told) -> float:
    """Entities may be written otherwise in another language: there, only a shared one says something."""
    found = agreement(one.tags, other.tags)
    return found if found > 0 or one.lang == other.lang else 0.0
