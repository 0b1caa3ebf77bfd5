"""Whether an article tells a story that is already there: meaning first, facts where it leaves a doubt."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crosswind.stream.domain.stories.facts import Facts, agreement, named, overlap


class Reason(StrEnum):
    """Why an article is in its story."""

    NEW = "new"
    SAME_TEXT = "same-text"
    SAME_MEANING = "same-meaning"
    FACTS_AGREE = "facts-agree"


@dataclass(frozen=True, slots=True)
class Criteria:
    """Where the lines are drawn; chosen on the tuning part of `bench/stories.py`.

    A weight is a cosine plus what the facts add or take, so it may be larger than 1.

    Attributes:
        text: share of common letter runs from which two headlines are one text.
        sure: weight of evidence from which the meaning decides alone.
        doubtful: weight from which an article joins only if the next best story is `margin` behind.
        figures, names, tags: how much agreement (or its opposite) of figures, of names and of given entities weighs,
            in units of cosine.
        merge: cosine of two stories from which an article that fits both makes them one.
    """

    text: float = 0.6
    sure: float = 1.131
    doubtful: float = 0.996
    margin: float = 0.018
    figures: float = 0.08
    names: float = 0.271
    tags: float = 0.1
    merge: float = 0.92


@dataclass(frozen=True, slots=True)
class Told:
    """One telling of a story, as far as it is compared: its facts and the entities that its feed gave."""

    facts: Facts
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Match:
    """How well an article fits a story.

    Attributes:
        weight: cosine, moved by what the facts say.
        text: the largest share of common letter runs with one of its headlines.
    """

    story_id: str
    cosine: float
    weight: float
    text: float


def compare(story_id: str, cosine: float, article: Told, tellings: Sequence[Told], criteria: Criteria) -> Match:
    """Weighs an article against the tellings of a story; of several, the best agreement counts.

    Names are compared by sound, so that they meet across scripts.
    """
    figures = _best([agreement(article.facts.figures, t.facts.figures) for t in tellings])
    tags = _best([agreement(article.tags, t.tags) for t in tellings])
    names = _best([named(article.facts, t.facts) for t in tellings])
    weight = cosine + criteria.figures * figures + criteria.names * names + criteria.tags * tags
    text = max((overlap(article.facts.shingles, t.facts.shingles) for t in tellings), default=0.0)
    # A template with another company or figure is almost the same text and not the same news.
    if tags < 0 or figures < 0:
        text = 0.0 if text < 1.0 else text
    return Match(story_id, cosine, weight, text)


def choose(matches: Collection[Match], criteria: Criteria) -> tuple[Match | None, Reason]:
    """The story an article belongs to, and why; none: it begins one. Ties go to the smaller id."""
    ranked = sorted(matches, key=lambda match: (-max(match.weight, match.text), match.story_id))
    copies = [match for match in ranked if match.text >= criteria.text]
    if copies:
        return max(copies, key=lambda match: (match.text, match.weight)), Reason.SAME_TEXT
    by_weight = sorted(matches, key=lambda match: (-match.weight, match.story_id))
    if not by_weight or by_weight[0].weight < criteria.doubtful:
        return None, Reason.NEW
    best = by_weight[0]
    if best.weight >= criteria.sure:
        return best, Reason.SAME_MEANING if best.cosine >= criteria.sure else Reason.FACTS_AGREE
    second = by_weight[1].weight if len(by_weight) > 1 else 0.0
    if best.weight - second >= criteria.margin:
        return best, Reason.FACTS_AGREE if best.weight > best.cosine else Reason.SAME_MEANING
    return None, Reason.NEW


def _best(values: Sequence[float]) -> float:
    """The strongest agreement; where nothing agrees, the mildest silence or contradiction."""
    spoken = [value for value in values if value]
    return max(spoken, default=0.0)
