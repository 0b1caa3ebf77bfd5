"""The evidence that two headlines tell one event, weighed by a logistic model.

Features and their order are `FEATURES`; the weights, and how common each sound is, are in `learned.json`, written by
`bench/learn_stories.py` from texts that judge nothing. A weight is a log-odds: 0 is even, 2 about seven to one.
"""

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from operator import mul
from typing import NamedTuple

import msgspec
from rapidfuzz import fuzz

from crosswind.stream.domain.stories.facts import Facts, Name, agreement, overlap
from crosswind.stream.domain.stories.meaning import cosine

PLAIN = (
    "meaning",  # cosine of the two meanings
    "meaning_across",  # the same where scripts differ, else 0
    "figures_differ",  # 1 where both have figures and share none
    "figures_missing",  # 1 where only one has figures
    "letters",  # share of common letter runs
    "same_script",  # 1 for two languages of one script
    "other_script",  # 1 for two scripts
)
NAMES = (
    "named",  # 1 where one names anything
    "heard",  # how much of the names of one is heard in the other, rare ones more; 0.5 where nothing is named
    "rare_heard",  # the rarest name that is heard
    "rare_missed",  # the rarest name that is not
)
FEATURES = (*PLAIN, *NAMES)
LIMIT = 6.0
"""Evidence is cut here, both ways: one odd pair must not outweigh the rest of a story."""
_LONG = 4
"""A name of fewer consonants is heard by chance, and counts less."""


class Told(NamedTuple):
    """One telling of an event, as far as it is compared; `meaning` is empty where there is none to compare."""

    facts: Facts
    lang: str
    tags: frozenset[str]
    meaning: bytes


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was learned; see `bench/learn_stories.py`.

    Attributes:
        version: counts up when features or their meaning change.
        source: what it was learned from.
        intercept, weights: of the logistic model; weights by the names of `FEATURES`.
        common: how common a sound is: a digit from 0 (in every text) to 9 -> the sounds, by spaces. A sound that is not
            there is rare.
    """

    version: int
    source: str
    intercept: float
    weights: dict[str, float]
    common: dict[str, str]


class Weigher:
    """Weighs two tellings by what was learned.

    Raises:
        ValueError: the weights are not those of `FEATURES`.
    """

    def __init__(self, learned: Learned) -> None:
        if set(learned.weights) != set(FEATURES):
            raise ValueError("learned weights and FEATURES differ; run bench/learn_stories.py again")
        self._intercept = learned.intercept
        self._plain = tuple(learned.weights[name] for name in PLAIN)
        self._named = tuple(learned.weights[name] for name in NAMES)
        named, *others = self._named
        self.most = max(0.5 * others[0], named + sum(max(0.0, weight) for weight in others))
        """Log-odds that names add at most."""
        self._rarity: Mapping[str, float] = {
            sound: int(digit) / 10 * _length(sound) for digit, sounds in learned.common.items()
            for sound in sounds.split()
        }  # fmt: skip

    def rarity(self, name: Name) -> float:
        """From 0 (any text has it) to 1 (a name and nothing else)."""
        return self._rarity.get(name.sound, _length(name.sound))

    def evidence(self, one: Told, other: Told) -> tuple[float, ...]:
        """The values of `FEATURES`, to learn from; the same whichever comes first."""
        close, letters = cosine(one.meaning, other.meaning), overlap(one.facts.shingles, other.facts.shingles)
        return *_plain(one, other, close, letters), *self._names(one.facts, other.facts)

    def plain(self, one: Told, other: Told, close: float, letters: float) -> float:
        """Log-odds without what names say, which costs the most to find out; see `most`. Some twenty for an article.

        Args:
            close: cosine of the two meanings.
            letters: share of common letter runs.
        """
        a, b = one.facts, other.facts
        meaning, meaning_across, differ, missing, letter, same_script, other_script = self._plain
        odds = self._intercept + meaning * close + letter * letters
        if a.script != b.script:
            odds += other_script + meaning_across * close
        elif one.lang != other.lang:
            odds += same_script
        if a.figures and b.figures:
            odds += differ * max(-agreement(a.figures, b.figures), 0.0)
        elif a.figures or b.figures:
            odds += missing
        return odds

    def names(self, one: Told, other: Told) -> float:
        """Log-odds that names add."""
        return _dot(self._named, self._names(one.facts, other.facts))

    def weigh(self, one: Told, other: Told) -> float:
        """Log-odds that both tell one event, within `LIMIT`."""
        close, letters = cosine(one.meaning, other.meaning), overlap(one.facts.shingles, other.facts.shingles)
        return within(self.plain(one, other, close, letters) + self.names(one, other))

    def _names(self, a: Facts, b: Facts) -> tuple[float, float, float, float]:
        """A text whose script has capitals is asked first: only there is it plain which words are names."""
        pairs = [(a, b), (b, a)]
        asked = [pair for pair in pairs if pair[0].cased] or pairs
        found = [self._heard(one, other) for one, other in asked if one.names]
        if not found:
            return 0.0, 0.5, 0.0, 0.0
        heard, best, missed = zip(*found, strict=True)
        return 1.0, sum(heard) / len(heard), max(best), max(missed)

    def _heard(self, one: Facts, other: Facts) -> tuple[float, float, float]:
        """The innermost loop of all: some hundred names for an article, so nothing in it is called twice."""
        total = heard = best = missed = 0.0
        sounds, letters, rarity = other.sounds, other.letters, self._rarity
        for said, spelt in one.names:
            rare = rarity[said] if said in rarity else _length(said)
            sound = 1.0 if said in sounds else _alike(said, sounds)
            total += rare
            heard += rare * (sound + (1.0 if spelt in letters else _alike(spelt, letters))) / 2
            found = rare * (2 * sound - 1)
            if found > best:
                best = found
            lacking = rare * (1 - sound)
            if lacking > missed:
                missed = lacking
        return (heard / total if total else 0.5), best, missed


def within(odds: float) -> float:
    """Log-odds cut at `LIMIT`."""
    if odds > LIMIT:
        return LIMIT
    return odds if odds > -LIMIT else -LIMIT


def _dot(weights: tuple[float, ...], values: tuple[float, ...]) -> float:
    return math.fsum(map(mul, weights, values))


def _plain(one: Told, other: Told, close: float, letters: float) -> tuple[float, ...]:
    a, b = one.facts, other.facts
    figures = agreement(a.figures, b.figures)
    across = float(a.script != b.script)
    return (
        close,
        close * across,
        max(-figures, 0.0),
        float(bool(a.figures) != bool(b.figures)),
        letters,
        float(not across and one.lang != other.lang),
        across,
    )


def _length(sound: str) -> float:
    return min(1.0, len(sound) / _LONG)


def _alike(part: str, whole: str) -> float:
    """How well a part that is not in a whole is found in it, 0 to 1; one that is longer than it says nothing."""
    return fuzz.partial_ratio(part, whole) / 100 if len(part) <= len(whole) else 0.5


@cache
def shipped() -> Weigher:
    """What Crosswind ships."""
    raw = files(__package__ or "").joinpath("learned.json").read_bytes()
    return Weigher(msgspec.json.decode(raw, type=Learned))
